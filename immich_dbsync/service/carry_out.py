"""Carries out what is quick and needs no request: what happens between folder and quarantine, and in our tables."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import structlog

from immich_dbsync.core.actions import (
    Adopt,
    Drop,
    NoteGone,
    PutBack,
    PutOnHold,
    Quarantine,
    Refresh,
    Restore,
    Supersede,
    Why,
)
from immich_dbsync.core.names import NameRules
from immich_dbsync.core.view import View
from immich_dbsync.disk import quarantine
from immich_dbsync.disk.errors import Changed, ChangedWhileRead, NotTaken, QuarantineUnsafe
from immich_dbsync.disk.hashing import hash_file, is_racy
from immich_dbsync.disk.quarantine import QuarantineBatch, RestoreBatch
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.sidecars import LARGEST, left_behind
from immich_dbsync.metrics import REMOVAL
from immich_dbsync.model import AssetId, Content, Direction, Entry, Hold, OwnerId, Record, RelPath, Xxh3
from immich_dbsync.service.guard import Guard
from immich_dbsync.service.observe import Known
from immich_dbsync.service.requests import batches
from immich_dbsync.service.threads import to_the_end
from immich_dbsync.store.records import Deed, Store

log = structlog.get_logger()

TOLD_APART = 50
"""Files of which each has a line of the log; of more at once that tells their count, and the history each."""

_TAKEN_AT_ONCE = 250  # files moved to quarantine, and then written down while the next ones go
_REFUSED = (Changed, NotTaken, QuarantineUnsafe, OSError)


def today() -> str:
    """The day that a file which goes to quarantine now is filed under (UTC)."""
    return datetime.now(UTC).date().isoformat()


def take_sidecars(batch: QuarantineBatch, root: Root, pictures: Sequence[Entry], names: NameRules) -> list[Entry]:
    """Move the sidecars of pictures that were quarantined after them; their entries. Blocks."""
    taken = []
    assets = {entry.path: entry.asset_id for entry in pictures}
    for sidecar, picture in left_behind(root, assets, names).items():
        try:
            hashed = hash_file(root, sidecar, largest=LARGEST)
            moved = batch.take(sidecar, hashed.stat, hashed.content.xxh3)
        except (*_REFUSED, ChangedWhileRead) as error:
            log.warning("quarantine.refused", path=sidecar, reason=str(error))
        else:
            taken.append(Entry(0, sidecar, moved.location, moved.stat, hashed.content, assets[picture]))
    return taken


class Hands:
    """What an owner's sync can do by itself, without Immich's server."""

    def __init__(
        self,
        *,
        owner: OwnerId,
        root: Root,
        store: Store,
        known: Known,
        guard: Guard,
        names: NameRules,
        day: Callable[[], str] = today,
    ) -> None:
        self.owner, self.root, self.store, self.known, self.guard = owner, root, store, known, guard
        self._names, self._day = names, day

    def record(
        self,
        view: View,
        path: RelPath,
        content: Content,
        asset_id: AssetId | None,
        *,
        problem: str | None = None,
        hold: Hold | None = None,
    ) -> Record:
        """The record that says that this content lies at this path, as seen in the view."""
        stat = view.files[path].stat
        hashed = self.known.identified.get(path)
        racy = hashed is not None and hashed.stat == stat and is_racy(stat, hashed.started_ns)
        return Record(path, stat, content, asset_id, racy, problem, hold, self._damage(view, path, content))

    @staticmethod
    def _damage(view: View, path: RelPath, content: Content) -> Xxh3 | None:
        """Other bytes than its content's that were found in the file, here or where it was before it was renamed; None
        once it has been read again.
        """
        file = view.files[path]
        if file.content is not None:
            return None
        same = (r for r in view.damaged if r.content == content and r.stat.same_file(file.stat))
        return next((record.damaged for record in same), None)

    # --- our tables ---

    async def tie(self, view: View, actions: Sequence[Adopt | Refresh] | Sequence[Restore]) -> None:
        """Rows 2, 3, 6 and 8: note which asset each path belongs to."""
        await self.store.upsert(self.owner, [self.record(view, a.path, a.content, a.asset_id) for a in actions])
        adopted = [a for a in actions if isinstance(a, Adopt)]
        await self.store.remember(
            self.owner, [Deed("adopt", "Immich has the same picture", a.path, a.asset_id) for a in adopted]
        )
        for action in actions:
            self.known.identified.pop(action.path, None)
        if adopted:
            log.info("file.adopted", owner=str(self.owner), count=len(adopted))

    async def drop(self, actions: Sequence[Drop]) -> None:
        """Rows 12 to 14: the record ends."""
        await self.store.drop(self.owner, [a.path for a in actions])
        deeds = [Deed("release" if a.why in RELEASES else "drop", a.why, a.path) for a in actions]
        await self.store.remember(self.owner, [deed for deed in deeds if deed.cause != Why.NEVER_TIED])
        for action in actions:
            self.known.gone_since.pop(action.path, None)
            if len(actions) <= TOLD_APART:
                log.info("record.dropped", owner=str(self.owner), path=action.path, why=action.why.value)
        if len(actions) > TOLD_APART:
            for why, count in Counter(action.why.value for action in actions).items():
                log.info("record.dropped", owner=str(self.owner), count=count, why=why)

    async def hold(self, view: View, actions: Sequence[PutOnHold]) -> None:
        """Let deletions wait for a person."""
        groups: dict[tuple[Direction, Why, int | None], list[PutOnHold]] = {}
        for action in actions:
            key = (action.direction, action.why, action.hold.id if action.hold is not None else None)
            groups.setdefault(key, []).append(action)
        for (direction, why, known), members in groups.items():
            number = known if known is not None else await self.guard.open(direction, why)
            # What is missing has its record, whatever is at its path now.
            there = [a for a in members if a.direction is Direction.IMMICH and a.path in view.files]
            records = [self.record(view, a.path, a.content, a.asset_id, hold=Hold(number)) for a in there]
            if records:
                await self.store.upsert(self.owner, records)
            await self.guard.holds.add(self.owner, number, [a.path for a in members])
            self.guard.note(direction, [a.path for a in members], held=True)
            deeds = [Deed("hold", why, a.path, a.asset_id) for a in members]
            await self.store.remember(self.owner, deeds)
            log.warning(
                "hold.opened",
                owner=str(self.owner),
                hold=number,
                direction=direction.value,
                files=len(members),
                why=why.value,
            )

    async def supersede(self, actions: Sequence[Supersede]) -> None:
        """Row 15 where the same content is there already."""
        await self.store.supersede(self.owner, ids=[a.entry.id for a in actions])

    async def note_gone(self, actions: Sequence[NoteGone]) -> None:
        """Before row 16: remember that these entries' assets were deleted for good."""
        await self.store.note_gone(self.owner, [a.entry.id for a in actions])

    # --- into quarantine ---

    async def quarantine(
        self, view: View, actions: Sequence[Quarantine]
    ) -> tuple[list[Quarantine], frozenset[RelPath]]:
        """Rows 4 and 7: move files to quarantine after a last look.

        Returns those that could not be moved, and the paths whose files had left by themselves.
        """
        failed: list[Quarantine] = []
        left: set[RelPath] = set()
        # Before the first goes: the watch may tell of it before the last has gone.
        self.known.taken.update(action.path for action in actions)
        noting: asyncio.Task[None] | None = None
        try:
            for part in batches(actions, _TAKEN_AT_ONCE):
                entries, unmoved = await to_the_end(self._quarantine, view, part)
                here = {action.path for action in part} - {entry.path for entry in entries}
                self.known.taken -= here
                failed += unmoved
                left |= here.difference(action.path for action in unmoved)
                if noting is not None:
                    await noting
                # While PostgreSQL writes, the next files go.
                noting = asyncio.create_task(self._note_quarantined(view, part, entries))
            if noting is not None:
                await noting
        except BaseException:
            if noting is not None:
                noting.cancel()
                await asyncio.gather(noting, return_exceptions=True)
            raise
        return failed, frozenset(left)

    async def _note_quarantined(self, view: View, actions: Sequence[Quarantine], entries: Sequence[Entry]) -> None:
        """Write down what was moved by these actions, and tell of it."""
        if not entries:
            return
        self.known.taken.update(entry.path for entry in entries)  # sidecars, too
        whys = {action.path: action for action in actions}
        causes = [_cause(whys.get(entry.path)) for entry in entries]
        await self.store.add_entries(self.owner, entries, causes)
        _time(view, entries)
        for entry, cause in zip(entries, causes, strict=True):
            self.known.identified.pop(entry.path, None)
            if len(entries) <= TOLD_APART:
                log.info("file.quarantined", owner=str(self.owner), path=entry.path, why=cause)
        if len(entries) > TOLD_APART:
            for cause, count in Counter(causes).items():
                log.info("file.quarantined", owner=str(self.owner), count=count, why=cause)
        self.guard.note(Direction.IMMICH, [e.path for e in entries if (a := whys.get(e.path)) and not a.approved])

    def _quarantine(self, view: View, actions: Sequence[Quarantine]) -> tuple[list[Entry], list[Quarantine]]:
        entries: list[Entry] = []
        failed: list[Quarantine] = []
        with QuarantineBatch(self.root, self._day()) as batch:
            for action in actions:
                # The stat that was trusted, so that the last look sees every change since; for a file that moved or was
                # hashed just now that is what was seen in this view.
                record = view.records.get(action.path)
                file = view.files[action.path]
                expected = record.stat if record is not None and record.content == action.content else file.stat
                try:
                    moved = batch.take(action.path, expected, action.content.xxh3)
                except FileNotFoundError:
                    continue  # it left the folder by itself
                except _REFUSED as error:
                    log.warning("quarantine.refused", owner=str(self.owner), path=action.path, reason=str(error))
                    failed.append(action)
                else:
                    entries.append(Entry(0, action.path, moved.location, moved.stat, action.content, action.asset_id))
            entries += take_sidecars(batch, self.root, entries, self._names)
        return entries, failed

    # --- out of quarantine ---

    async def put_back(self, actions: Sequence[PutBack]) -> list[Entry]:
        """Row 15: move files back to where they were, or beside it; returns those that could not be moved."""
        back, ended, kept, failed = await to_the_end(self._put_back, actions)
        self.known.taken.difference_update(record.path for _, record in back)
        records = [record for _, record in back if record.asset_id is not None]
        await self.store.upsert(self.owner, records, [entry.id for entry, _ in back])
        why = "its asset was restored in Immich"
        await self.store.remember(self.owner, [Deed("put back", why, r.path, e.asset_id) for e, r in back])
        for _, record in back if len(back) <= TOLD_APART else ():
            log.info("file.put_back", owner=str(self.owner), path=record.path)
        if len(back) > TOLD_APART:
            log.info("file.put_back", owner=str(self.owner), count=len(back))
        if ended:
            await self.store.drop_entries(self.owner, [entry.id for entry in ended])
        if kept:
            await self.store.supersede(self.owner, ids=[entry.id for entry in kept])
        return failed

    def _put_back(
        self, actions: Sequence[PutBack]
    ) -> tuple[list[tuple[Entry, Record]], list[Entry], list[Entry], list[Entry]]:
        """What came back, what is not in quarantine any more, what stays there as its place is taken, what failed."""
        back: list[tuple[Entry, Record]] = []
        ended: list[Entry] = []
        kept: list[Entry] = []
        failed: list[Entry] = []
        with RestoreBatch(self.root) as batch:
            for action in actions:
                entry = action.entry
                if action.tie is None and self._is_there(entry):
                    kept.append(entry)
                    continue
                try:
                    path, stat = batch.put_back(entry.location, entry.path, entry.stat)
                except FileNotFoundError:
                    log.warning("quarantine.lost", owner=str(self.owner), path=entry.path)
                    ended.append(entry)
                except Changed as error:
                    log.warning("put_back.refused", owner=str(self.owner), path=entry.path, reason=str(error))
                    kept.append(entry)
                except (QuarantineUnsafe, OSError) as error:
                    log.warning("put_back.refused", owner=str(self.owner), path=entry.path, reason=str(error))
                    failed.append(entry)
                else:
                    back.append((entry, Record(path, stat, entry.content, action.tie)))
        return back, ended, kept, failed

    def _is_there(self, entry: Entry) -> bool:
        """Whether the same content is at the entry's path already, for what no View tells of: a sidecar."""
        try:
            return hash_file(self.root, entry.path, largest=entry.stat.size).content == entry.content
        except (OSError, NotTaken, ChangedWhileRead):
            return False

    async def bring_back(self, entries: Sequence[Entry]) -> list[tuple[Entry, RelPath]]:
        """Move files back because somebody asks for it; those that were moved, and where they are now.

        They get no record: each is then decided about like a file that was copied there by hand.
        """
        back, ended, _, _ = await to_the_end(self._put_back, [PutBack(entry, None) for entry in entries])
        self.known.taken.difference_update(record.path for _, record in back)
        await self.store.drop_entries(self.owner, [entry.id for entry in (*(entry for entry, _ in back), *ended)])
        why = "somebody asked for it"
        await self.store.remember(self.owner, [Deed("put back", why, r.path, e.asset_id) for e, r in back])
        for _, record in back:
            log.info("file.put_back", owner=str(self.owner), path=record.path)
        return [(entry, record.path) for entry, record in back]

    async def purge(
        self, entries: Sequence[Entry], why: str = "its asset was deleted for good, and the retention is over"
    ) -> list[Entry]:
        """Row 16: delete files from quarantine whose assets were deleted for good; returns those that are gone now."""
        ended = await to_the_end(self._purge, entries)
        await self.store.drop_entries(self.owner, [entry.id for entry in ended])
        await self.store.remember(self.owner, [Deed("purge", why, e.path, e.asset_id) for e in ended])
        for entry in ended:
            log.info("file.purged", owner=str(self.owner), path=entry.path)
        return ended

    def _purge(self, entries: Iterable[Entry]) -> list[Entry]:
        ended = []
        for entry in entries:
            try:
                quarantine.purge(self.root, entry.location, entry.stat)
            except FileNotFoundError:
                ended.append(entry)
            except _REFUSED as error:  # tried again at the next catch-up
                log.warning("purge.refused", owner=str(self.owner), path=entry.path, reason=str(error))
            else:
                ended.append(entry)
        return ended


RELEASES = frozenset({Why.RELEASED, Why.PROTECTED, Why.KEPT_BY_POLICY, Why.REJECTED, Why.MOTION_PART, Why.EXCLUDED})
"""Row 13: the asset stays though its file is gone."""


def _time(view: View, entries: Sequence[Entry]) -> None:
    now = time.time()
    for entry in entries:
        asset = view.assets.get(entry.asset_id)
        if asset is not None and asset.deleted_ns is not None:
            REMOVAL.observe(max(0.0, now - asset.deleted_ns / 1e9))


def _cause(action: Quarantine | None) -> str:
    return action.why.value if action is not None else "it belongs to a picture that was taken out"
