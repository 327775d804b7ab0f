"""Gathers what bears on some paths or assets of one owner into a View for the decision table."""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog

from immich_dbsync.core.actions import Why
from immich_dbsync.core.view import View
from immich_dbsync.disk.hashing import Hashed
from immich_dbsync.disk.marker import Health, health
from immich_dbsync.disk.root import Root
from immich_dbsync.immich.library import Library, Snapshot
from immich_dbsync.model import Asset, AssetId, Entry, File, OwnerId, Record, RelPath, Sha1, Stat
from immich_dbsync.service.rules import Rules
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
        store: Store,
        library: Library,
        known: Known,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.owner, self.root, self.root_id, self.stfolders = owner, root, root_id, stfolders
        self.rules, self.known = rules, known
        self._store, self._library, self._clock, self._wall_ns = store, library, clock, wall_ns
        self._health, self._checked_at = Health.OK, float("-inf")
        self.was_unwell = False  # whether some look found the root not healthy; whoever makes up for it clears it

    async def look(
        self,
        paths: Collection[RelPath] = (),
        assets: Collection[AssetId] = (),
        entries: Collection[int] = (),
        *,
        last: bool = False,
    ) -> Seen:
        """Observe these paths, these assets' paths and these quarantine entries, and all that bears on them.

        ``last``: right before a request, so nothing may be taken from an earlier look. Raises RootLost when the root is
        not at its path any more.
        """
        state = await self._health_now(last=last)
        ids, numbers, followed = {*assets}, {*entries}, 0
        while True:
            quarantined, near = await asyncio.gather(
                self._store.entries_of_view(self.owner, ids, numbers, paths),
                # For the most part nothing else is to be asked of an asset: it is not waited for what is in quarantine.
                self._store.records_of_view(self.owner, [], assets, [], []) if assets and not paths else _none(),
            )
            # Quarantined files come back to a path: what is there now matters.
            wanted = {*paths, *(entry.path for entry in quarantined)}
            stats, records = await self._closure(wanted, assets, near, last=last)
            files = self._files(stats, records, await self._born(stats, records))
            tied = {record.asset_id for record in records.values() if record.asset_id is not None}
            if records.keys() <= files.keys() or tied <= ids:
                break
            # Something is missing. Is it on its way back from quarantine? Then what is at its path bears on it too.
            more = await self._store.entries_of_view(self.owner, tied)
            new = {entry.id for entry in more} - {entry.id for entry in quarantined} - numbers
            if not new or followed == _RENAMES_IN_A_ROW:
                break
            numbers |= new
            followed += 1
        ids |= tied | {entry.asset_id for entry in quarantined}
        checksums = {record.content.sha1 for record in records.values()} | {*self._checksums(stats)}
        now = await self._snapshot(ids, checksums | {entry.content.sha1 for entry in quarantined})
        missing = ids - now.assets.keys()
        deleted = await self._evidence(missing) if missing else frozenset[AssetId]()
        view = self._view(files, records, now.assets, quarantined, healthy=state is Health.OK)
        if followed == _RENAMES_IN_A_ROW:  # more may be on its way back than was looked at: nothing missing is decided
            view = replace(view, in_grace=frozenset(records.keys() - files.keys()))
        view = replace(
            view,
            deleted=deleted,
            trashed_by_us=now.trashed_by_us,
            owner_active=now.owner_active,
            trash_enabled=now.trash_enabled,
        )
        return Seen(view, state, await self._folders([path for path in paths if path not in files], records))

    def _view(
        self,
        files: dict[RelPath, File],
        records: dict[RelPath, Record],
        assets: dict[AssetId, Asset],
        entries: tuple[Entry, ...],
        *,
        healthy: bool,
    ) -> View:
        rules, known, now = self.rules, self.known, self._wall_ns()
        return View(
            files=files,
            records=records,
            assets=assets,
            entries=entries,
            in_grace=self._in_grace(files, records),
            unidentified_sizes=known.sizes_in_hand(),
            excluded=frozenset(path for path in records if rules.names.file(path) is not None),
            healthy=healthy,
            unfamiliar=known.unfamiliar,
            may_copy=known.may_copy,
            policies=rules.policies,
            keep_created_before_ns=None if rules.delete_threshold_ns is None else now - rules.delete_threshold_ns,
            purge_before_ns=None if rules.retention_ns is None else now - rules.retention_ns,
        )

    async def _closure(
        self,
        wanted: Collection[RelPath],
        assets: Collection[AssetId],
        near: dict[RelPath, Record] | None,
        *,
        last: bool,
    ) -> tuple[dict[RelPath, Stat | OSError | None], dict[RelPath, Record]]:
        """The stats of these paths and of all that bears on them, and the records of all of these; ``near`` has those
        of the assets alone, where they are known already.

        A file that was renamed leads to the record of where it was, and what is there now perhaps to yet another.
        """
        stats = await self._stats(wanted, last=last) if wanted else {}
        known: set[int] = set()
        records: dict[RelPath, Record] = {}
        for further in range(_RENAMES_IN_A_ROW):
            inodes = {stat.inode for stat in stats.values() if isinstance(stat, Stat)} - known
            if further and not inodes:
                break
            if near is None or wanted or further:
                near = await self._store.records_of_view(self.owner, wanted, assets, self._checksums(stats), inodes)
            records |= near
            known |= inodes | {record.stat.inode for record in records.values()}
            if others := records.keys() - stats.keys():
                stats |= await self._stats(others, last=last)
        return stats, records

    async def _snapshot(self, ids: Collection[AssetId], checksums: Collection[Sha1]) -> Snapshot:
        """What Immich says of these assets, with what protects them where the settings say so."""
        now = await self._library.snapshot(self.owner, ids, checksums)
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
                os.close(self.root.open_directory(path))
                folders.append(path)
        return folders

    async def _evidence(self, missing: Collection[AssetId]) -> frozenset[AssetId]:
        """Which of these assets, whose rows are gone, were deleted: our events say so, or Immich's audit."""
        by_event, by_audit = await asyncio.gather(
            self._store.deleted_by_event(self.owner, missing), self._library.audited(self.owner, missing)
        )
        return by_event | by_audit

    async def _stats(self, paths: Collection[RelPath], *, last: bool) -> dict[RelPath, Stat | OSError | None]:
        """Each path's stat, None where it is gone, or why that can't be told.

        Before a request each is reached from the root anew: a folder that is held open may be exchanged meanwhile.
        """
        if not last:
            return await asyncio.to_thread(self.root.stats, paths)
        return await asyncio.to_thread(lambda: {path: self.root.stats([path])[path] for path in paths})

    def _checksums(self, stats: dict[RelPath, Stat | OSError | None]) -> list[Sha1]:
        """The contents of files that were just hashed and have not changed since."""
        identified = self.known.identified
        return [
            hashed.content.sha1
            for path, stat in stats.items()
            if (hashed := identified.get(path)) is not None and hashed.stat == stat
        ]

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


async def _none() -> None:
    """For what is not asked."""
