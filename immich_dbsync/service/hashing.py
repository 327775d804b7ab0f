"""Finds out what files hold; those that are surely new are handed on unread, to be hashed while they are sent.

Small files are seen to many at a time, so that each costs no question of the database and no turn of a thread.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import Hashed, hash_file, xxh3_of_file
from immich_dbsync.model import RelPath, Stat, Xxh3
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.queues import Job, Unread
from immich_dbsync.service.sizes import LibrarySizes

log = structlog.get_logger()
T = TypeVar("T")

_TOGETHER = 128  # files identified together, at most
_BYTES_TOGETHER = 64 << 20  # and their bytes; what is larger is read by itself, so that no small file waits for it
WORKERS = 2 * (os.cpu_count() or 1)
"""How many identify files at once, of one owner: while the cores hash for some, the others ask the database."""


@dataclass(frozen=True, slots=True)
class _Xxh3:
    """A file's digest; its stat and the time (ns) before it was read."""

    xxh3: Xxh3
    before: Stat
    started_ns: int


class Hashing:
    """One owner's, in threads of their own: ``hashers``."""

    def __init__(self, sync: OwnerSync, hashers: ThreadPoolExecutor) -> None:
        self._sync, self._hashers = sync, hashers
        self._library_sizes = LibrarySizes(sync.owner, sync.store)
        self._ended = threading.Event()  # a thread can't be cancelled: it asks

    async def identify_forever(self) -> None:
        """Work off the queue of files to be identified; to be run by each of ``WORKERS``."""
        queues = self._sync.queues
        while True:
            path = await queues.to_hash.get()
            most, room = min(_TOGETHER, 1 + queues.to_hash.qsize() // WORKERS), _BYTES_TOGETHER
            together: dict[RelPath, int] = {}
            while (size := queues.hashing[path]) <= room:
                together[path] = size
                room -= size
                if len(together) == most:
                    break
                path = queues.to_hash.get_nowait()
            if together:
                await self._identify_all(together)
            if path not in together:
                await self._identify_all({path: size})

    async def _identify_all(self, sizes: Mapping[RelPath, int]) -> None:
        sync = self._sync
        again = {*sizes}  # to be looked at
        try:
            seen = await sync.store.sizes_seen(sync.owner, sizes)
            for path, (recorded, known) in seen.items():
                if not (recorded or known) and await self._surely_new(path, sizes[path]):
                    again.discard(path)
                    sync.queues.upload(Unread(path, sizes[path]))
            maybe_copies = [path for path in again if seen[path][0]]
            found = await self._copies({path: sizes[path] for path in maybe_copies})
            found |= await self._each(self._both, again - found.keys())
            for path, outcome in found.items():
                if isinstance(outcome, Hashed):
                    sync.known.identified[path] = outcome
                elif not isinstance(outcome, FileNotFoundError | ChangedWhileRead):  # of these the next look tells
                    log.warning("file.not_taken", owner=str(sync.owner), path=path, reason=str(outcome))
                    again.discard(path)  # a scan or a change brings it up again
        except asyncio.CancelledError:
            self._ended.set()
            raise
        finally:
            for path in sizes:
                sync.queues.hashed(path)
        sync.hint(again)  # a scan may be over with them, be it none

    async def _surely_new(self, path: RelPath, size: int) -> bool:
        """Whether the library can't have this file, of which we know nothing, so that it may be sent before it is read.

        Only while it would be sent at once: what has to wait is hashed meanwhile, and then its record says so.
        """
        sync, queues = self._sync, self._sync.queues
        if not await self._library_sizes.lack(size):
            return False
        # Asked last: in the meantime another file of this size may have been hashed, and be about to be sent.
        waits = sync.parts.gate.reason is not None or queues.key_refused.on() or queues.quota_used_up.on()
        return not (waits or sync.todo.has_failed(path) or queues.sizes[size] > 1 or size in queues.jobs)

    async def _copies(self, sizes: Mapping[RelPath, int]) -> dict[RelPath, Hashed | Exception]:
        """The digests of those files that are copies of recorded ones, without computing SHA-1; why others can't be
        read.
        """
        sync = self._sync
        read = await self._each(self._xxh3, sizes)
        digests = {path: each for path, each in read.items() if isinstance(each, _Xxh3)}
        contents = await sync.store.contents_of_copies(
            sync.owner, {path: (sizes[path], each.xxh3) for path, each in digests.items()}
        )
        now = await asyncio.to_thread(sync.root.stats, contents)
        copies = {
            path: Hashed(content, digests[path].before, digests[path].started_ns)
            for path, content in contents.items()
            if now[path] == digests[path].before
        }
        return {path: each for path, each in read.items() if isinstance(each, Exception)} | copies

    def _xxh3(self, path: RelPath) -> _Xxh3:
        started, before = time.time_ns(), self._sync.root.stat(path)
        if before is None:
            raise FileNotFoundError(path)
        return _Xxh3(xxh3_of_file(self._sync.root, path, stopped=self._ended.is_set), before, started)

    def _both(self, path: RelPath) -> Hashed:
        return hash_file(self._sync.root, path, stopped=self._ended.is_set)

    async def _each(self, work: Callable[[RelPath], T], paths: Collection[RelPath]) -> "dict[RelPath, T | Exception]":
        """What ``work`` returns for each of these paths, or why it can't: FileNotFoundError, NotTaken and so on."""

        def done() -> "dict[RelPath, T | Exception]":
            found: dict[RelPath, T | Exception] = {}
            for path in paths:
                try:
                    found[path] = work(path)
                except (ChangedWhileRead, NotTaken, OSError) as error:
                    found[path] = error
            return found

        return await self._hash(done) if paths else {}

    def sent(self, job: Job | Unread) -> None:
        """The library has something of this size now."""
        self._library_sizes.add(job.size)

    async def both(self, path: RelPath) -> Hashed:
        """The file's SHA-1 and XXH3; raises as ``hash_file``."""
        return await self._hash(partial(self._both, path))

    async def _hash(self, work: "Callable[[], T]") -> T:
        return await asyncio.get_running_loop().run_in_executor(self._hashers, work)
