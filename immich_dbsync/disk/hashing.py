"""What a file's bytes are: SHA-1 for Immich and XXH3-128 for ourselves, in one read."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from immich_dbsync.disk.at import stat_of
from immich_dbsync.disk.errors import ChangedWhileRead
from immich_dbsync.disk.root import Root
from immich_dbsync.model import Content, RelPath, Sha1, Stat, Xxh3

BLOCK = 1 << 20  # bytes a read; both digests let go of the interpreter lock for blocks of this size
# Some file systems keep whole seconds (ext3, HFS+); elsewhere times move with the kernel's tick, every 1 to 10 ms.
FRESH_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hashed:
    """A file's digests; its stat was the same before and after the read. ``started_ns`` is the time before it."""

    content: Content
    stat: Stat
    started_ns: int


class Digests:
    """SHA-1 and XXH3-128 of bytes as they come, computed side by side."""

    def __init__(self) -> None:
        self._sha1, self._xxh3 = hashlib.sha1(usedforsecurity=False), xxhash.xxh3_128()

    def update(self, block: bytes | memoryview) -> None:
        """Add the next bytes."""
        self._sha1.update(block)
        self._xxh3.update(block)

    def content(self) -> Content:
        """The digests of all bytes so far."""
        return Content(Sha1(self._sha1.digest()), Xxh3(self._xxh3.digest()))


class Abandoned(Exception):
    """The reader was asked to stop before the file's end."""


def hash_file(
    root: Root,
    path: RelPath,
    *,
    clock_ns: Callable[[], int] = time.time_ns,
    stopped: Callable[[], bool] = lambda: False,
    largest: int | None = None,
) -> Hashed:
    """Read the file once and return both digests. Blocks: call it in a thread.

    ``stopped`` is asked before each block. ``largest``: how many bytes the file may have, where that was looked at
    before; one that was put in its place since is not read. Raises ChangedWhileRead for such a file and when the file's
    stat moved meanwhile or its size is not what was read, FileNotFoundError when it is gone, NotTaken when it does not
    count, Abandoned when stopped.
    """
    started = clock_ns()
    fd, before = root.open_file(path)
    try:
        if largest is not None and before.size > largest:
            raise ChangedWhileRead(path)
        digests = Digests()

        def update(block: memoryview) -> None:
            if stopped():
                raise Abandoned
            digests.update(block)

        length = _read(fd, before.size, update)
        after = stat_of(os.fstat(fd))
    finally:
        os.close(fd)
    if after != before or length != before.size:
        raise ChangedWhileRead(path)
    return Hashed(digests.content(), before, started)


def xxh3_of_file(root: Root, path: RelPath, *, stopped: Callable[[], bool] = lambda: False) -> Xxh3:
    """The file's XXH3-128 alone, many times faster than both digests. Errors and ``stopped`` as ``hash_file``."""
    fd, before = root.open_file(path)
    try:
        digest = xxhash.xxh3_128()

        def update(block: memoryview) -> None:
            if stopped():
                raise Abandoned
            digest.update(block)

        length = _read(fd, before.size, update)
        after = stat_of(os.fstat(fd))
    finally:
        os.close(fd)
    if after != before or length != before.size:
        raise ChangedWhileRead(path)
    return Xxh3(digest.digest())


def xxh3_of(fd: int, size: int) -> Xxh3:
    """XXH3-128 of all that the descriptor's file holds, from its first byte; the descriptor's offset stays.

    ``size``: the bytes that it should have. Of a file that has more by now, little more is read.
    """
    digest = xxhash.xxh3_128()
    _read(fd, size, digest.update)
    return Xxh3(digest.digest())


def is_racy(stat: Stat, started_ns: int) -> bool:
    """Whether the file was so fresh when its read began that a later change could have left its stat as it is.

    Git's racy-clean problem: within one tick of the file system's clock two writes leave the same times. A write sets
    mtime and ctime both, so one of the two being older than a tick is enough; a file renamed into place with its old
    mtime, as file sync tools do, is trusted at once.
    """
    return fresh_until_ns(stat) > started_ns


def fresh_until_ns(stat: Stat) -> int:
    """When the file will be old enough for its stat to prove what a read of it finds (nanoseconds since 1970)."""
    return min(stat.mtime_ns, stat.ctime_ns) + FRESH_NS


def _read(fd: int, size: int, update: Callable[[memoryview], None]) -> int:
    """Feed the file to ``update``, block by block; the number of bytes.

    Ends soon after ``size`` bytes however fast the file grows: whoever asks sees that there were more.
    """
    if size > BLOCK:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    # One byte more than the file holds, so that a small file's end is seen in the same read.
    view = memoryview(bytearray(min(BLOCK, size + 1)))
    length = 0
    while length <= size and (count := os.preadv(fd, [view], length)):
        update(view[:count])
        length += count
        if length == size and count < len(view):
            break
    return length
