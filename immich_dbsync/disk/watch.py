"""Tells soon when something changes in an owner's folder. Every event is only a hint to look.

watchfiles does the watching, kept on a short lead:

- Recursive, it follows links, so that an owner could make a service that is root watch all of ``/``. Here it is given
  single folders, found from the root's descriptor; hidden ones, our quarantine among them, are never watched.
- It takes its list of folders once, and holds the interpreter lock while it does (0.1 ms a folder). New folders go to a
  second, small watcher, the young one, which is made anew for them; the longer that takes, the less often.
- An event about a name that is not UTF-8 ends it, and opening a file is an event. Then everything is watched anew, a
  rescan is asked for, and the folder with that name is no longer watched but asked every second whether it changed.
- It drops queue overflows in silence, so a burst asks for a rescan.

The kernel's watches are one supply for all roots, and taking a list of folders stops the whole process: a root with
more folders than its share is polled, so that one alone does not cost all others their watch.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from watchfiles import Change
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from immich_dbsync.disk.folders import Unwatchable, folders
from immich_dbsync.disk.root import Root
from immich_dbsync.errors import DbsyncError, RootUnusable
from immich_dbsync.model import RelPath

BURST = 2000  # raw changes in one batch above which looking at each costs more than a rescan
POLL_S = 60.0
_CHECK_S = 5.0  # the root may be replaced without an event
_ASK_S = 1.0  # between two looks at the times of folders that can't be watched
_STEP_MS = 10  # how often watchfiles looks into its queue: latency against wake-ups
_BACKOFF_S = (0.05, 30.0)  # first and longest pause before watching anew
# What watchfiles says when the kernel's watches, or its inotify instances, are used up.
_LIMITS = ("watch limit", "Too many open files")
_MOST_FOLDERS = 100_000  # of one root that are watched; ten seconds of the interpreter's lock
_MOST_BYTES = 32 << 20  # that the paths of these may have in all
_SHARE = 0.8  # of the kernel's watches that one root may take
_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
_REST = 9  # times as long as it took to make the young watcher, before it is made again
_SETTLED_S = 60.0  # a watch that lived this long begins again at the first pause

_Raw = set[tuple[int, str]] | Literal["signal", "stop", "timeout"]
_T = TypeVar("_T")


class WatchLimit(DbsyncError):
    """The kernel allows no more watches; folders are looked at every minute instead."""

    def __init__(self, path: object, wanted: object) -> None:
        super().__init__(
            f"{str(path)!r} has {wanted} folders, more than the kernel lets us watch, so changes are seen late: "
            "as root run `sysctl -w fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024 | tee "
            "/etc/sysctl.d/60-immich-dbsync.conf`, and restart the service"
        )


class FolderLimit(DbsyncError):
    """So many folders are not watched, whatever the kernel allows; they are looked at every minute instead."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"{str(path)!r} has more than {_MOST_FOLDERS:,} folders, or more than {_MOST_BYTES >> 20} MiB of their"
            " paths, so changes are seen late: move away what holds no pictures"
        )


class _TooMany(OSError):
    """More folders than are watched, or than this root's share."""


class WatchMode(StrEnum):
    """How changes are noticed: STARTING (not yet), NATIVE (at once), POLLING (at intervals), LOST (root is gone)."""

    STARTING = "starting"
    NATIVE = "native"
    POLLING = "polling"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Hints:
    """Look at these paths, be they files, folders (scan them) or gone (a prefix); with ``rescan`` at everything."""

    paths: frozenset[RelPath] = frozenset()
    rescan: bool = False


class _Notify(Protocol):
    def watch(self, debounce_ms: int, step_ms: int, timeout_ms: int, stop_event: "_Eye") -> _Raw: ...
    def close(self) -> None: ...


class _Eye:
    """One watchfiles watcher over single folders; it is its own stop event."""

    def __init__(self, base: str, wanted: set[bytes], stop: asyncio.Event) -> None:
        paths = [base + "/" + os.fsdecode(path) if path else base for path in wanted]
        # The last False: told to ignore denied permissions, it ignores all errors, the watch limit among them.
        self._notify: _Notify = RustNotify(paths, False, False, 300, False, False)
        self._stop = stop
        self.ended = False

    def is_set(self) -> bool:
        return self.ended or self._stop.is_set()

    def look(self, debounce_ms: int) -> _Raw:
        # A time limit (the 0) would open a gap: what comes between two calls is lost.
        return self._notify.watch(debounce_ms, _STEP_MS, 0, self)

    def close(self) -> None:
        self._notify.close()


class Watch:
    """An asynchronous iterator of Hints; ends when ``stop`` is set.

    The first is a rescan, given when watching has begun, so that a scan started on it misses nothing. Others follow a
    restart, a burst, a root that was replaced (whatever is at its path now is watched on), or, in POLLING ``mode``,
    each ``poll_s``. ``trouble`` then holds the limit that the user should read of.
    """

    def __init__(
        self, root: Root, stop: asyncio.Event, *, debounce_ms: int = 40, burst: int = BURST, poll_s: float = POLL_S
    ) -> None:
        self.mode = WatchMode.STARTING
        self.trouble: WatchLimit | FolderLimit | None = None
        self._given = self._root = root
        self._stop = stop
        self._debounce_ms = debounce_ms
        self._burst = burst
        self._poll_s = poll_s
        self._base = ""
        self._watched: set[bytes] = set()
        self._unwatchable = Unwatchable()
        self._young_folders: set[bytes] = set()
        self._new: dict[bytes, bool] = {}  # with whether they can be watched; to go to the young watcher
        self._rest_until = self._asked = self._polled = 0.0
        self._old: _Eye | None = None
        self._young: _Eye | None = None
        self._pool: ThreadPoolExecutor | None = None

    def __aiter__(self) -> AsyncIterator[Hints]:
        return self._run()

    async def _run(self) -> AsyncGenerator[Hints, None]:
        # Two watchers, one of them on its way out, and one job: never the loop's own pool, which others need.
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="watch")
        pause = _BACKOFF_S[0]
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                if await self._call(self._open):
                    yield Hints(rescan=True)
                    async with aclosing(self._hints()) as hints:
                        async for hint in hints:
                            yield hint
                elif self.mode is not WatchMode.LOST:
                    yield Hints(rescan=True)
                    pause = self._poll_s if self.mode is WatchMode.POLLING else pause
                lived = time.monotonic() - began
                await self._wait(pause)
                pause = _BACKOFF_S[0] if lived > _SETTLED_S else min(pause * 2, max(_BACKOFF_S[1], self._poll_s))
        finally:
            self._end()
            self._pool.shutdown(wait=False)
            if self._root is not self._given:
                self._root.close()

    async def _hints(self) -> AsyncGenerator[Hints, None]:
        """The hints of one watch, until it fails, its root is replaced, or the end."""
        looks: dict[asyncio.Future[_Raw], _Eye] = {}
        self._polled = time.monotonic()
        try:
            while not self._stop.is_set():
                for eye in (self._old, self._young):
                    if eye is not None and eye not in looks.values():
                        looks[asyncio.ensure_future(self._call(eye.look, self._debounce_ms))] = eye
                done, _ = await asyncio.wait(looks, timeout=self._longest_wait(), return_when="FIRST_COMPLETED")
                for look in done:
                    eye = looks.pop(look)
                    raw = look.result()
                    if not isinstance(raw, str) and (hints := await self._call(self._digest, raw)) is not None:
                        yield hints
                if (hints := await self._at_times()) is not None:
                    yield hints
                if not await self._call(self._root.still_there):
                    yield Hints(rescan=True)
                    return
        except (WatchfilesRustInternalError, OSError):
            return  # begin anew, with a rescan
        finally:
            self._end()
            if looks:
                await asyncio.wait(looks)
                for look in looks:
                    look.exception()

    def _longest_wait(self) -> float:
        longest = min(_ASK_S if self._unwatchable else _CHECK_S, self._poll_s)
        return min(longest, max(0.0, self._rest_until - time.monotonic())) if self._new else longest

    async def _at_times(self) -> Hints | None:
        """Watch new folders when it is time to; look at those that can't be watched, in turn and when they changed."""
        paths: set[bytes] = set()
        if self._new and time.monotonic() >= self._rest_until:
            await self._call(self._adopt)
            paths |= self._young_folders
        if self._unwatchable and time.monotonic() - self._asked >= min(_ASK_S, self._poll_s):
            paths |= await self._call(self._ask)
            self._asked = time.monotonic()
        if b"" in paths:
            return Hints(rescan=True)
        return Hints(frozenset(map(RelPath, paths))) if paths else None

    def _ask(self) -> set[bytes]:
        """The folders that can't be watched and have changed; all of them every ``poll_s``."""
        changed = self._unwatchable.changed(self._root)
        if time.monotonic() - self._polled >= self._poll_s:
            self._polled = time.monotonic()
            changed = {*self._unwatchable}
        self._new |= self._missed(*changed)
        return changed

    async def _call(self, work: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def _end(self) -> None:
        for eye in (self._old, self._young):
            if eye is not None:
                eye.ended = True
        self._old = self._young = None

    def _open(self) -> bool:
        """Watch what is at the root's path now; False when nothing usable is, or the kernel's limit is reached."""
        self._end()
        if not self._root.still_there():
            try:
                found = Root(self._root.path)
            except RootUnusable:
                self.mode = WatchMode.LOST
                return False
            if self._root is not self._given:
                self._root.close()
            self._root = found
        self._base = f"/proc/self/fd/{self._root.fd}"
        try:
            return self._watch_all()
        except _TooMany:
            self._end()
            few, self.mode = _share() < _MOST_FOLDERS, WatchMode.POLLING
            known = f"more than {_share()}"
            self.trouble = WatchLimit(self._root.path, known) if few else FolderLimit(self._root.path)
            return False

    def _watch_all(self) -> bool:
        """As ``_open``, of a root that is there; raises _TooMany."""
        found_folders = _some(folders(self._root), _share())
        self._watched = {path for path, watchable in found_folders.items() if watchable}
        self._unwatchable = Unwatchable()
        self._unwatchable.add(found_folders.keys() - self._watched)
        self._young_folders, self._new = set(), {}
        try:
            self._old = _Eye(self._base, self._watched, self._stop)
        except (OSError, WatchfilesRustInternalError) as error:
            if any(limit in str(error) for limit in _LIMITS):
                self.mode, self.trouble = WatchMode.POLLING, WatchLimit(self._root.path, len(found_folders))
            else:  # a folder vanished since it was found
                self.mode = WatchMode.STARTING
            return False
        self.mode, self.trouble = WatchMode.NATIVE, None
        self._new = self._missed(b"")
        return True

    def _missed(self, *paths: bytes) -> dict[bytes, bool]:
        """Folders at and below these that are not looked after."""
        now = _some((found for path in paths for found in folders(self._root, path)), _share())
        return {path: good for path, good in now.items() if path not in self._watched and path not in self._unwatchable}

    def _digest(self, raw: set[tuple[int, str]]) -> Hints | None:
        """Raw changes as hints; folders that are new are watched, and hinted at once that is so."""
        start = len(self._base) + 1
        seen = [(change, path[start:]) for change, path in raw if "/." not in path[start - 1 :] and len(path) > start]
        rescan = len(raw) > self._burst
        paths = {RelPath(os.fsencode(path)) for _, path in seen}
        if rescan:
            now = _some(folders(self._root), _share())
            self._watched &= now.keys()
            self._new = {path: now[path] for path in now.keys() - self._watched if path not in self._unwatchable}
        else:
            self._forget({os.fsencode(path) for change, path in seen if change == Change.deleted})
            for change, path in seen:
                if change == Change.added:
                    self._new |= _some(folders(self._root, os.fsencode(path)), _share())
            if self._new:  # all of them together, those that were watched before as well
                _some(((path, True) for paths in (self._watched, self._new) for path in paths), _share())
        if rescan:
            return Hints(rescan=True)
        return Hints(frozenset(paths)) if paths else None

    def _forget(self, gone: set[bytes]) -> None:
        known: tuple[Collection[bytes], ...] = (self._watched, self._young_folders, self._unwatchable, self._new)
        for path in gone:
            if any(path in each for each in known):
                below = path + b"/"
                ended = {name for each in known for name in each if name == path or name.startswith(below)}
                self._watched -= ended
                self._young_folders -= ended
                self._unwatchable.discard(ended)
                self._new = {name: good for name, good in self._new.items() if name not in ended}

    def _adopt(self) -> None:
        """Watch new folders. What happens until the new watcher is there is covered by hinting at its folders after."""
        began = time.monotonic()
        new, self._new = self._new, {}
        self._young_folders |= {path for path, watchable in new.items() if watchable}
        self._unwatchable.add(new.keys() - self._young_folders)
        self._watched |= self._young_folders
        young = _Eye(self._base, self._young_folders, self._stop)
        if self._young is not None:
            self._young.ended = True
        self._young = young
        now = time.monotonic()
        self._rest_until = now + _REST * (now - began)
        self._new = self._missed(*(path for path in new if path.rpartition(b"/")[0] not in new))


def _share() -> int:
    """How many folders of one root are watched at most."""
    try:
        return min(_MOST_FOLDERS, int(int(_WATCHES.read_text()) * _SHARE))
    except (OSError, ValueError):
        return _MOST_FOLDERS


def _some(found: Iterable[tuple[bytes, bool]], most: int) -> dict[bytes, bool]:
    """Folders, each with whether it can be watched; _TooMany where they are more than ``most``, or their paths long."""
    some: dict[bytes, bool] = {}
    length = 0
    for path, watchable in found:
        some[path] = watchable
        length += len(path)
        if len(some) > most or length > _MOST_BYTES:
            raise _TooMany
    return some


def watch(root: Root, *, stop: asyncio.Event, debounce_ms: int = 40) -> Watch:
    """Watch the root until ``stop`` is set: ``async for hints in watch(root, stop=stop)``."""
    return Watch(root, stop, debounce_ms=debounce_ms)
