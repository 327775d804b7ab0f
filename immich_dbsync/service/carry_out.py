"""Carries out what is quick and needs no request: quarantine, putting back, and what only our tables are told."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from immich_dbsync.core.actions import Adopt, Drop, PutBack, Quarantine, Refresh, Restore, Supersede, Why
from immich_dbsync.core.reconcile import View
from immich_dbsync.disk.errors import Changed, NotTaken, QuarantineUnsafe
from immich_dbsync.disk.hashing import is_racy
from immich_dbsync.disk.quarantine import QuarantineBatch, Quarantined, put_back
from immich_dbsync.disk.root import Root
from immich_dbsync.model import AssetId, Content, Entry, OwnerId, Record, RelPath
from immich_dbsync.service.observe import Known
from immich_dbsync.service.threads import to_the_end
from immich_dbsync.store.records import Deed, Store

log = structlog.get_logger()


class Hands:
    """What an owner's sync can do by itself, without Immich's server."""

    def __init__(
        self,
        *,
        owner: OwnerId,
        root: Root,
        store: Store,
        known: Known,
        today: Callable[[], str] = lambda: datetime.now(UTC).date().isoformat(),
    ) -> None:
        self.owner, self.root, self.store, self.known = owner, root, store, known
        self._today = today

    def record(
        self, view: View, path: RelPath, content: Content, asset_id: AssetId | None, problem: str | None = None
    ) -> Record:
        """The record that says that this content lies at this path, as seen in the view."""
        stat = view.files[path].stat
        hashed = self.known.identified.get(path)
        racy = hashed is not None and hashed.stat == stat and is_racy(stat, hashed.started_ns)
        return Record(path, stat, content, asset_id, racy, problem)

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
        await self.store.remember(
            self.owner, [Deed("drop", a.why, a.path) for a in actions if a.why is not Why.NEVER_TIED]
        )
        for action in actions:
            self.known.gone_since.pop(action.path, None)
            log.info("record.dropped", owner=str(self.owner), path=action.path, why=action.why.value)

    async def supersede(self, actions: Sequence[Supersede]) -> None:
        """Row 15 where the same content is there already."""
        await self.store.supersede(self.owner, ids=[a.entry.id for a in actions])

    async def quarantine(self, view: View, actions: Sequence[Quarantine]) -> list[Quarantine]:
        """Rows 4 and 7: move files to quarantine after a last look; returns those that could not be moved."""
        moved, failed = await to_the_end(self._quarantine, view, actions)
        await self.store.add_entries(
            self.owner,
            [Entry(0, a.path, q.location, q.stat, a.content, a.asset_id) for a, q in moved],
        )
        await self.store.remember(self.owner, [Deed("quarantine", a.why, a.path, a.asset_id) for a, _ in moved])
        for action, _ in moved:
            self.known.identified.pop(action.path, None)
            log.info("file.quarantined", owner=str(self.owner), path=action.path, why=action.why.value)
        return failed

    def _quarantine(
        self, view: View, actions: Sequence[Quarantine]
    ) -> tuple[list[tuple[Quarantine, Quarantined]], list[Quarantine]]:
        moved: list[tuple[Quarantine, Quarantined]] = []
        failed: list[Quarantine] = []
        with QuarantineBatch(self.root, self._today()) as batch:
            for action in actions:
                # The stat that was trusted, so that the last look sees every change since; for a file that moved or was
                # hashed just now that is what was seen in this view.
                record = view.records.get(action.path)
                file = view.files[action.path]
                expected = record.stat if record is not None and record.content == action.content else file.stat
                try:
                    moved.append((action, batch.take(action.path, expected, action.content.xxh3)))
                except FileNotFoundError:
                    continue  # it left the folder by itself
                except (Changed, NotTaken, QuarantineUnsafe, OSError) as error:
                    log.warning("quarantine.refused", owner=str(self.owner), path=action.path, reason=str(error))
                    failed.append(action)
        return moved, failed

    async def put_back(self, actions: Sequence[PutBack]) -> None:
        """Row 15: move files back to where they were, or beside it."""
        back, lost, foreign = await to_the_end(self._put_back, [action.entry for action in actions])
        await self.store.upsert(self.owner, [record for _, record in back], [entry.id for entry, _ in back])
        why = "its asset was restored in Immich"
        await self.store.remember(self.owner, [Deed("put back", why, r.path, r.asset_id) for _, r in back])
        for _, record in back:
            log.info("file.put_back", owner=str(self.owner), path=record.path)
        if lost:
            await self.store.drop_entries(self.owner, [entry.id for entry in lost])
        if foreign:
            await self.store.supersede(self.owner, ids=[entry.id for entry in foreign])

    def _put_back(self, entries: Sequence[Entry]) -> tuple[list[tuple[Entry, Record]], list[Entry], list[Entry]]:
        """What came back, what is not in quarantine any more, and whose place there something else has taken."""
        back: list[tuple[Entry, Record]] = []
        lost: list[Entry] = []
        foreign: list[Entry] = []
        for entry in entries:
            try:
                path, stat = put_back(self.root, entry.location, entry.path, entry.stat)
            except FileNotFoundError:
                log.warning("quarantine.lost", owner=str(self.owner), path=entry.path)
                lost.append(entry)
            except Changed as error:
                log.warning("put_back.refused", owner=str(self.owner), path=entry.path, reason=str(error))
                foreign.append(entry)
            except (QuarantineUnsafe, OSError) as error:  # tried again at the next catch-up
                log.warning("put_back.refused", owner=str(self.owner), path=entry.path, reason=str(error))
            else:
                back.append((entry, Record(path, stat, entry.content, entry.asset_id)))
        return back, lost, foreign
