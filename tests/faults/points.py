"""Our command, with a point before and after each call by which it changes disk, database or Immich.

``python -m tests.faults.points run`` is ``immich-dbsync run`` whose points note themselves in a file; one of them, when
it is armed, ends the process with SIGKILL, as a power cut would. The points lie at the process's doors, and take their
names from what goes through them: a new statement, request or disk call has its points at once, and nothing of this is
in the code that is shipped. The kernel can be made to fail as well (seam.py).
"""

import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from yarl import URL

from immich_dbsync import sql
from immich_dbsync.cli.main import main
from immich_dbsync.disk import at
from tests.faults import seam

FOLDER_VARIABLE = "CRASH_POINTS"
TRACE, ARMED = "trace", "armed"
"""Files in the folder: every point that was passed, a line each; the point to end at, and how often it is passed."""

DISK = ("rename", "unlink", "mkdir", "rmdir", "create", "link")
REQUESTS = ("POST /api/assets", "DELETE /api/assets", "POST /api/trash/restore/assets", "PUT /api/assets/copy")
_WRITES = re.compile(r"\b(insert into|update|delete from)\s+(only\s+)?(immich_dbsync_v1|public)\.", re.IGNORECASE)
_FILES = ("store", "holds", "immich")


def statements() -> dict[str, str]:
    """Every statement of ours that writes, by its text: ``store.record_upsert``, …"""
    found = {text: f"{file}.{name}" for file in _FILES for name, text in sql.blocks(file).items()}
    return {text: name for text, name in found.items() if _WRITES.search(text)}


class Points:
    """Notes what is passed, and ends the process at the armed one."""

    def __init__(self, folder: Path) -> None:
        self._armed = folder / ARMED
        self._trace = os.open(folder / TRACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._passed: tuple[str, int] = ("", 0)

    def pass_(self, name: str) -> None:
        """This point is passed now."""
        with self._lock:
            os.write(self._trace, f"{name}\n".encode())
            try:
                armed = self._armed.read_text()
            except FileNotFoundError:
                return
            if armed != self._passed[0]:
                self._passed = (armed, 0)
            wanted, _, times = armed.rpartition(" x")
            if name == wanted:
                self._passed = (armed, self._passed[1] + 1)
                if self._passed[1] == int(times):
                    os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any], name: Callable[..., str | None]) -> Callable[..., Any]:
        """The call between two points; none where it has no name."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            known = name(*arguments, **options)
            if known is None:
                return call(*arguments, **options)
            self.pass_(f"before {known}")
            result = call(*arguments, **options)
            self.pass_(f"after {known}")
            return result

        return wrapped

    def around_async(
        self, call: Callable[..., Awaitable[Any]], name: Callable[..., str | None]
    ) -> Callable[..., Awaitable[Any]]:
        """The same for a coroutine function."""

        async def wrapped(*arguments: Any, **options: Any) -> Any:
            known = name(*arguments, **options)
            if known is None:
                return await call(*arguments, **options)
            self.pass_(f"before {known}")
            result = await call(*arguments, **options)
            self.pass_(f"after {known}")
            return result

        return wrapped


def _set(points: Points) -> None:
    writes = statements()

    def statement(_: object, query: str, *rest: object, **options: object) -> str | None:
        del rest, options
        return writes.get(query)

    def request(_: object, method: str, url: str | URL, **options: object) -> str | None:
        del options
        return None if method == "GET" else f"{method} {URL(url).path}"

    def below(name: str) -> Callable[..., str | None]:
        """Only what is relative to a directory's descriptor is ours."""
        return lambda *_, **options: name if {"dir_fd", "src_dir_fd"} & options.keys() else None

    def create(_: object, flags: int, *rest: object, **options: object) -> str | None:
        del rest
        return "create" if flags & os.O_CREAT and "dir_fd" in options else None

    for method in ("execute", "fetch", "fetchrow", "fetchval"):
        setattr(asyncpg.Pool, method, points.around_async(getattr(asyncpg.Pool, method), statement))
    for session, method in ((aiohttp.ClientSession, "_request"),):  # the coroutine behind every verb
        setattr(session, method, points.around_async(getattr(session, method), request))
    for name in ("unlink", "mkdir", "rmdir", "link"):
        setattr(os, name, points.around(getattr(os, name), below(name)))
    os.open = points.around(os.open, create)
    assert at._renameat2 is not None
    at._renameat2 = points.around(at._renameat2, lambda *_: "rename")


if __name__ == "__main__":
    _set(Points(Path(os.environ[FOLDER_VARIABLE])))
    seam.set_up(Path(os.environ[seam.FOLDER_VARIABLE]))
    main()
