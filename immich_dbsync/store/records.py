"""Our tables, read and written through asyncpg: records, quarantine entries, events, history, owners.

Every method is one statement and so one short transaction. What arrives is plain values; arrays go over the wire
column by column, so that a thousand rows cost one round trip.
"""

import json
import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from immich_dbsync import sql
from immich_dbsync.metrics import DEEDS
from immich_dbsync.model import AssetId, Content, Entry, OwnerId, Record, RelPath, Sha1, Stat, Xxh3
from immich_dbsync.store.rows import entry_of, record_of, signed, unsigned


@dataclass(frozen=True, slots=True)
class OwnerRow:
    """What we keep of an owner: the id that their root's marker must hold, and whether a first scan has ended.

    ``rules``: digest of the settings under which the last full scan was worked off.
    """

    root_id: UUID | None
    scanned: bool
    stfolders: frozenset[bytes] = frozenset()
    rules: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One row of our triggers. ``kind``: trashed, deleting, restored, deleted or overflow."""

    id: int
    owner_id: OwnerId
    asset_id: AssetId
    kind: str


@dataclass(frozen=True, slots=True)
class Deed:
    """A line of the history: what was done, to what, and why."""

    action: str
    cause: str
    path: RelPath | None = None
    asset_id: AssetId | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What Immich was asked to take or to bring back: the path that it was at, its content and its size in bytes."""

    path: RelPath
    content: Content
    size: int


@dataclass(frozen=True, slots=True)
class Listed:
    """What a scan compares of a record."""

    path: RelPath
    stat: Stat
    racy: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file should hold by its record; ``damaged``: what it was found to hold instead."""

    path: RelPath
    stat: Stat
    racy: bool
    xxh3: Xxh3
    damaged: Xxh3 | None


class Store:
    """Our tables as seen by one pool."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]") -> None:
        self._pool = pool

    async def register_owner(self, owner: OwnerId) -> OwnerRow:
        """Turn capture on for the owner and return what is known of them."""
        await self._execute("owner_register", owner)
        row = await self.owner(owner)
        assert row is not None
        return row

    async def owner(self, owner: OwnerId) -> OwnerRow | None:
        """What is known of the owner; None where they were never synced."""
        row = await self._pool.fetchrow(sql.block("store", "owner"), owner)
        return OwnerRow(row["root_id"], row["scanned"], frozenset(row["stfolders"]), row["rules"]) if row else None

    async def set_root_id(self, owner: OwnerId, root_id: UUID) -> None:
        """Note what the marker in the owner's root says."""
        await self._execute("owner_root", owner, root_id)

    async def set_stfolders(self, owner: OwnerId, folders: Collection[bytes]) -> None:
        """Note which folders of the root hold a ``.stfolder`` when all is well."""
        await self._execute("owner_stfolders", owner, sorted(folders))

    async def set_problem(self, owner: OwnerId, kind: str, problem: str | None) -> None:
        """Note why the owner's sync waits; None when it does not, or not for this kind of reason."""
        await self._execute("owner_problem", owner, kind, problem)

    async def end_problems(self, owner: OwnerId) -> None:
        """Forget all reasons: whatever still stands is noted again."""
        await self._execute("owner_problems_end", owner)

    async def set_undecided(self, owner: OwnerId, counts: dict[str, int]) -> None:
        """Note why files are left alone now, and how many."""
        await self._execute("owner_undecided", owner, json.dumps(counts))

    async def set_scanned(self, owner: OwnerId, counts: dict[str, Any], rules: str | None) -> None:
        """Note what a full scan counted, and the digest of the settings under which it was worked off.

        None for those where not all that it found could be decided: then the next scan is as unfamiliar as this one.
        """
        await self._execute("owner_scanned", owner, json.dumps(counts), rules)

    async def set_summary(self, owner: OwnerId, since: datetime, counts: dict[str, Any]) -> dict[str, Any]:
        """Note what became of the first scan's files: ``counts`` and what the history says since; returns it."""
        rows = await self._fetch("owner_summary", owner, since, json.dumps(counts))
        summary: dict[str, Any] = json.loads(rows[0]["summary"])
        return summary

    async def now(self) -> datetime:
        """The database's time."""
        now: datetime = await self._pool.fetchval("select clock_timestamp()")
        return now

    async def records_at(self, owner: OwnerId, paths: Collection[RelPath]) -> dict[RelPath, Record]:
        """The records at these paths."""
        return {record.path: record for record in map(record_of, await self._fetch("records_at", owner, list(paths)))}

    async def record_digest(self, owner: OwnerId, after: bytes, limit: int) -> bytes | None:
        """SHA-256 over up to ``limit`` records after one path, in byte order of their paths; None where there is none.

        For each record: its path, a zero byte, then size, mtime, ctime and inode in eight bytes, the highest first. One
        that is racy has a byte more, so that nothing equals it.
        """
        rows = await self._fetch("record_digest", owner, after, limit)
        digest: bytes | None = rows[0]["digest"]
        return digest

    async def record_page(self, owner: OwnerId, after: bytes, before: bytes | None, limit: int) -> list[Listed]:
        """Up to ``limit`` records in byte order of their paths, after one path and before another (None: no end)."""
        rows = _before(before, await self._fetch("record_page", owner, after, limit))
        return [Listed(RelPath(row["path"]), _stat(row), row["racy"]) for row in rows]

    async def content_page(self, owner: OwnerId, after: bytes, before: bytes | None, limit: int) -> list[Expected]:
        """The same, with what each file should hold."""
        rows = _before(before, await self._fetch("content_page", owner, after, limit))
        return [Expected(RelPath(r["path"]), _stat(r), r["racy"], Xxh3(r["xxh3"]), r["damaged"]) for r in rows]

    async def upsert(self, owner: OwnerId, records: Sequence[Record], ended_entries: Collection[int] = ()) -> None:
        """Write records, each replacing what was known of its path, and end these quarantine entries."""
        await self._execute(
            "record_upsert",
            owner,
            *_files_of(records),
            [r.content.xxh3 for r in records],
            [r.content.sha1 for r in records],
            [r.asset_id for r in records],
            [r.problem for r in records],
            [r.hold.id if r.hold is not None else None for r in records],
            [r.damaged for r in records],
            list(ended_entries),
        )

    async def tie(self, owner: OwnerId, records: Sequence[Record], asset: AssetId, why: str) -> bool:
        """Write records of one content that was sent, tied to the asset that came of it; the history tells of each.

        False, and nothing is written, unless that asset is active and holds this very content.
        """
        content = records[0].content
        tied = await self._fetch(
            "record_tie",
            owner,
            *_files_of(records),
            content.xxh3,
            content.sha1,
            asset,
            why,
        )
        DEEDS.labels(str(owner), "upload").inc(len(tied))
        return bool(tied)

    async def drop(
        self, owner: OwnerId, paths: Collection[RelPath], *, tied_to: Collection[AssetId] | None = None
    ) -> None:
        """End the records at these paths; with ``tied_to`` only those tied to one of these assets."""
        await self._execute("record_drop", owner, list(paths), None if tied_to is None else list(tied_to))

    async def folders(self, owner: OwnerId, paths: Collection[RelPath]) -> list[RelPath]:
        """Which of these paths have records below them."""
        return [RelPath(row["path"]) for row in await self._fetch("folders", owner, list(paths))]

    async def entries(self, owner: OwnerId, ids: Collection[int]) -> list[Entry]:
        """The quarantined files with these ids."""
        return [entry_of(row) for row in await self._fetch("entries", owner, list(ids))]

    async def all_entries(self, owner: OwnerId) -> list[Entry]:
        """Everything in quarantine, oldest first."""
        return [entry_of(row) for row in await self._fetch("all_entries", owner)]

    async def entry_locations(self, owner: OwnerId) -> dict[bytes, int]:
        """Every quarantined file that is known: its location to its entry's id."""
        return {row["location"]: row["id"] for row in await self._fetch("entry_locations", owner)}

    async def add_entries(
        self, owner: OwnerId, entries: Sequence[Entry], causes: Sequence[str], *, end_records: bool = True
    ) -> None:
        """Write entries (the database gives them ids) with the cause of each, and end the records at their paths."""
        await self._execute(
            "entry_add",
            owner,
            [e.path for e in entries],
            [e.location for e in entries],
            [e.stat.size for e in entries],
            [e.stat.mtime_ns for e in entries],
            [signed(e.stat.inode) for e in entries],
            [e.content.xxh3 for e in entries],
            [e.content.sha1 for e in entries],
            [e.asset_id for e in entries],
            end_records,
            causes,
        )
        DEEDS.labels(str(owner), "quarantine").inc(len(entries))

    async def drop_entries(self, owner: OwnerId, ids: Collection[int]) -> None:
        """End quarantine entries whose files are not there any more."""
        await self._execute("entry_drop", owner, list(ids))

    async def supersede(self, owner: OwnerId, assets: Collection[AssetId] = (), ids: Collection[int] = ()) -> None:
        """Mark entries as never to be put back: the owner brought the picture back themselves."""
        await self._execute("entry_supersede", owner, list(assets), list(ids))

    async def note_gone(self, owner: OwnerId, ids: Collection[int]) -> None:
        """Note that the assets of these entries were deleted for good."""
        await self._execute("entry_gone", owner, list(ids))

    async def remember(self, owner: OwnerId, deeds: Iterable[Deed]) -> None:
        """Write lines of history."""
        lines = list(deeds)
        if lines:
            await self._execute(
                "history_add",
                owner,
                [d.action for d in lines],
                [d.path for d in lines],
                [d.asset_id for d in lines],
                [d.cause for d in lines],
            )
            for action, count in Counter(deed.action for deed in lines).items():
                DEEDS.labels(str(owner), action).inc(count)

    async def drop_events(self, ids: Collection[int]) -> None:
        """Remove events whose consequences are carried out."""
        await self._execute("event_drop", list(ids))

    async def begin_send(self, owner: OwnerId, send: Sent) -> bool:
        """Note that Immich is asked for an asset of this content; whether that was not noted before.

        Ends when a record is tied to that asset.
        """
        return bool(await self._fetch("send_add", owner, send.content.sha1, send.content.xxh3, send.size, send.path))

    async def end_sends(self, owner: OwnerId, contents: Collection[Sha1]) -> None:
        """What became of these contents in Immich does not concern us any more."""
        await self._execute("send_end", owner, list(contents))

    async def unclaimed_sends(self, owner: OwnerId) -> list[Sent]:
        """What Immich was asked to take, and no record holds, oldest first."""
        rows = await self._fetch("sends_unclaimed", owner)
        return [Sent(RelPath(r["path"]), Content(Sha1(r["sha1"]), Xxh3(r["xxh3"])), r["size"]) for r in rows]

    async def request_trash(self, owner: OwnerId, assets: Collection[AssetId]) -> None:
        """Note, before it is sent, that we ask for these assets to be trashed."""
        await self._execute("trash_request_add", owner, list(assets))

    async def end_requests(self, owner: OwnerId, assets: Collection[AssetId]) -> None:
        """Forget our requests for these assets: they were restored, and whoever trashes them now means it."""
        await self._execute("trash_request_end", owner, list(assets))

    async def restored(self, owner: OwnerId, events: Collection[int]) -> None:
        """Forget our requests for assets that were restored since, by these events."""
        await self._execute("trash_request_restored", owner, list(events))

    async def clean_requests(self, owner: OwnerId, under_way: Collection[AssetId]) -> None:
        """Forget requests for assets that are not in the trash any more, but for those that are ``under_way``."""
        await self._execute("trash_request_clean", owner, list(under_way))

    async def catch_up_paths(self, owner: OwnerId, after: bytes, limit: int) -> list[RelPath]:
        """Up to ``limit`` paths, in byte order, whose asset is not what the record says or that have none yet."""
        return [RelPath(row["path"]) for row in await self._fetch("catch_up_records", owner, after, limit)]

    async def catch_up_entries(self, owner: OwnerId, retention: timedelta | None) -> list[int]:
        """Quarantine entries whose asset is active again or gone, as far as that is news or the retention is over."""
        return [row["id"] for row in await self._fetch("catch_up_entries", owner, retention)]

    # --- copies ---

    async def sizes_seen(self, owner: OwnerId, sizes: Mapping[RelPath, int]) -> dict[RelPath, tuple[bool, bool]]:
        """For each path whether a recorded file has its size, and whether anything else is known that it may be."""
        rows = await self._fetch("sizes_seen", owner, list(sizes), list(sizes.values()))
        return {path: (row["recorded"], row["known"]) for path, row in zip(sizes, rows, strict=True)}

    async def knows_sizes(self) -> bool:
        """Whether ``library_sizes`` can be asked of this Immich."""
        return bool(await self._pool.fetchval(sql.block("store", "knows_sizes")))

    async def library_sizes(self, owner: OwnerId, since: datetime | None) -> tuple["array[int]", bool, datetime]:
        """The sizes in bytes, ascending, of the owner's assets created since then (None: ever).

        Also whether one is about to become known to Immich, and the database's time.
        """
        [row] = await self._fetch("library_sizes", owner, since)
        sizes = array("q", row["sizes"])
        if sys.byteorder == "little":
            sizes.byteswap()
        return sizes, row["awaited"], row["at"]

    async def contents_of_copies(
        self, owner: OwnerId, files: Mapping[RelPath, tuple[int, Xxh3]]
    ) -> dict[RelPath, Content]:
        """The recorded content of each of these files, told by its size and XXH3; those that have none are left out."""
        sizes, digests = [size for size, _ in files.values()], [xxh3 for _, xxh3 in files.values()]
        rows = await self._fetch("contents_of_copies", owner, sizes, digests) if files else []
        return {
            path: Content(Sha1(row["sha1"]), xxh3)
            for (path, (_, xxh3)), row in zip(files.items(), rows, strict=True)
            if row["sha1"] is not None
        }

    # --- damage ---

    async def forget_refusals(self, owner: OwnerId, prefix: bytes = b"") -> None:
        """Have the files at and below ``prefix`` that Immich refused tried again."""
        await self._pool.execute(sql.block("store", "refusals_forget"), owner, prefix)

    async def set_damage(self, owner: OwnerId, path: RelPath, found: Xxh3 | None) -> None:
        """Note which other bytes were found under an unchanged stat; None when all is well."""
        await self._execute("damage_set", owner, path, found)

    async def _execute(self, name: str, *arguments: object) -> None:
        await self._pool.execute(sql.block("store", name), *arguments)

    async def _fetch(self, name: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._pool.fetch(sql.block("store", name), *arguments)


def _files_of(records: Sequence[Record]) -> tuple[list[Any], ...]:
    """Columns of these records: path, size, mtime, ctime, inode, racy."""
    return (
        [r.path for r in records],
        [r.stat.size for r in records],
        [r.stat.mtime_ns for r in records],
        [r.stat.ctime_ns for r in records],
        [signed(r.stat.inode) for r in records],
        [r.racy for r in records],
    )


def _stat(row: asyncpg.Record) -> Stat:
    return Stat(row["size"], row["mtime_ns"], row["ctime_ns"], unsigned(row["inode"]))


def _before(end: bytes | None, rows: Sequence[asyncpg.Record]) -> Sequence[asyncpg.Record]:
    """The first of these rows in path order, up to a path. Asked of PostgreSQL it would read, and sort, all up to there
    for each page.
    """
    return rows if end is None else rows[: bisect_left(rows, end, key=lambda row: row["path"])]
