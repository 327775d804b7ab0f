"""Finds out what files hold; those that are surely new are handed on unread, to be hashed while they are sent."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import structlog

from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import Hashed, hash_file, xxh3_of_file
from immich_dbsync.model import RelPath
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.queues import Job, Unread
from immich_dbsync.service.sizes import LibrarySizes

log = structlog.get_logger()
T = TypeVar("T")


class Hashing:
    """One owner's, in threads of their own: ``hashers``."""

    def __init__(self, sync: OwnerSync, hashers: ThreadPoolExecutor) -> None:
        self._sync, self._hashers = sync, hashers
        self._library_sizes = LibrarySizes(sync.owner, sync.store)
        self._ended = threading.Event()  # a thread can't be cancelled: it asks

    async def identify_forever(self) -> None:
        """Work off the queue of files to be identified; to be run once for each core."""
        sync = self._sync
        while True:
            path = await sync.queues.to_hash.get()
            again, size = True, sync.queues.hashing[path]
            try:
                recorded, known = await sync.store.size_seen(sync.owner, path, size)
                if not (recorded or known) and await self._surely_new(path, size):
                    again = False
                    sync.queues.upload(Unread(path, size))
                else:
                    sync.known.identified[path] = await self._identify(path, size, recorded=recorded)
            except (FileNotFoundError, ChangedWhileRead):
                pass  # the next look tells what became of it
            except (NotTaken, OSError) as error:
                log.warning("file.not_taken", owner=str(sync.owner), path=path, reason=str(error))
                again = False  # a scan or a change brings it up again
            except asyncio.CancelledError:
                self._ended.set()
                raise
            finally:
                sync.queues.hashed(path)
            if again:
                sync.hint([path])
            else:
                sync.todo.hinted.set()  # a scan may be over with it

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

    async def _identify(self, path: RelPath, size: int, *, recorded: bool) -> Hashed:
        """The file's digests; where a recorded one has its size and it is a copy of that, without computing SHA-1."""
        sync = self._sync
        if recorded:
            started = time.time_ns()
            before = await asyncio.to_thread(sync.root.stat, path)
            xxh3 = await self._hash(partial(xxh3_of_file, sync.root, path, stopped=self._ended.is_set))
            content = await sync.store.content_of_copy(sync.owner, size, xxh3)
            if content is not None and before is not None and await asyncio.to_thread(sync.root.stat, path) == before:
                return Hashed(content, before, started)
        return await self.both(path)

    def sent(self, job: Job | Unread) -> None:
        """The library has something of this size now."""
        self._library_sizes.add(job.size)

    async def both(self, path: RelPath) -> Hashed:
        """The file's SHA-1 and XXH3; raises as ``hash_file``."""
        return await self._hash(partial(hash_file, self._sync.root, path, stopped=self._ended.is_set))

    async def _hash(self, work: "partial[T]") -> T:
        return await asyncio.get_running_loop().run_in_executor(self._hashers, work)
