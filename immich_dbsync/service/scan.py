"""Compares a folder with its records: two streams in the order of their paths' bytes, a page at a time."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from immich_dbsync.core.names import LeftAlone, NameRules
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import Found, Walk
from immich_dbsync.model import OwnerId, RelPath
from immich_dbsync.service.threads import to_the_end
from immich_dbsync.store.records import Listed, Store

PAGE = 2000
"""Files or records held at a time, of each stream."""


@dataclass(slots=True)
class Tally:
    """What one scan counted."""

    files: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    unreadable: int = 0
    left_alone: Counter[LeftAlone] = field(default_factory=Counter)


async def differences(
    root: Root, names: NameRules, store: Store, owner: OwnerId, *, prefix: bytes = b"", tally: Tally
) -> AsyncGenerator[RelPath, None]:
    """Yield every path at or below ``prefix`` whose file and record do not agree, in byte order.

    A path whose file can't be looked at, or lies below a folder that can't be read, is not among them.
    """
    walk = Walk(root, names, prefix)
    files = _files(walk)
    records = _records(store, owner, prefix)
    try:
        found, listed = await anext(files, None), await anext(records, None)
        while found is not None or listed is not None:
            if listed is None or (found is not None and found.path < listed.path):
                assert found is not None
                tally.files += 1
                tally.new += 1
                yield found.path
                found = await anext(files, None)
            elif found is None or listed.path < found.path:
                if not _below(listed.path, walk.unreadable):
                    tally.gone += 1
                    yield listed.path
                listed = await anext(records, None)
            else:
                tally.files += 1
                if listed.racy or listed.stat != found.stat:
                    tally.changed += 1
                    yield found.path
                found, listed = await anext(files, None), await anext(records, None)
    finally:
        walk.close()
    tally.unreadable = len(walk.unreadable)
    tally.left_alone = walk.left_alone


async def _files(walk: Walk) -> AsyncIterator[Found]:
    while page := await to_the_end(walk.take, PAGE):
        for found in page:
            yield found


async def _records(store: Store, owner: OwnerId, prefix: bytes) -> AsyncIterator[Listed]:
    # "0" follows "/" in ASCII: what lies below a folder begins with its name and a slash, and ends before the zero.
    after, before = (prefix + b"/", prefix + b"0") if prefix else (b"", None)
    while page := await store.record_page(owner, after, before, PAGE):
        for listed in page:
            yield listed
        after = page[-1].path


def _below(path: bytes, unreadable: set[bytes]) -> bool:
    """Whether the path or a folder above it could not be looked at."""
    if not unreadable:
        return False
    parts = path.split(b"/")
    return any(b"/".join(parts[:depth]) in unreadable for depth in range(len(parts) + 1))
