"""What systemd is told, read from real sockets."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from immich_dbsync.service.notify import Notifier
from tests.manager import Manager, managed

PID = 4711
QUICK_S = 0.1
QUICK = str(int(QUICK_S * 1_000_000))


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = tmp_path / "notify" if request.param == "path" else f"@immich-dbsync-test-{os.getpid()}"
    with managed(address) as manager:
        yield manager


@contextmanager
def reporting(notifier: Notifier, lines: list[str]) -> Iterator["asyncio.Task[None]"]:
    """Report the last of these lines until the block ends."""
    task = asyncio.ensure_future(notifier.report_forever(lambda: lines[-1]))
    try:
        yield task
    finally:
        task.cancel()


def test_ready_is_said_once(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address}, PID)
    notifier.ready()
    notifier.ready()
    notifier.stopping()
    assert manager.hear() == ["READY=1", "STOPPING=1", "STATUS=stopping"]


async def test_the_watchdog_is_fed_and_the_status_told_when_it_changes(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": QUICK, "WATCHDOG_PID": str(PID)}
    lines = ["first\nline"]
    with reporting(Notifier(environment, PID), lines):
        await manager.until_told("WATCHDOG=1", times=3)
        lines.append("second")
        await manager.until_told("STATUS=second")
        await manager.until_told("WATCHDOG=1", times=6)
    assert manager.statuses() == ["first line", "second"]


async def test_the_watchdog_starves_when_the_event_loop_stands_still(manager: Manager) -> None:
    with reporting(Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": QUICK}, PID), ["well"]):
        await manager.until_told("WATCHDOG=1", times=2)
        assert manager.silent_for(3 * QUICK_S)
        await manager.until_told("WATCHDOG=1", times=4)


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": QUICK, "WATCHDOG_PID": "1"}]
)
async def test_no_watchdog_where_none_is_wanted_from_us(manager: Manager, watchdog: dict[str, str]) -> None:
    with reporting(Notifier({"NOTIFY_SOCKET": manager.address} | watchdog, PID), ["well"]):
        await manager.until_told("STATUS=well")
        assert manager.hear() == ["STATUS=well"]


async def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({"WATCHDOG_USEC": QUICK}, PID)
    notifier.ready()
    notifier.stopping()

    def line() -> str:
        raise AssertionError("nobody wants to know")

    await asyncio.wait_for(notifier.report_forever(line), 5)


async def test_a_systemd_that_is_gone_is_told_of_once_and_does_no_harm(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": QUICK}, PID)
    with capture_logs() as logs:
        notifier.ready()
        notifier.stopping()
        with reporting(notifier, ["well"]) as task:
            with managed(tmp_path / "nobody") as manager:
                await manager.until_told("WATCHDOG=1")  # it is back
            assert not task.done()
    assert [line["event"] for line in logs] == ["systemd.unreachable"]
