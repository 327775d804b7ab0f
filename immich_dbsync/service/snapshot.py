"""All that the database says at one moment of what bears on some paths, assets and quarantined files."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import asyncpg

from immich_dbsync import sql
from immich_dbsync.immich.library import asset_of
from immich_dbsync.model import Asset, AssetId, Entry, OwnerId, Record, RelPath, Sha1
from immich_dbsync.store.records import Event
from immich_dbsync.store.rows import entry_of, record_of, signed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows of our tables and of Immich's, of one owner, as one statement saw them.

    ``records`` is closed over contents. ``entries``: what lies in quarantine for the assets asked for, for the paths
    asked for or itself asked for; ``further_entries``: ids of what else lies there for the records' assets.
    ``assets``: those that were asked for or that records or entries name or share a content with, and the stills of
    live photos whose videos are among them. ``trashed_by_us`` and ``deleted`` as in View. ``events``: as asked for.
    """

    records: dict[RelPath, Record]
    entries: tuple[Entry, ...]
    further_entries: frozenset[int]
    assets: dict[AssetId, Asset]
    trashed_by_us: frozenset[AssetId]
    deleted: frozenset[AssetId]
    owner_active: bool
    trash_enabled: bool
    events: tuple[Event, ...]


async def snapshot(
    pool: "asyncpg.Pool[asyncpg.Record]",
    owner: OwnerId,
    *,
    paths: Collection[RelPath] = (),
    assets: Collection[AssetId] = (),
    checksums: Collection[Sha1] = (),
    inodes: Collection[int] = (),
    entries: Collection[int] = (),
    events_but: Collection[int] | None = None,
    events_most: int = 0,
) -> Snapshot:
    """What bears on these paths, assets, contents, inodes and quarantine entries of an owner. Never writes.

    With ``events_but`` also the oldest events of the owner and of nobody but those with these ids, in order, at most
    ``events_most``; and what bears on the asset of the first, where there is no other.
    """
    row: Any = await pool.fetchrow(
        sql.block("view", "view"),
        owner,
        list(paths),
        list(assets),
        list(checksums),
        [signed(inode) for inode in inodes],
        list(entries),
        None if events_but is None else list(events_but),
        events_most,
    )
    columns = iter(row.values())
    known = [record_of(each) for each in _rows(islice(columns, 13))]
    quarantined = tuple(entry_of(each) for each in _rows(islice(columns, 12)))
    there = [(asset_of(each), ours) for *each, ours in _rows(islice(columns, 8))]
    events = tuple(Event(*each) for each in _rows(islice(columns, 4)))
    return Snapshot(
        {record.path: record for record in known},
        quarantined,
        frozenset(row["further_entries"]),
        {asset.id: asset for asset, _ in there},
        frozenset(asset.id for asset, ours in there if ours),
        frozenset(row["deleted"]),
        row["owner_active"],
        row["trash_enabled"],
        events,
    )


def _rows(columns: Iterable[Sequence[Any] | None]) -> Iterable[tuple[Any, ...]]:
    """The rows that these columns make; none where the columns are null."""
    return zip(*(column or () for column in columns), strict=True)
