"""Reads every recorded file again and finds bytes that changed without a trace: a failing disk, say.

A file whose stat is as recorded and whose bytes are not is never taken for edited: it is reported, and left alone until
it is written to (design facts, section 9).
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.filesize import decimal

from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import xxh3_of_file
from immich_dbsync.disk.root import Root
from immich_dbsync.model import OwnerId, RelPath, Xxh3
from immich_dbsync.store.records import Expected, Store
from immich_dbsync.wording import counted

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Reread:
    """A file whose bytes were read again. ``damaged``: they are not what was recorded; ``news``: that is news."""

    path: RelPath
    size: int
    found: Xxh3
    damaged: bool
    news: bool


def read_again(files: int, size: int) -> str:
    """How far it is, in a few words; ``size`` in bytes."""
    return f"{counted(files, 'file')} read again, {decimal(size)}"


async def reread(
    root: Root, store: Store, owner: OwnerId, hashers: ThreadPoolExecutor, prefix: bytes = b""
) -> AsyncIterator[Reread]:
    """Read every recorded file at or below ``prefix`` whose stat is as recorded, in byte order of their paths."""
    # The file itself, then what lies below a folder of that name.
    after, before = (prefix[:-1], prefix + b"0") if prefix else (b"", None)
    while page := await store.content_page(owner, after, before, _PAGE):
        wanted = [each for each in page if not prefix or each.path == prefix or each.path.startswith(prefix + b"/")]
        for each in await _all(root, hashers, wanted):
            yield each
        after = page[-1].path


async def _all(root: Root, hashers: ThreadPoolExecutor, wanted: Collection[Expected]) -> list[Reread]:
    loop = asyncio.get_running_loop()
    found = await asyncio.gather(*(loop.run_in_executor(hashers, _reread, root, each) for each in wanted))
    return [each for each in found if each is not None]


def _reread(root: Root, expected: Expected) -> Reread | None:
    try:
        if expected.racy or root.stat(expected.path) != expected.stat:
            return None  # gone, edited or not to be trusted: the scan finds out
        found = xxh3_of_file(root, expected.path)
        if root.stat(expected.path) != expected.stat:
            return None
    except (OSError, NotTaken, ChangedWhileRead):
        return None
    damaged = found != expected.xxh3
    return Reread(
        expected.path, expected.stat.size, found, damaged, news=(found if damaged else None) != expected.damaged
    )
