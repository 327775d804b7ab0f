"""One owner's sync: hints come in, the decision table is asked, and what it says is carried out.

All looking and quick doing happens under one lock, so that no decision rests on what another is about to change.
Hashing, uploads and requests go through queues outside of it (workers.py), and end by looking at their paths again.
Nothing is kept here that a restart would need: what is in hand when the service ends is found anew.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from immich_dbsync.core.actions import Action, Drop, Identify, Leave, PutOnHold, Restore, Trash, Why, paths_of
from immich_dbsync.core.quarantined import deleted_for_good
from immich_dbsync.core.reconcile import reconcile
from immich_dbsync.core.view import View
from immich_dbsync.disk.marker import Health
from immich_dbsync.model import AssetId, Direction, Entry, Record, RelPath
from immich_dbsync.service.dispatch import Dispatch
from immich_dbsync.service.guard import Guard
from immich_dbsync.service.observe import Seen
from immich_dbsync.service.parts import Parts
from immich_dbsync.service.queues import Job, Queues, Unread
from immich_dbsync.service.requests import batches
from immich_dbsync.service.todo import Todo
from immich_dbsync.store.records import Event

log = structlog.get_logger()

_Done = tuple[Seen, Sequence[Action], Sequence[Action], set[AssetId]]
"""What a look saw, all that was decided, the part of it that was seen to, and the assets that stuck."""

_LOST = frozenset({"trashed", "deleting", "deleted"})
"""Kinds of events that tell of an asset's going."""

LOOK = 2000
"""Assets looked at together: the more, the fewer folders are opened again and again for those that lie in them."""

_MANY = 10_000  # files and records; what is decided of more is decided beside the event loop, which is everybody's


class OwnerSync:
    """Looks at paths and assets, decides, does what is quick, and hands the rest to the queues."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.owner, self.key, self.root, self.known = parts.owner, parts.key, parts.root, parts.known
        self.store, self.library, self.server = parts.store, parts.library, parts.server
        self.todo = Todo()
        self.guard = Guard(parts.owner, parts.holds, parts.rules.limits)
        self.queues = Queues()
        self.unclaimed = True  # something that was sent may have to be taken back
        self.claiming = False  # that is being found out, or could not be told yet
        self.entries_left = False  # files that should have come back from quarantine, of which no event tells
        self.looked = False  # at all that happened before this sync began
        self.asked = asyncio.Event()
        self.asked.set()  # what was asked before this service began is to be answered as well
        self.to_scan: set[bytes] = set()
        self.scan_wanted = asyncio.Event()
        self.dispatch = Dispatch(parts, self.guard, self.queues, self.todo)
        self._lock = asyncio.Lock()
        parts.known.sizes_in_hand = lambda: frozenset((*self.queues.sizes, *self.todo.unsettled_sizes()))

    # --- what comes in ---

    def hint(self, paths: Iterable[RelPath], *, after: float = 0.0) -> None:
        """Have these paths looked at, ``after`` that many seconds."""
        self.todo.hint(paths, after=after)

    async def heard(self, paths: frozenset[RelPath]) -> None:
        """The watch tells of these paths: have them looked at, but for those whose going is our own doing."""
        taken = paths & self.known.taken
        self.known.taken -= taken
        if taken:
            paths -= await asyncio.to_thread(self.root.absent, taken)
        self.hint(paths)

    def scan(self, prefix: bytes = b"") -> None:
        """Have everything at and below ``prefix`` compared with its records; ``b""`` is the whole root."""
        self.to_scan.add(prefix)
        self.scan_wanted.set()

    def scanned(self) -> None:
        """No scan is under way or wanted."""
        self.known.scanning = False
        self.todo.scan_over()

    def lengths(self) -> dict[str, int]:
        """How many files wait, by what for."""
        queues = self.queues
        return {
            "look": len(self.todo.agenda),
            "hash": len(queues.hashing),
            "upload": len(queues.uploading),
            "trash": len(queues.to_trash),
            "restore": len(queues.to_restore),
        }

    def looking(self) -> bool:
        """Whether paths are due, or are being looked at just now."""
        return self._lock.locked() or self.todo.behind()

    def identified(self) -> bool:
        """Whether every file has been identified and all that is due decided; requests may be under way."""
        return not self.queues.hashing and not self.todo.settling() and not self.todo.behind()

    def idle(self) -> bool:
        """Whether nothing is under way, or will be before long."""
        busy = (
            self.queues.working()
            or self.unclaimed
            or self.claiming
            or self.dispatch.before
            or self.scan_wanted.is_set()
        )
        soon = self.parts.rules.grace_s + 1.0
        settled = self.identified() and not self.looking() and not self.todo.behind(within=soon)
        return settled and not busy and not self.known.scanning

    def only_settling(self) -> bool:
        """Whether all that is left to be done is to wait for files that are still being written."""
        busy = self.queues.working() or self.queues.hashing or self.dispatch.before or self.scan_wanted.is_set()
        settling = self.todo.only_settling(within=self.parts.rules.grace_s + 1.0)
        return settling and not (busy or self._lock.locked() or self.known.scanning)

    async def changed_in_immich(
        self, assets: Collection[AssetId], events: Collection[int], *, more: bool = False
    ) -> set[AssetId]:
        """Something happened to these assets; returns those whose consequences could not be carried out yet.

        ``events``: ids of those that tell of them. ``more``: something happened to others, too, which are known to
        the database and are told of next.
        """
        news = [asset for asset in assets if asset not in self.queues.requesting]
        if self.guard.judged.issuperset(events):
            pass  # they were judged with those before them
        elif more:
            async with self._lock:
                await self.guard.judge_lost(None, told=True)
        elif len(news) > 1 and not self.guard.few(Direction.IMMICH, len(news)):  # one alone is judged when it is seen
            await self.judge_lost(news)
        stuck: set[AssetId] = set()
        for start in range(0, len(news), LOOK):
            stuck |= await self.look(assets=news[start : start + LOOK])
        self.todo.changed(news)
        return stuck

    async def judge_before(self) -> None:
        """Row 4: judge the removals together, now that every file is identified, and have them carried out."""
        async with self._lock:
            await self.dispatch.judge_before()

    async def judge_lost(self, assets: Collection[AssetId] | None) -> None:
        """Put on hold what these assets (None: all) took with them in Immich, where it is too much."""
        async with self._lock:
            await self.guard.judge_lost(assets)

    async def close_holds(self) -> list[int]:
        """End the holds to which nothing belongs any more; not one that was just begun, and is still to be filled."""
        async with self._lock:
            return await self.parts.holds.close(self.owner)

    # --- asked by a person ---

    async def bring_back(self, ids: Collection[int]) -> list[tuple[Entry, RelPath]]:
        """Move these quarantined files back, and have them decided about; those that were moved, and where they are."""
        async with self._lock:
            if await self.parts.observer.health() is not Health.OK:
                return []
            entries = await self.store.entries(self.owner, ids)
            back = await self.dispatch.hands.bring_back(entries)
        self.hint(path for _, path in back)
        return back

    async def purge(self, ids: Collection[int]) -> list[Entry]:
        """Delete these quarantined files for good, where that is safe; those that are gone now."""
        async with self._lock:
            view = (await self.parts.observer.look(entries=ids, last=True)).view
            if not view.healthy:
                return []
            safe = [entry for entry in view.entries if entry.id in ids and deleted_for_good(entry, view)]
            return await self.dispatch.hands.purge(safe, "its asset was deleted for good, and somebody asked for it")

    # --- looking ---

    async def look(
        self, paths: Collection[RelPath] = (), assets: Collection[AssetId] = (), entries: Collection[int] = ()
    ) -> set[AssetId]:
        """Observe, decide and do; returns the assets whose file should have gone or come but could not."""
        return await self._follow_up(await self._see_to(paths, assets, entries), paths, assets, entries)

    async def look_at_events(self, but: Collection[int], most: int) -> tuple[Sequence[Event], set[AssetId] | None]:
        """The owner's oldest events but those with these ids, at most so many; one that is alone is acted on at once.

        That is one question to the database less than to ask for events, and then for what bears on them. For it also
        what ``changed_in_immich`` returns; None where nothing was done.
        """
        async with self._lock:
            await self.dispatch.sweep_once()
            in_hand = self.queues.look_begins()
            first = await self.parts.observer.events(but, most)
            if not first.events:
                self.guard.judged = frozenset()
            if (asset := self._alone(first.events)) is None:
                return first.events, None
            seen = await self.parts.observer.look(assets=[asset], first=first)
            done = await self._do(seen, in_hand)
        stuck = await self._follow_up(done, (), [asset], ())
        self.todo.changed([asset])
        return first.events, stuck

    def _alone(self, events: Sequence[Event]) -> AssetId | None:
        """The asset of the only event, if it is one that is acted on by looking, and no echo of our own request."""
        if len(events) != 1 or events[0].kind not in _LOST:
            return None
        return events[0].asset_id if events[0].asset_id not in self.queues.requesting else None

    async def _follow_up(
        self, done: _Done, paths: Collection[RelPath], assets: Collection[AssetId], entries: Collection[int]
    ) -> set[AssetId]:
        """What is left to do after a look at these; returns as ``look``."""
        seen, whole, plan, stuck = done
        if not seen.view.healthy:
            stuck |= {*assets}  # whatever happened to them waits until the folder is well again
        elif assets:
            stuck |= self._undecided(seen.view, whole, plan) & {*assets}
        elif entries and stuck:
            self.entries_left = True
        await self._mind_owner(active=seen.view.owner_active)
        self.queues.request(plan)
        self._forget_digests(seen.view, plan, paths)
        unread = {action.path for action in whole if isinstance(action, Identify)}
        self.todo.not_written(path for path in paths if path not in unread)
        self.dispatch.not_left(p for p in paths if p not in seen.view.files and p not in seen.view.records)
        for path in seen.folders:
            self.scan(path)
        return stuck

    async def last_look(self, paths: Collection[RelPath]) -> tuple[View, Sequence[Action]]:
        """Decide anew right before a request: the view, and what is still to be asked for."""
        seen, _, plan, _ = await self._see_to(paths, last=True)
        return seen.view, plan

    async def _see_to(
        self,
        paths: Collection[RelPath],
        assets: Collection[AssetId] = (),
        entries: Collection[int] = (),
        *,
        last: bool = False,
    ) -> _Done:
        """Observe, decide and do."""
        async with self._lock:
            await self.dispatch.sweep_once()
            in_hand = self.queues.look_begins()
            seen = await self.parts.observer.look(paths, assets, entries, last=last)
            return await self._do(seen, in_hand, paths)

    async def _do(self, seen: Seen, in_hand: frozenset[RelPath], paths: Collection[RelPath] = ()) -> _Done:
        """Decide and do; the caller holds the lock. ``in_hand``: by a worker when the look at ``paths`` began."""
        self.known.taken.difference_update((*seen.view.files, *seen.view.records))
        many = len(seen.view.files) + len(seen.view.records) > _MANY  # thousands of copies of one picture
        whole = await asyncio.to_thread(reconcile, seen.view) if many else reconcile(seen.view)
        self.todo.looked_at((*paths, *seen.view.records))
        plan, later = self.dispatch.doable(whole, in_hand)
        stuck = await self.dispatch.carry_out(seen.view, plan, later, paths)
        if any(isinstance(action, Drop) and action.why is Why.NEVER_TIED for action in plan):
            self.look_for_unclaimed()  # it may have been sent, and the answer lost
        return seen, whole, plan, stuck

    async def decide(self, path: RelPath) -> Action | None:
        """What the table says of this path right now, without doing it: for the last look before an edit's requests."""
        async with self._lock:
            seen = await self.parts.observer.look([path], last=True)
            return next((a for a in reconcile(seen.view) if path in paths_of(a)), None)

    @contextmanager
    def request_in_hand(self) -> Iterator[None]:
        """Until the block ends, requests are being prepared or are under way."""
        self.queues.asking += 1
        try:
            yield
        finally:
            self.queues.asking -= 1
            self.todo.hinted.set()  # what waited for it may go on

    async def look_after_trash(self, assets: Collection[AssetId]) -> None:
        """Look at what we trashed: the echo of a request is no news, and a file may have been tied to it meanwhile."""
        if assets:
            await self.look(assets=assets)

    async def tie_restored(self, view: View, actions: Sequence[Restore]) -> None:
        """Row 3, after the request: tie the paths to the assets that are active again.

        Not during a look: one that began before the request would write over it that the path is not tied.
        """
        async with self._lock:
            await self.dispatch.hands.tie(view, actions)

    async def hold_back(self, paths: Sequence[RelPath], why: Why) -> None:
        """Put the deletions of these missing paths on hold, as far as they are still deletions."""
        held: dict[RelPath, PutOnHold] = {}
        async with self._lock:
            for batch in batches(paths, LOOK):
                seen = await self.parts.observer.look(batch, last=True)
                trash = [a for a in reconcile(seen.view) if isinstance(a, Trash) and not a.approved]
                held |= {
                    path: PutOnHold(path, seen.view.records[path].content, a.asset_id, Direction.FOLDER, why)
                    for a in trash
                    for path in a.paths
                }
            if held:  # all at once, so that after a crash no small rest is taken for a pass of its own
                await self.dispatch.hands.hold(View(), [*held.values()])
        self.hint(paths)

    def _forget_digests(self, view: View, plan: Sequence[Action], paths: Collection[RelPath]) -> None:
        """Let go of digests that are in a record now, or whose file is gone; others would have to be read again."""
        twins = {action.path for action in plan if isinstance(action, Leave) and action.why is Why.TWIN}
        for path in paths:
            file, record = view.files.get(path), view.records.get(path)
            edited = file is not None and record is not None and file.content not in {None, record.content}
            if not edited and path not in twins:
                self.known.identified.pop(path, None)

    @staticmethod
    def _undecided(view: View, whole: Sequence[Action], plan: Sequence[Action]) -> set[AssetId]:
        """The assets whose files are in a queue's hands, or must be hashed before anything can be said about them."""
        done = {id(action) for action in plan}  # not the actions: to compare thousands of them takes long
        waiting = {
            p for action in whole if id(action) not in done or isinstance(action, Identify) for p in paths_of(action)
        }
        records = (view.records[path] for path in waiting if path in view.records)
        return {record.asset_id for record in records if record.asset_id is not None}

    async def _mind_owner(self, *, active: bool) -> None:
        """Row 17: tell `status` of an owner who is not there, and look at everything when they are back."""
        if active is self.known.owner_active:
            return
        self.known.owner_active = active
        sentence = "Immich's user is deleted, being removed or unknown: nothing of theirs is touched"
        await self.store.set_problem(self.owner, "owner", None if active else sentence)
        log.warning("owner.changed", owner=str(self.owner), active=active)
        if active:
            self.scan()

    async def mind_owner(self) -> None:
        """Find out whether an owner who was not there is back; costs nothing while all is well."""
        if not self.known.owner_active:
            await self._mind_owner(active=await self.library.active(self.owner))

    # --- what workers tell ---

    def uploaded(self, job: Job | Unread) -> None:
        """An upload has ended, one way or the other."""
        self.queues.uploaded(job)
        self.todo.uploaded(job.content if isinstance(job, Job) else job.size)
        self.look_for_unclaimed()

    async def record_missing(self, records: Sequence[Record]) -> None:
        """Have files that left before they were recorded decided about like others that are missing."""
        async with self._lock:
            known = await self.store.records_at(self.owner, [r.path for r in records])
            there = await asyncio.to_thread(lambda: {r.path for r in records if self._may_be_there(r.path)})
            if missing := [r for r in records if r.path not in there and r.path not in known]:
                await self.store.upsert(self.owner, missing)
        self.hint(record.path for record in records)

    def _may_be_there(self, path: RelPath) -> bool:
        try:
            return self.root.stat(path) is not None
        except OSError:
            return True  # nothing is concluded from not seeing it

    def look_for_unclaimed(self) -> None:
        """Something that was sent may have to be taken back: find out as soon as every file is identified."""
        self.unclaimed = True
        self.todo.hinted.set()
