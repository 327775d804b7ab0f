"""The service as systemd runs it: what it tells, and the unit file of the docs."""

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.errors import SettingsError
from tests.acceptance.commands import PROGRAM, Service, command, put
from tests.forked import CHECKOUT
from tests.manager import Manager, managed
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

WATCHDOG_S = 1.0


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    async with staged(library_url, version=immich_version) as stage:
        yield stage


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with managed(tmp_path / "notify") as manager:
        yield manager


def started_by(manager: Manager, stage: Stage) -> dict[str, str]:
    watchdog = str(int(WATCHDOG_S * 1_000_000))
    return stage.environment() | {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": watchdog}


async def test_ready_once_it_syncs_alive_while_it_runs_and_stopping(manager: Manager, stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    with Service(started_by(manager, stage), stage.log) as service:
        await manager.until_told("READY=1")
        assert "database.connected" in service.text()
        await manager.until_told("STATUS=syncing 1 of 1 user")
        await service.until_synced(stage, 1)
        await manager.until_told("WATCHDOG=1", times=3)

        # A process that does not run does not say that it is alive, and systemd would start it anew.
        service.process.send_signal(signal.SIGSTOP)
        assert manager.silent_for(1.5 * WATCHDOG_S)
        service.process.send_signal(signal.SIGCONT)
        before = manager.hear().count("WATCHDOG=1")
        await manager.until_told("WATCHDOG=1", times=before + 2)

        code, _ = await service.stop()
        assert code == 0
        assert "STOPPING=1" in manager.hear()
        assert manager.heard.count("READY=1") == 1


async def test_a_service_that_the_watchdog_ends_says_where_it_stood(manager: Manager, stage: Stage) -> None:
    with Service(started_by(manager, stage), stage.log) as service:
        await manager.until_told("READY=1")
        assert (await service.stop(signal.SIGABRT))[0] == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in service.text()
        assert "most recent call first" in service.text()


async def test_a_database_that_is_down_does_not_hold_up_the_boot(manager: Manager, stage: Stage) -> None:
    stage.database_url = "postgresql://postgres@127.0.0.1:1/immich"
    with Service(started_by(manager, stage), stage.log) as service:
        await manager.until_told("READY=1")
        await manager.until_told("WATCHDOG=1", times=2)
        assert any(status.startswith("waiting for the database: ") for status in manager.statuses())
        assert (await service.stop())[0] == 0


async def test_a_mistake_in_the_settings_makes_the_start_fail(manager: Manager, stage: Stage) -> None:
    stage.key = "nobody's"
    ended = await command("run", env=started_by(manager, stage))
    assert ended.code == 9
    assert "READY=1" not in manager.hear()


async def test_the_status_tells_of_an_immich_that_is_down(manager: Manager, stage: Stage) -> None:
    environment = started_by(manager, stage) | {"IMMICH_DBSYNC_SERVER_URL": "http://127.0.0.1:1"}
    with Service(environment, stage.log):
        await manager.until_told("READY=1")

        async def told() -> bool:
            return any("waiting for Immich: " in status for status in manager.statuses())

        await until(told, seconds=15)


# --- the unit file of docs/systemd.md ---


def unit() -> str:
    """The unit file, with the command as it is installed here and a sync root that is there."""
    page = (CHECKOUT / "docs" / "systemd.md").read_text()
    [text] = re.findall(r"^```ini\n(\[Unit\]\n.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return str(text).replace("/opt/immich-dbsync/bin/immich-dbsync", PROGRAM[0])


def settings() -> ConfigParser:
    parser = ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read_string(unit())
    return parser


def test_the_unit_file_is_what_the_service_needs() -> None:
    service = settings()["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].split() == [PROGRAM[0], "run"]
    assert SettingsError.exit_code in map(int, service["RestartPreventExitStatus"].split())
    assert int(service["TimeoutStopSec"]) > 10  # the service promises to end within ten seconds
    assert settings()["Unit"]["RequiresMountsFor"] == service["ReadWritePaths"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_file(tmp_path: Path) -> None:
    file = tmp_path / "immich-dbsync.service"
    file.write_text(unit())
    for check in (["verify", "--man=no"], ["security", "--offline=true", "--no-pager", "--threshold=30"]):
        done = subprocess.run(["systemd-analyze", *check, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="has to be root, to give up powers and make mounts")
async def test_the_rights_that_the_unit_file_leaves_are_enough(stage: Stage) -> None:
    powers = [power.removeprefix("CAP_").lower() for power in settings()["Service"]["CapabilityBoundingSet"].split()]
    # As ProtectSystem=strict and ReadWritePaths: everything is read-only but the sync root.
    alone = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
    before = [
        *("unshare", "--mount", "--propagation=private", "sh", "-c", alone, str(stage.home / "sync")),
        *("setpriv", "--no-new-privs", f"--bounding-set=-all,{','.join(f'+{power}' for power in powers)}"),
    ]
    nobody = pwd.getpwnam("nobody")
    picture = put(stage.folder, "Camera/Trip/a.jpg", b"a")
    for path, mode in ((stage.folder, 0o700), (picture.parents[1], 0o2750), (picture.parent, 0o2750), (picture, 0o600)):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
        path.chmod(mode)
    with Service(stage.environment(), stage.log, before=before) as service:
        await service.until_synced(stage, 1)
        await stage.connection.execute("""update asset set status = 'trashed', "deletedAt" = now()""")

        async def gone() -> bool:
            return not picture.exists()

        await until(gone)
        picture.parent.rmdir()
        await stage.connection.execute("""update asset set status = 'active', "deletedAt" = null""")

        async def back() -> bool:
            return picture.exists()

        await until(back)
        for path, mode in ((picture.parent, 0o2750), (picture, 0o600)):
            status = path.stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (nobody.pw_uid, nobody.pw_gid, mode)
