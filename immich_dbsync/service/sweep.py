"""Brings the quarantine folder and its table together: what a crash or a restored database left apart.

A file is renamed into quarantine before the database hears of it. In between, the record still says that the file is
in the folder, where it is missing, which would look as if its owner had deleted it. So this comes before anything
that is missing is judged.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice

import structlog

from immich_dbsync.core.names import NameRules
from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import hash_file
from immich_dbsync.disk.marker import STATE
from immich_dbsync.disk.moving import is_aside
from immich_dbsync.disk.quarantine import QUARANTINE, QuarantineBatch, entries, lies, undo_left
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.sidecars import candidates
from immich_dbsync.immich.library import Library
from immich_dbsync.model import AssetId, Content, Entry, OwnerId, Record, RelPath, Stat
from immich_dbsync.service.carry_out import take_sidecars, today
from immich_dbsync.service.threads import to_the_end, while_wanted
from immich_dbsync.store.records import Store

log = structlog.get_logger()

_Stray = tuple[bytes, RelPath, Stat]
_PAGE = 500  # files that are looked up at a time


async def sweep(owner: OwnerId, root: Root, store: Store, library: Library, names: NameRules) -> None:
    """Give every file in quarantine its entry, and end the entries whose files are not there any more.

    Files that belong to no asset of the owner are only reported. A sidecar that its picture left behind follows it.
    Raises QuarantineUnread where some of it can't be looked at: then nothing that is missing may be judged.
    """
    unseen = await store.entry_locations(owner)
    left: list[RelPath] = []
    found = entries(root, left)
    # In pages: whoever owns the folder could have made a quarantine with millions of files before we came.
    while page := await asyncio.to_thread(lambda: [*islice(found, _PAGE)]):
        strays = [each for each in page if unseen.pop(each[0], None) is None]
        if strays:
            await _claim(owner, root, store, library, names, strays)
    if left:  # by a process that was killed in a move: undone, it is as if that had not begun
        await asyncio.to_thread(lambda: [undo_left(root, path) for path in left])
        found = entries(root)
        while page := await asyncio.to_thread(lambda: [*islice(found, _PAGE)]):
            for location, _, _ in page:
                unseen.pop(location, None)
    taken_out = await asyncio.to_thread(lambda: [entry for place, entry in unseen.items() if not lies(root, place)])
    if taken_out:  # by hand: a person took back what is theirs
        await store.drop_entries(owner, taken_out)


async def _claim(  # noqa: PLR0917  # what a sweep has
    owner: OwnerId, root: Root, store: Store, library: Library, names: NameRules, strays: Sequence[_Stray]
) -> None:
    """Give files in quarantine that have no entry one each, as far as they belong to an asset or a picture."""
    pictures: list[_Stray] = []
    others: list[_Stray] = []
    for stray in strays:
        (pictures if names.name(stray[1].rpartition(b"/")[2], stray[1]) is None else others).append(stray)
    records = await store.records_at(owner, [path for _, path, _ in strays])
    for stray in pictures:
        entry = await _picture(root, owner, library, stray, records.get(stray[1]))
        if entry is not None:
            record = records.get(entry.path)
            ends = record is not None and record.content == entry.content
            await _add(store, owner, [entry], end_records=ends)
            await _add(store, owner, await to_the_end(_sidecars, root, entry, names), end_records=False)
    if others:
        await _add(store, owner, await _orphans(root, owner, store, others), end_records=False)


async def _add(store: Store, owner: OwnerId, found: Sequence[Entry], *, end_records: bool) -> None:
    if not found:
        return
    why = "found in quarantine after a restart"
    await store.add_entries(owner, found, [why] * len(found), end_records=end_records)
    for entry in found:
        log.info("quarantine.found", owner=str(owner), path=entry.path)


async def _picture(root: Root, owner: OwnerId, library: Library, stray: _Stray, record: Record | None) -> Entry | None:
    location, path, stat = stray
    content = await _content(root, location, record, stat)
    if content is None:
        return None
    assets = await library.assets(owner, [], [content.sha1])
    asset_id = record.asset_id if record is not None and record.content == content else None
    asset_id = asset_id or next((asset.id for asset in assets.values() if asset.sha1 == content.sha1), None)
    if asset_id is None:
        log.warning("quarantine.stray", owner=str(owner), path=path, location=location)
        return None
    return Entry(0, path, location, stat, content, asset_id)


def _sidecars(root: Root, entry: Entry, names: NameRules) -> list[Entry]:
    with QuarantineBatch(root, today()) as batch:
        return take_sidecars(batch, root, [entry], names)


async def _orphans(root: Root, owner: OwnerId, store: Store, strays: Sequence[_Stray]) -> list[Entry]:
    """Entries for sidecars, by the pictures in quarantine that they were taken out with."""
    found = []
    known = {each.path: each.asset_id for each in await store.all_entries(owner)}
    by_sidecar: dict[RelPath, AssetId] = {}
    for path, asset in known.items():
        for sidecar in candidates(path):
            by_sidecar.setdefault(sidecar, asset)
    for location, path, stat in strays:
        content = await _content(root, location, None, stat)
        if content is not None and path in by_sidecar:
            found.append(Entry(0, path, location, stat, content, by_sidecar[path]))
        else:
            log.warning("quarantine.stray", owner=str(owner), path=path, location=location)
    return found


async def _content(root: Root, location: bytes, record: Record | None, stat: Stat) -> Content | None:
    if record is not None and record.stat.same_file(stat) and not record.racy:
        return record.content
    return await _hashed(root, RelPath(b"/".join((STATE, QUARANTINE, location))))


async def _hashed(root: Root, path: RelPath) -> Content | None:
    try:
        hashed = await while_wanted(lambda stopped: hash_file(root, path, stopped=stopped))
    except (OSError, ChangedWhileRead, NotTaken) as error:
        log.warning("quarantine.unreadable", location=path, reason=str(error))
        return None
    return hashed.content


async def undo(owner: OwnerId, root: Root, store: Store, left: Sequence[RelPath]) -> list[RelPath]:
    """Undo what a killed process left in the folder in the middle of moves; returns the paths that have files again.

    An original whose copy lies in quarantine is gone from the folder, as was wanted: it is not to come back. Only for a
    root that is well.
    """
    entries_of: dict[int, list[Entry]] = {}
    for entry in await store.all_entries(owner):
        entries_of.setdefault(entry.stat.size, []).append(entry)
    back = []
    for path in left:
        arrived = False
        if is_aside(path.rpartition(b"/")[2]):
            arrived = await _lies_in_quarantine(root, path, entries_of)
        new = await asyncio.to_thread(undo_left, root, path, arrived=arrived)
        back += [new] if new is not None else []
    return back


async def _lies_in_quarantine(root: Root, path: RelPath, entries_of: Mapping[int, Sequence[Entry]]) -> bool:
    """Whether what this file holds is in quarantine as well, by the table and on disk. ``entries_of``: by size."""
    try:
        stat = await asyncio.to_thread(root.stat, path)
    except OSError:
        return False
    if stat is None or stat.size not in entries_of:  # nothing large is read that can't be there
        return False
    content = await _hashed(root, path)
    same = [entry.location for entry in entries_of[stat.size] if entry.content == content]
    return await asyncio.to_thread(lambda: any(lies(root, location) for location in same))
