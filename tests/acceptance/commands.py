"""Our commands as processes of their own, as an administrator runs them."""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from typer.testing import CliRunner

from immich_dbsync.cli.main import app
from immich_dbsync.demo.stage import Stage
from tests.forked import Forked
from tests.waiting import until

PROGRAM = (str(Path(sys.executable).with_name("immich-dbsync")),)
_END_S = 120.0
_TOLD = 60  # last lines of a service's log that are shown when its test fails
_OLD = 1_700_000_000


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def complaint(self, code: int, *secrets: str) -> str:
        """The one line that an error leaves on stderr, log lines of the service aside."""
        assert self.code == code, self
        assert "Traceback" not in self.err
        for secret in secrets:
            assert secret not in self.out + self.err
        [line] = [line for line in self.err.splitlines() if not line.startswith('{"')]
        assert line.startswith("immich-dbsync: ")
        assert line.isprintable()
        return line.removeprefix("immich-dbsync: ")


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with no settings of ours but these."""
    ours = ("IMMICH_", "DB_", "SNAP", "PG")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | dict(settings)


def without_override() -> list[str]:
    """What to put before a command so that it may read only what its user may, even when that is root."""
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def installed(*arguments: str, env: Mapping[str, str], before: Sequence[str] = (), given: str = "") -> Ended:
    """Run the installed command to its end; ``given`` is what it reads from a pipe."""
    done = subprocess.run(
        [*before, *PROGRAM, *arguments],
        env=dict(env),
        input=given.encode(),
        capture_output=True,
        timeout=_END_S,
        check=False,
        cwd="/",
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def on_terminal(
    *arguments: str, env: Mapping[str, str], dialogue: Sequence[tuple[str, str]] = (), columns: int = 200
) -> Ended:
    """Run a command on a terminal of its own, so many columns wide; what it showed there is ``out``.

    ``dialogue`` is what to wait for, in turn, and what to type then; Ctrl-C is ``"\x03"``.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    here = {**env, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = Forked("immich_dbsync", *arguments, env=here, terminal=theirs)
    os.close(theirs)
    watchdog = threading.Timer(_END_S, process.kill)
    watchdog.start()
    shown, said, left = "", 0, [*dialogue]
    try:
        with suppress(OSError):  # EIO once nobody has the terminal open any more
            while data := os.read(ours, 1 << 16):
                shown += data.decode(errors="replace")
                while left and (at := shown.find(left[0][0], said)) >= 0:
                    said = at + len(left[0][0])
                    os.write(ours, left.pop(0)[1].encode())
        return Ended(process.wait(), shown.replace("\r\n", "\n"), "")
    finally:
        watchdog.cancel()
        os.close(ours)


def writing_to(stdout: int, *arguments: str, env: Mapping[str, str]) -> Ended:
    """Run a command whose standard output is this file, a copy of which nobody else has; ``err`` is what it said."""
    with tempfile.TemporaryFile() as err:
        process = Forked("immich_dbsync", *arguments, env=env, stdout=stdout, stderr=err.fileno())
        os.close(stdout)
        try:
            code = process.wait(_END_S)
        finally:
            process.kill()
        err.seek(0)
        return Ended(code, "", err.read().decode())


def to_nobody(*arguments: str, env: Mapping[str, str]) -> Ended:
    """Run a command whose output is a pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    return writing_to(theirs, *arguments, env=env)


def to_a_full_disk(*arguments: str, env: Mapping[str, str]) -> Ended:
    """Run a command whose output goes where nothing fits any more."""
    return writing_to(os.open("/dev/full", os.O_WRONLY), *arguments, env=env)


def execute(
    *arguments: str,
    env: Mapping[str, str],
    before: Sequence[str] = (),
    given: str = "",
    module: str = "immich_dbsync",
) -> Ended:
    """Run a command to its end: the same in a process that starts sooner, but where something comes ``before`` it."""
    if before:
        return installed(*arguments, env=env, before=before, given=given)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ours, theirs = os.pipe()
        os.write(theirs, given.encode())
        os.close(theirs)
        process = Forked(module, *arguments, env=env, stdout=out.fileno(), stderr=err.fileno(), stdin=ours)
        os.close(ours)
        try:
            code = process.wait(_END_S)
        finally:
            process.kill()
        for file in (out, err):
            file.seek(0)
        return Ended(code, out.read().decode(), err.read().decode())


def invoked(*arguments: str, settings: Mapping[str, str]) -> Ended:
    """A command in this process, with no settings but these: the same, sooner, for what ends before anything begins."""
    others: dict[str, str | None] = {name: None for name in os.environ if name not in environment({})}
    done = CliRunner().invoke(app, arguments, env=others | dict(settings))
    return Ended(done.exit_code, done.stdout, done.stderr)


def ended(*arguments: str, settings: Mapping[str, str]) -> Ended:
    """A command that ends by itself: the service as a process, for it takes the process's signals; others sooner."""
    if arguments == ("run",):
        return execute("run", env=environment(settings))
    return invoked(*arguments, settings=settings)


def confined() -> list[str]:
    """What to put before a command so that it has what a strictly confined snap leaves of root: little but its name."""
    lacks = ("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "sys_admin")
    return ["setpriv", "--no-new-privs", f"--bounding-set={','.join(f'-{power}' for power in lacks)}"]


async def command(*arguments: str, env: Mapping[str, str], before: Sequence[str] = (), given: str = "") -> Ended:
    """``execute`` for a test that plays the server meanwhile."""
    return await asyncio.to_thread(execute, *arguments, env=env, before=before, given=given)


def put(folder: Path, name: str, data: bytes) -> Path:
    """A file as a file sync tool leaves it: with an old mtime."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (_OLD, _OLD))
    return path


class Service:
    """``immich-dbsync run`` until the block ends; ``log`` is what it writes."""

    def __init__(self, env: Mapping[str, str], log: Path, *, before: Sequence[str] = ()) -> None:
        self._env = dict(env)
        self._before = before
        self.log = log

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process: Forked | subprocess.Popen[bytes] = (
                subprocess.Popen([*self._before, *PROGRAM, "run"], env=self._env, stdout=log, stderr=log)
                if self._before
                else Forked("immich_dbsync", "run", env=self._env, stdout=log.fileno(), stderr=log.fileno())
            )
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.kill()
        if kind is not None:
            sys.stderr.write("\n".join(self.text().splitlines()[-_TOLD:]))

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Ask it to end: its exit code, and the seconds that it took."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, _END_S), loop.time() - asked

    def text(self) -> str:
        return self.log.read_text()

    def bytes_read(self) -> int:
        """How much it has read since it began."""
        return int(Path(f"/proc/{self.process.pid}/io").read_text().split()[1])

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Every line of the log about one kind of event."""
        lines = [json.loads(line) for line in self.text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["event"] == event]

    async def until_synced(self, stage: Stage, count: int) -> None:
        """Wait for the end of a scan after which so many files are tied to an asset."""

        async def synced() -> bool:
            assert self.process.poll() is None, self.text()
            records = "select count(*) = $1 from immich_dbsync_v1.records where asset_id is not null"
            return bool(self.logged("scan.finished") and await stage.connection.fetchval(records, count))

        await until(synced, seconds=20)

    async def until_logged(self, event: str, *, seconds: float = 15.0) -> dict[str, Any]:
        """Wait for the first line about this kind of event."""

        async def check() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self.text()
            return self.logged(event)

        return (await until(check, seconds=seconds))[0]
