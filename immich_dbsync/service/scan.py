"""Compares a folder with its records: two streams in the order of their paths' bytes, a page at a time.

Of a page that agrees nothing is fetched but a digest, which PostgreSQL computes from its records during the walk.
"""

import asyncio
import hashlib
import struct
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field

from immich_dbsync.core.names import LeftAlone, NameRules
from immich_dbsync.disk.at import stat_of
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import Found, Walk
from immich_dbsync.model import OwnerId, RelPath
from immich_dbsync.service.threads import to_the_end
from immich_dbsync.store.records import Listed, Store

PAGE = 2000
"""Files or records held at a time, of each stream."""

_as_recorded = struct.Struct(">xqqqQ").pack  # after the path, as in the statement record_digest


@dataclass(frozen=True, slots=True)
class _Page:
    """Some files that follow each other, and the digest that their records have where all agree (None: they can't)."""

    files: Sequence[Found]
    digest: bytes | None


@dataclass(slots=True)
class Tally:
    """What one scan counted, and found of moves that were interrupted."""

    files: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    unreadable: int = 0
    left_alone: Counter[LeftAlone] = field(default_factory=Counter)
    left_behind: list[RelPath] = field(default_factory=list)


async def differences(
    root: Root, names: NameRules, store: Store, owner: OwnerId, *, prefix: bytes = b"", tally: Tally
) -> AsyncGenerator[RelPath, None]:
    """Yield every path at or below ``prefix`` whose file and record do not agree, in byte order.

    A path whose file can't be looked at, or lies below a folder that can't be read, is not among them.
    """
    if prefix:  # whoever asks for one path looks at it anyway
        tally.files += await asyncio.to_thread(_is_file, root, names, RelPath(prefix))
    walk = Walk(root, names, prefix)
    # "0" follows "/" in ASCII: what lies below a folder begins with its name and a slash, and ends before the zero.
    after, end = (prefix + b"/", prefix + b"0") if prefix else (b"", None)
    try:
        page = await to_the_end(_take, walk)
        while len(page.files) == PAGE:
            following, digest = await _beside(store.record_digest(owner, after, PAGE), walk)
            last = page.files[-1][0]
            if digest is not None and digest == page.digest:
                tally.files += PAGE
            else:
                async for path in _compared(page, _records(store, owner, after, last + b"\0"), walk, tally):
                    yield path
            page, after = following, last
        async for path in _compared(page, _records(store, owner, after, end), walk, tally):
            yield path
    finally:
        walk.close()
    tally.unreadable = len(walk.unreadable)
    tally.left_alone, tally.left_behind = walk.left_alone, walk.left_behind


def _is_file(root: Root, names: NameRules, path: RelPath) -> bool:
    try:
        return names.file(path) is None and root.stat(path) is not None
    except (OSError, ValueError):
        return False


def _take(walk: Walk) -> _Page:
    files = walk.take(PAGE)
    try:
        told = [
            path + _as_recorded(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            for path, status in files
        ]
    except struct.error:  # a time that no record can have as it is
        return _Page(files, None)
    return _Page(files, hashlib.sha256(b"".join(told)).digest())


async def _beside(digest: Coroutine[None, None, bytes | None], walk: Walk) -> tuple[_Page, bytes | None]:
    """The next page, taken while PostgreSQL computes the digest for the one before; and that."""
    asked = asyncio.create_task(digest)
    try:
        return await to_the_end(_take, walk), await asked
    finally:
        asked.cancel()


async def _compared(page: _Page, records: AsyncIterator[Listed], walk: Walk, tally: Tally) -> AsyncIterator[RelPath]:
    """Yield the paths whose file and record do not agree, of one page and the records that belong to it."""
    files = iter(page.files)
    found, listed = next(files, None), await anext(records, None)
    while found is not None or listed is not None:
        if listed is None or (found is not None and found[0] < listed.path):
            assert found is not None
            tally.files += 1
            tally.new += 1
            yield found[0]
            found = next(files, None)
        elif found is None or listed.path < found[0]:
            if not _below(listed.path, walk.unreadable):
                tally.gone += 1
                yield listed.path
            listed = await anext(records, None)
        else:
            tally.files += 1
            if listed.racy or listed.stat != stat_of(found[1]):
                tally.changed += 1
                yield found[0]
            found, listed = next(files, None), await anext(records, None)


async def _records(store: Store, owner: OwnerId, after: bytes, before: bytes | None) -> AsyncIterator[Listed]:
    # One more than a page: of what belongs to one page of files, the end is seen at once.
    while page := await store.record_page(owner, after, before, PAGE + 1):
        for listed in page:
            yield listed
        if len(page) <= PAGE:
            break
        after = page[-1].path


def _below(path: bytes, unreadable: set[bytes]) -> bool:
    """Whether the path or a folder above it could not be looked at."""
    if not unreadable:
        return False
    parts = path.split(b"/")
    return any(b"/".join(parts[:depth]) in unreadable for depth in range(len(parts) + 1))
