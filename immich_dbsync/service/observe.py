"""Gathers what bears on some paths or assets of one owner into a View for the decision table."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import asyncpg
import structlog

from immich_dbsync.core.actions import Why
from immich_dbsync.core.view import View
from immich_dbsync.disk.hashing import Hashed
from immich_dbsync.disk.marker import Health, health
from immich_dbsync.disk.root import Root
from immich_dbsync.immich.library import Library
from immich_dbsync.model import AssetId, File, OwnerId, Record, RelPath, Sha1, Stat
from immich_dbsync.service.rules import Rules
from immich_dbsync.service.snapshot import Snapshot, snapshot
from immich_dbsync.store.records import Store

log = structlog.get_logger()

_SCAN_GRACE_S = 600.0  # for which a deletion waits for a scan that may find the picture at another path
_HEALTH_S = 1.0  # for which a root's markers are believed; they cost an open for each folder at its top
_RENAMES_IN_A_ROW = 4  # a→b, b→c and so on are followed so far; what lies beyond is hashed instead
_LOST = frozenset({Health.MISSING, Health.REPLACED, Health.UNREADABLE})


class RootLost(Exception):
    """The folder that was opened is not at its path any more; ``health`` says what is."""

    def __init__(self, state: Health) -> None:
        super().__init__(state.value)
        self.health = state


@dataclass(slots=True)
class Known:
    """What a running service knows of an owner beyond disk and database; a one-shot command knows nothing."""

    identified: dict[RelPath, Hashed] = field(default_factory=dict)  # hashed, not yet looked at again
    gone_since: dict[RelPath, float] = field(default_factory=dict)  # of the caller's clock
    sizes_in_hand: Callable[[], frozenset[int]] = frozenset  # of files that wait to be hashed
    taken: set[RelPath] = field(default_factory=set)  # by us to quarantine, until the watch tells that they are gone
    unfamiliar: Why | None = None  # FIRST_SIGHT or SETTINGS_CHANGED until a full scan is worked off
    scanning: bool = False  # a file that is missing may be about to turn up elsewhere
    may_copy: bool = True  # until the server says that the key may not
    owner_active: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """A View, and what was seen on the way: the root's health, and which of the paths asked for are folders to scan."""

    view: View
    health: Health
    folders: frozenset[RelPath]


class Observer:
    """Observes one owner. Never writes anything."""

    def __init__(
        self,
        *,
        owner: OwnerId,
        root: Root,
        root_id: UUID | None,
        stfolders: frozenset[bytes],
        rules: Rules,
        pool: "asyncpg.Pool[asyncpg.Record]",
        known: Known,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] | None = None,
    ) -> None:
        self.owner, self.root, self.root_id, self.stfolders = owner, root, root_id, stfolders
        self.rules, self.known = rules, known
        self._pool, self._store, self._library = pool, Store(pool), Library(pool)
        self._clock, self._wall_ns = clock, wall_ns or time.time_ns
        self._health, self._checked_at = Health.OK, float("-inf")
        self.was_unwell = False  # whether some look found the root not healthy; whoever makes up for it clears it

    async def look(
        self,
        paths: Collection[RelPath] = (),
        assets: Collection[AssetId] = (),
        entries: Collection[int] = (),
        *,
        last: bool = False,
        first: Snapshot | None = None,
    ) -> Seen:
        """Observe these paths, these assets' paths and these quarantine entries, and all that bears on them.

        ``last``: right before a request, so nothing may be taken from an earlier look. ``first``: what the database
        just said of these assets. Raises RootLost when the root is not at its path any more.
        """
        state = await self._health_now(last=last)
        stats = await self._stats(paths, last=last) if paths else {}
        numbers, inodes = {*entries}, _inodes(stats)
        renames = followed = 0
        while True:
            checksums = self._checksums(stats)
            now, first = first, None
            if now is None:
                now = await snapshot(
                    self._pool,
                    self.owner,
                    paths=paths,
                    assets=assets,
                    checksums=checksums,
                    inodes=inodes,
                    entries=numbers,
                )
            # Quarantined files come back to a path: what is there now matters.
            others = {*now.records, *(entry.path for entry in now.entries)} - stats.keys()
            if others:
                stats |= await self._stats(others, last=last)
            # A file that was renamed leads to the record of where it was, and what is there now perhaps to yet another.
            beyond = _inodes(stats) - inodes - {record.stat.inode for record in now.records.values()}
            unasked = self._checksums(stats) - checksums - {record.content.sha1 for record in now.records.values()}
            if (beyond or unasked) and renames < _RENAMES_IN_A_ROW:
                inodes |= beyond
                renames += 1
                continue
            files = self._files(stats, now.records, await self._born(stats, now.records))
            missing = now.records.keys() - files.keys()
            # Is what is missing on its way back from quarantine? Then what is at its path bears on it, too.
            more = now.further_entries if missing else frozenset[int]()
            if not more or followed == _RENAMES_IN_A_ROW:
                break
            numbers |= more
            followed += 1
        view = self._view(files, await self._protected(now), healthy=state is Health.OK)
        if more:  # on its way back is more than was looked at: nothing missing is decided
            view = replace(view, in_grace=frozenset(missing))
        return Seen(view, state, await self._folders([path for path in paths if path not in files], now.records))

    async def events(self, but: Collection[int], most: int) -> Snapshot:
        """The owner's oldest events but those with these ids, and all that bears on the asset of one that is alone."""
        return await snapshot(self._pool, self.owner, events_but=but, events_most=most)

    def _view(self, files: dict[RelPath, File], now: Snapshot, *, healthy: bool) -> View:
        rules, known, time_ns = self.rules, self.known, self._wall_ns()
        return View(
            files=files,
            records=now.records,
            damaged=tuple(record for record in now.records.values() if record.damaged),
            assets=now.assets,
            deleted=now.deleted,
            trashed_by_us=now.trashed_by_us,
            entries=now.entries,
            in_grace=self._in_grace(files, now.records),
            unidentified_sizes=known.sizes_in_hand(),
            excluded=frozenset(path for path in now.records if rules.names.file(path) is not None),
            owner_active=now.owner_active,
            healthy=healthy,
            unfamiliar=known.unfamiliar,
            trash_enabled=now.trash_enabled,
            may_copy=known.may_copy,
            policies=rules.policies,
            keep_created_before_ns=None if rules.delete_threshold_ns is None else time_ns - rules.delete_threshold_ns,
            purge_before_ns=None if rules.retention_ns is None else time_ns - rules.retention_ns,
        )

    async def _protected(self, now: Snapshot) -> Snapshot:
        """The same with what protects the assets, where the settings say that something does."""
        favourites, albums = self.rules.protect_favourites, self.rules.protect_albums
        if not now.assets or not (favourites or albums):
            return now
        protected = await self._library.protected(now.assets.keys(), favourites=favourites, albums=albums)
        return replace(
            now, assets={key: replace(asset, protected=key in protected) for key, asset in now.assets.items()}
        )

    async def _health_now(self, *, last: bool) -> Health:
        """The root's health, at most a second old; raises RootLost when the root is not at its path."""
        now = self._clock()
        if last or now - self._checked_at > _HEALTH_S or not self.root.still_there():
            self._health = await asyncio.to_thread(health, self.root, self.root_id, self.stfolders)
            self._checked_at = now
        if self._health in _LOST:
            raise RootLost(self._health)
        self.was_unwell |= self._health is not Health.OK
        return self._health

    def unwell_now(self) -> bool:
        """Whether the last look found the root not healthy."""
        return self._health is not Health.OK

    async def health(self) -> Health:
        """The root's health now; raises RootLost when the root is not at its path."""
        return await self._health_now(last=True)

    async def _folders(self, paths: Sequence[RelPath], records: dict[RelPath, Record]) -> frozenset[RelPath]:
        """Which of these paths are folders: on disk, or by the records below them."""
        if not paths:
            return frozenset()
        there = await asyncio.to_thread(self._are_folders, paths)
        vanished = [path for path in paths if path not in there and path not in records]
        return frozenset([*there, *(await self._store.folders(self.owner, vanished) if vanished else ())])

    def _are_folders(self, paths: Sequence[RelPath]) -> list[RelPath]:
        folders: list[RelPath] = []
        for path in paths:
            with suppress(OSError):
                os.close(self.root.reach_directory(path))
                folders.append(path)
        return folders

    async def _stats(self, paths: Collection[RelPath], *, last: bool) -> dict[RelPath, Stat | OSError | None]:
        """Each path's stat, None where it is gone, or why that can't be told.

        Before a request each is reached from the root anew: a folder that is held open may be exchanged meanwhile.
        """
        if not last:
            return await asyncio.to_thread(self.root.stats, paths)
        return await asyncio.to_thread(lambda: {path: self.root.stats([path])[path] for path in paths})

    def _checksums(self, stats: dict[RelPath, Stat | OSError | None]) -> set[Sha1]:
        """The contents of files that were just hashed and have not changed since."""
        identified = self.known.identified
        return {
            hashed.content.sha1
            for path, stat in stats.items()
            if (hashed := identified.get(path)) is not None and hashed.stat == stat
        }

    async def _born(
        self, stats: dict[RelPath, Stat | OSError | None], records: dict[RelPath, Record]
    ) -> dict[RelPath, int | None]:
        """When inodes were made that other paths' records have as well: is it that file, or a new one?"""
        recorded: dict[int, set[RelPath]] = defaultdict(set)
        for path, record in records.items():
            recorded[record.stat.inode].add(path)
        asked = [
            path
            for path, stat in stats.items()
            if isinstance(stat, Stat) and stat.inode in recorded and recorded[stat.inode] != {path}
        ]
        if not asked:
            return {}
        return await asyncio.to_thread(lambda: {path: self.root.born(path) for path in asked})

    def _files(
        self,
        stats: dict[RelPath, Stat | OSError | None],
        records: dict[RelPath, Record],
        born: dict[RelPath, int | None],
    ) -> dict[RelPath, File]:
        files: dict[RelPath, File] = {}
        for path, stat in stats.items():
            record = records.get(path)
            if isinstance(stat, OSError):
                # What can't be looked at is taken for unchanged: nothing is concluded from not seeing it.
                if record is not None:
                    files[path] = File(path, record.stat, record.content)
                log.warning("file.unreadable", owner=str(self.owner), path=path, reason=stat.strerror)
            elif stat is not None and (record is not None or self._counts(path, stat)):
                hashed = self.known.identified.get(path)
                known = hashed.content if hashed is not None and hashed.stat == stat else None
                files[path] = File(path, stat, known, born.get(path))
        return files

    def _counts(self, path: RelPath, stat: Stat) -> bool:
        return stat.size > 0 and self.rules.names.file(path) is None

    def _in_grace(self, files: dict[RelPath, File], records: dict[RelPath, Record]) -> frozenset[RelPath]:
        """The missing paths that have not been missing for long enough; notes when each was first found missing."""
        now, since = self._clock(), self.known.gone_since
        for path in records:
            if path in files:
                since.pop(path, None)
        grace = max(self.rules.grace_s, _SCAN_GRACE_S) if self.known.scanning else self.rules.grace_s
        gone = [path for path in records if path not in files]
        return frozenset(path for path in gone if now - since.setdefault(path, now) < grace)


def _inodes(stats: dict[RelPath, Stat | OSError | None]) -> set[int]:
    return {stat.inode for stat in stats.values() if isinstance(stat, Stat)}
