"""Brings the quarantine folder and its table together: what a crash or a restored database left apart.

A file is renamed into quarantine before the database hears of it. In between, the record still says that the file is
in the folder, where it is missing, which would look as if its owner had deleted it. So this comes before anything
that is missing is judged.
"""

import asyncio

import structlog

from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import hash_file
from immich_dbsync.disk.marker import STATE
from immich_dbsync.disk.quarantine import QUARANTINE, entries
from immich_dbsync.disk.root import Root
from immich_dbsync.immich.library import Library
from immich_dbsync.model import Content, Entry, OwnerId, Record, RelPath, Stat
from immich_dbsync.store.records import Deed, Store

log = structlog.get_logger()


async def sweep(owner: OwnerId, root: Root, store: Store, library: Library) -> None:
    """Give every file in quarantine its entry, and end the entries whose files are not there any more.

    Files that belong to no asset of the owner are only reported.
    """
    known = await store.entry_locations(owner)
    there = await asyncio.to_thread(lambda: list(entries(root)))
    taken_out = known.keys() - {location for location, _, _ in there}
    if taken_out:  # by hand: a person took back what is theirs
        await store.drop_entries(owner, [known[location] for location in taken_out])
    strays = [found for found in there if found[0] not in known]
    if not strays:
        return
    records = await store.records_of_view(owner, [path for _, path, _ in strays], [], [], [])
    for location, path, stat in strays:
        record = records.get(path)
        content = await _content(root, location, record, stat)
        if content is None:
            continue
        assets = await library.assets(owner, [], [content.sha1])
        asset_id = record.asset_id if record is not None and record.content == content else None
        asset_id = asset_id or next(iter(assets), None)
        if asset_id is None:
            log.warning("quarantine.stray", owner=str(owner), path=path, location=location)
            continue
        ends = record is not None and record.content == content
        await store.add_entries(owner, [Entry(0, path, location, stat, content, asset_id)], end_records=ends)
        await store.remember(owner, [Deed("quarantine", "found in quarantine after a restart", path, asset_id)])
        log.info("quarantine.found", owner=str(owner), path=path)


async def _content(root: Root, location: bytes, record: Record | None, stat: Stat) -> Content | None:
    if record is not None and record.stat.same_file(stat) and not record.racy:
        return record.content
    try:
        hashed = await asyncio.to_thread(hash_file, root, RelPath(b"/".join((STATE, QUARANTINE, location))))
    except (OSError, ChangedWhileRead, NotTaken) as error:
        log.warning("quarantine.unreadable", location=location, reason=str(error))
        return None
    return hashed.content
