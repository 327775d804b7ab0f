"""``immich-dbsync demo``, ended before it has shown anything. tests/docs has it shown to its end."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.commands import PROGRAM, environment
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables


def _data_of(pid: int) -> Path | None:
    """Where the demo with this process id has a PostgreSQL make its data now; None while it does not."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError, ValueError):
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            return Path(words[words.index("--pgdata") + 1])
    return None


async def test_ctrl_c_at_once_leaves_nothing_behind() -> None:
    process = subprocess.Popen(  # noqa: ASYNC220  # it is started, and goes on
        [*PROGRAM, "demo"], env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
    )

    async def data() -> Path | None:
        return _data_of(process.pid)

    try:
        made = await until(data, seconds=30)
        assert made is not None
        folder = made.parent
        assert folder.exists()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, b"failed" in out) == (130, False), out
    assert not folder.exists()
