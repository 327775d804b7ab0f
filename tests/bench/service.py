"""The service as it is installed, as a process of its own, measured from outside."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tests.acceptance.commands import PROGRAM, environment
from tests.bench.ground import Immich, Person

T = TypeVar("T")

_STOP_S = 15.0
_LOOK_S = 0.005
_QUIET_S = 0.25  # without a turn of the processor, more or less: then nothing is under way
_QUIET_SHARE = 0.1
_NEVER = threading.Event()
_TICKS = os.sysconf("SC_CLK_TCK")


def until(check: Callable[[], T], *, seconds: float = 300.0, every: float = _LOOK_S) -> T:
    """The first true value of ``check``, asked each so many seconds; AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        _NEVER.wait(every)
    return value


@dataclass(frozen=True, slots=True)
class Usage:
    """What the process has used so far."""

    processor_s: float
    switches: int  # of context, of all threads: each is a wake-up or a turn that was taken away
    bytes_read: int  # from files


class Service:
    """``immich-dbsync run`` with its default settings, for one person."""

    def __init__(self, immich: Immich, person: Person) -> None:
        self.immich, self.person = immich, person
        self._path = immich.folder / f"service-{time.monotonic_ns()}.log"
        env = environment(
            {
                "IMMICH_DBSYNC_DATABASE_URL": immich.url,
                "IMMICH_DBSYNC_SERVER_URL": immich.server,
                "IMMICH_DBSYNC_SYNC_ROOT": str(immich.folder / "sync"),
                "IMMICH_DBSYNC_API_KEYS": person.key,
            }
        )
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start would compile everything
        with self._path.open("wb") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "run"], env=env, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        self._profiler: subprocess.Popen[bytes] | None = None
        self._log = self._path.open(encoding="utf-8")
        self._rest = ""
        self._lines: list[str] = []

    def profile(self, folder: Path) -> None:
        """Have py-spy look at it until the end: each stack and how often it was seen go to a file in the folder."""
        number = sum(1 for _ in folder.iterdir())
        output = folder / f"{number:03}-{self.immich.folder.name}.txt"
        program = ["py-spy", "record", "--pid", str(self.process.pid), "--output", str(output), "--format", "raw"]
        self._profiler = subprocess.Popen(
            [*program, "--rate", "200", "--nonblocking", "--threads"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """End it in good order."""
        if self._profiler is not None:
            self._profiler.send_signal(signal.SIGINT)  # it writes what it has seen
            self._profiler.wait()
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    # --- what it says ---

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Every line of the log about one kind of event."""
        *whole, self._rest = (self._rest + self._log.read()).split("\n")
        self._lines += whole
        found = (json.loads(line) for line in self._lines if f'"{event}"' in line)
        return [line for line in found if line["event"] == event]

    def until_logged(self, event: str, count: int = 1, *, seconds: float = 300.0) -> float:
        """The time at which it said so for the ``count``-th time, in seconds since 1970."""

        def said() -> list[dict[str, Any]]:
            assert self.process.poll() is None, self._path.read_text()[-2000:]
            lines = self.logged(event)
            return lines if len(lines) >= count else []

        lines = until(said, seconds=seconds, every=0.02)
        return datetime.fromisoformat(lines[count - 1]["timestamp"]).timestamp()

    # --- what it uses ---

    def usage(self) -> Usage:
        """Of the processor and of files, since it began."""
        fields = self._proc("stat").rpartition(")")[2].split()
        switches = sum(
            int(line.split()[1])
            for task in Path(f"/proc/{self.process.pid}/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if "ctxt_switches" in line
        )
        read = int(self._proc("io").split()[1])
        return Usage((int(fields[11]) + int(fields[12])) / _TICKS, switches, read)

    def memory(self) -> float:
        """MB that are resident."""
        return self._status("VmRSS")

    def peak_memory(self) -> float:
        """The most MB that were resident since it began."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        lines = self._proc("status").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    # --- what it is about ---

    def lives(self, seconds: float) -> None:
        """Return after so many seconds; AssertionError at once when it ends before."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            raise AssertionError(self._path.read_text()[-2000:])

    def until_quiet(self) -> None:
        """Return when nothing is under way: it has used next to no processor for a moment."""

        def quiet() -> bool:
            before = self.usage().processor_s
            self.lives(_QUIET_S)
            return self.usage().processor_s - before < _QUIET_S * _QUIET_SHARE

        until(quiet)

    def tied(self) -> int:
        """How many of the person's files are tied to an asset."""
        query = "select count(*) from immich_dbsync_v1.records where owner_id = %s and asset_id is not null"
        return int(self.immich.value(query, self.person.id))

    def scan(self) -> float:
        """Have it compare everything, as it does when it was stopped for a while; the seconds that it took."""
        before, began = self._scanned_at(), time.time()
        self.process.send_signal(signal.SIGCONT)
        return until(lambda: at if (at := self._scanned_at()) != before else 0.0, every=0.01) - began

    def _scanned_at(self) -> float:
        query = "select extract(epoch from last_scan_at)::float8 from immich_dbsync_v1.owners where owner_id = %s"
        return float(self.immich.value(query, self.person.id) or 0.0)


@contextmanager
def service(immich: Immich, person: Person) -> Iterator[Service]:
    """The service, its first scan done and all quiet again, until the block ends."""
    with starting(immich, person) as running:
        running.until_logged("scan.finished")
        running.until_quiet()
        yield running


@contextmanager
def starting(immich: Immich, person: Person) -> Iterator[Service]:
    """The service, just started, until the block ends."""
    immich.serve()
    running = Service(immich, person)
    try:
        if immich.profiles is not None:
            running.profile(immich.profiles)
        yield running
    finally:
        running.close()
