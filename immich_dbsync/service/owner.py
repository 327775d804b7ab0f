"""One owner's sync: hints come in, the decision table is asked, and what it says is carried out.

All looking and quick doing happens under one lock, so that no decision rests on what another is about to change.
Hashing, uploads and requests go through queues outside of it (workers.py), and end by looking at their paths again.
Nothing is kept here that a restart would need: what is in hand when the service ends is found anew.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from immich_dbsync.core.actions import (
    Action,
    Adopt,
    Drop,
    Identify,
    Leave,
    NoteGone,
    Purge,
    PutBack,
    PutOnHold,
    Quarantine,
    Refresh,
    Replace,
    Restore,
    Supersede,
    Trash,
    Upload,
    Why,
)
from immich_dbsync.core.reconcile import reconcile
from immich_dbsync.core.view import View
from immich_dbsync.disk.root import Root
from immich_dbsync.immich.api import Server
from immich_dbsync.immich.library import Library
from immich_dbsync.model import AssetId, Direction, File, OwnerId, Record, RelPath
from immich_dbsync.service.carry_out import Hands
from immich_dbsync.service.gate import Gate
from immich_dbsync.service.guard import Guard
from immich_dbsync.service.observe import Known, Observer
from immich_dbsync.service.rules import Rules
from immich_dbsync.service.sweep import sweep
from immich_dbsync.service.todo import Todo
from immich_dbsync.service.uploads import Job
from immich_dbsync.store.holds import Holds
from immich_dbsync.store.records import Store

log = structlog.get_logger()
A = TypeVar("A", bound=Action)

LOOK = 500
"""Assets looked at together."""

_QUIET = frozenset({Why.HELD, Why.EXCLUDED, Why.KEPT_BY_POLICY, Why.DAMAGED, Why.REJECTED, Why.REFUSED})
"""Reasons that `status` tells in another way, or that nobody has to be told of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an owner's sync works with."""

    owner: OwnerId
    key: str
    root: Root
    observer: Observer
    known: Known
    rules: Rules
    store: Store
    holds: Holds
    library: Library
    server: Server
    gate: Gate


class OwnerSync:
    """Looks at paths and assets, decides, does what is quick, and hands the rest to the queues."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.owner, self.key, self.root, self.known = parts.owner, parts.key, parts.root, parts.known
        self.store, self.library, self.server = parts.store, parts.library, parts.server
        self.todo = Todo()
        self.guard = Guard(parts.owner, parts.holds, parts.rules.limits)
        self.left: dict[RelPath, Why] = {}  # left alone, and why
        self.hashing: dict[RelPath, int] = {}  # path to size, from being queued to being hashed
        self.uploading: set[RelPath] = set()
        self.requesting: set[AssetId] = set()  # in our own requests, whose echoes are no news
        self.to_hash: asyncio.Queue[RelPath] = asyncio.Queue()
        self.to_upload: asyncio.Queue[Job] = asyncio.Queue()
        self.to_trash: dict[RelPath, bool] = {}  # missing paths whose assets are to be trashed: approved by a person?
        self.trash_wanted = asyncio.Event()
        self.to_restore: set[RelPath] = set()
        self.restore_wanted = asyncio.Event()
        self.before: set[RelPath] = set()  # row 4: files to be removed, once all of these are known
        self._judged: dict[RelPath, Why | None] = {}  # what was found of them: why they are to wait for a person
        self.asking = 0  # requests that are being prepared or are under way
        self.unclaimed = True  # something that was sent may have to be taken back
        self.claiming = False  # that is being found out, or could not be told yet
        self.editing = asyncio.Lock()  # edits of copies are finished one by one: the last trashes the old asset
        self.asked = asyncio.Event()
        self.asked.set()  # what was asked before this service began is to be answered as well
        self.to_scan: set[bytes] = set()
        self.scan_wanted = asyncio.Event()
        self._hands = Hands(
            owner=parts.owner,
            root=parts.root,
            store=parts.store,
            known=parts.known,
            guard=self.guard,
            names=parts.rules.names,
        )
        self._lock = asyncio.Lock()
        self._swept = False
        parts.known.sizes_in_hand = lambda: frozenset((*self.hashing.values(), *self.todo.unsettled_sizes()))

    # --- what comes in ---

    def hint(self, paths: Iterable[RelPath], *, after: float = 0.0) -> None:
        """Have these paths looked at, ``after`` that many seconds."""
        self.todo.hint(paths, after=after)

    def leave(self, paths: Iterable[RelPath], why: Why) -> None:
        """Note that these paths are left alone, for `status`."""
        self.todo.hinted.set()  # the pump tells `status`
        for path in paths:
            if self.left.get(path) is not why:
                log.warning("file.left_alone", owner=str(self.owner), path=path, why=why.value)
            self.left[path] = why

    def scan(self, prefix: bytes = b"") -> None:
        """Have everything at and below ``prefix`` compared with its records; ``b""`` is the whole root."""
        self.to_scan.add(prefix)
        self.scan_wanted.set()

    def scanned(self) -> None:
        """No scan is under way or wanted."""
        self.known.scanning = False
        self.todo.scan_over()

    def looking(self) -> bool:
        """Whether paths are due, or are being looked at just now."""
        return self._lock.locked() or self.todo.behind()

    def identified(self) -> bool:
        """Whether every file has been identified and all that is due decided; requests may be under way."""
        return not self.hashing and not self.todo.settling() and not self.todo.behind()

    def idle(self) -> bool:
        """Whether nothing is under way, or will be before long."""
        busy = (
            self.uploading
            or self.asking
            or self.unclaimed
            or self.claiming
            or self.to_trash
            or self.to_restore
            or self.before
            or self.scan_wanted.is_set()
        )
        soon = self.parts.rules.grace_s + 1.0
        settled = self.identified() and not self.looking() and not self.todo.behind(within=soon)
        return settled and not busy and not self.known.scanning

    async def changed_in_immich(self, assets: Collection[AssetId], *, more: bool = False) -> set[AssetId]:
        """Something happened to these assets; returns those whose consequences could not be carried out yet.

        ``more``: and to others, which are known to the database and are told of next.
        """
        news = [asset for asset in assets if asset not in self.requesting]
        if not (more or self.guard.few(Direction.IMMICH, len(news))):
            await self.judge_lost(news)
        elif more:
            await self.judge_lost(None)
        stuck: set[AssetId] = set()
        for start in range(0, len(news), LOOK):
            stuck |= await self.look(assets=news[start : start + LOOK])
        self.todo.changed(news)
        return stuck

    async def judge_before(self) -> None:
        """Row 4: judge the removals together, now that every file is identified, and have them carried out."""
        async with self._lock:
            paths, self.before = self.before, set()
            self._judged = dict.fromkeys(paths, await self.guard.judge(Direction.IMMICH, paths))
        self.hint(paths)

    async def judge_lost(self, assets: Collection[AssetId] | None) -> None:
        """Put on hold what these assets (None: all) took with them in Immich, where it is too much."""
        async with self._lock:
            await self.guard.judge_lost(assets)

    async def close_holds(self) -> list[int]:
        """End the holds to which nothing belongs any more; not one that was just begun, and is still to be filled."""
        async with self._lock:
            return await self.parts.holds.close(self.owner)

    # --- looking ---

    async def look(
        self, paths: Collection[RelPath] = (), assets: Collection[AssetId] = (), entries: Collection[int] = ()
    ) -> set[AssetId]:
        """Observe, decide and do; returns the assets on whose evidence a file should have gone but could not."""
        async with self._lock:
            await self._sweep_once()
            in_hand = self._in_hand()
            seen = await self.parts.observer.look(paths, assets, entries)
            whole = reconcile(seen.view)
            self.todo.looked_at((*paths, *seen.view.records))
            plan, later = self._doable(whole, in_hand)
            stuck = await self._carry_out(seen.view, plan, later)
        if not seen.view.healthy:
            stuck |= {*assets}  # whatever happened to them waits until the folder is well again
        elif assets:
            stuck |= self._undecided(seen.view, whole, plan) & {*assets}
        await self._mind_owner(active=seen.view.owner_active)
        self._request(plan)
        self._forget_digests(seen.view, plan, paths)
        self.todo.gone([path for path in paths if path not in seen.view.files])
        for path in seen.folders:
            self.scan(path)
        return stuck

    async def last_look(self, paths: Collection[RelPath]) -> tuple[View, Sequence[Action]]:
        """Decide anew right before a request: the view, and what is still to be asked for."""
        async with self._lock:
            await self._sweep_once()
            in_hand = self._in_hand()
            seen = await self.parts.observer.look(paths, last=True)
            self.todo.looked_at((*paths, *seen.view.records))
            plan, later = self._doable(reconcile(seen.view), in_hand)
            await self._carry_out(seen.view, plan, later)
        return seen.view, plan

    async def decide(self, path: RelPath) -> Action | None:
        """What the table says of this path right now, without doing it: for the last look before an edit's requests."""
        async with self._lock:
            seen = await self.parts.observer.look([path], last=True)
            return next((a for a in reconcile(seen.view) if path in paths_of(a)), None)

    @contextmanager
    def request_in_hand(self) -> Iterator[None]:
        """Until the block ends, requests are being prepared or are under way."""
        self.asking += 1
        try:
            yield
        finally:
            self.asking -= 1
            self.todo.hinted.set()  # what waited for it may go on

    async def tie_restored(self, view: View, actions: Sequence[Restore]) -> None:
        """Row 3, after the request: tie the paths to the assets that are active again."""
        await self._hands.tie(view, actions)

    async def hold_back(self, paths: Collection[RelPath], why: Why) -> None:
        """Put the deletions of these missing paths on hold, as far as they are still deletions."""
        async with self._lock:
            seen = await self.parts.observer.look(paths, last=True)
            trash = [a for a in reconcile(seen.view) if isinstance(a, Trash) and not a.approved]
            held = [
                PutOnHold(path, seen.view.records[path].content, a.asset_id, Direction.FOLDER, why)
                for a in trash
                for path in a.paths
            ]
            if held:
                await self._hands.hold(seen.view, held)
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
        done = {*plan}
        waiting = {
            p for action in whole if action not in done or isinstance(action, Identify) for p in paths_of(action)
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
            active, _ = await self.library.circumstances(self.owner)
            await self._mind_owner(active=active)

    # --- what is decided is done ---

    async def _sweep_once(self) -> None:
        """Bring quarantine folder and table together before anything that is missing is judged."""
        if not self._swept:
            await sweep(self.owner, self.root, self.store, self.library, self.parts.rules.names)
            self._swept = True

    def _in_hand(self) -> frozenset[RelPath]:
        """The paths that a queue has in hand now."""
        return frozenset((*self.hashing, *self.uploading))

    def _doable(self, plan: Sequence[Action], in_hand: Set[RelPath]) -> tuple[list[Action], list[Upload]]:
        """The plan without what touches a path that a queue has in hand: that is looked at again afterwards.

        ``in_hand``: those that one had when the look began, for what it wrote since is not in the view.

        Also uploads, by their other paths, of which another path is uploading.
        """
        doable: list[Action] = []
        later: list[Upload] = []
        for action in map(self._not_yet, plan):
            busy = {p for p in paths_of(action) if p in in_hand or p in self.hashing or p in self.uploading}
            if not busy:
                doable.append(action)
            elif isinstance(action, Drop):
                self.todo.behind_a_move(action.path)
            elif isinstance(action, Upload) and (others := tuple(path for path in action.paths if path not in busy)):
                later.append(Upload(others, action.content))
        return doable, later

    def _not_yet(self, action: Action) -> Action:
        """Row 4 for a file of many that are identified one by one: they are judged together, before the first goes."""
        match action:
            case Quarantine(path, content, asset, Why.TRASHED_BEFORE, False) if path not in self._judged:
                self.before.add(path)
                return Leave(path, Why.COUNTING, asset, content)
            case _:
                return action

    async def _carry_out(self, view: View, plan: Sequence[Action], later: Sequence[Upload]) -> set[AssetId]:
        stuck: set[AssetId] = set()
        # Removals come first: they are what somebody waits for.
        if quarantines := _of(plan, Quarantine):
            stuck = await self._quarantine(view, quarantines)
        ties: list[Adopt | Refresh] = [*_of(plan, Adopt), *_of(plan, Refresh)]
        if ties:
            await self._hands.tie(view, ties)
        if drops := _of(plan, Drop):
            await self._hands.drop(drops)
            if any(drop.why is Why.NEVER_TIED for drop in drops):
                self.look_for_unclaimed()  # it may have been sent, and the answer lost
        if holds := _of(plan, PutOnHold):
            await self._hands.hold(view, holds)
        await self._do_quarantined(plan)
        await self._remember(view, [*plan, *later])
        for upload in later:
            self.todo.wait_behind(upload.content, upload.paths)
        for action in plan:
            if isinstance(action, Upload | Replace):
                self._upload_later(view, action)
        await self._identify_later([view.files[identify.path] for identify in _of(plan, Identify)])
        self._leave(view, _of(plan, Leave))
        return stuck

    async def _do_quarantined(self, plan: Sequence[Action]) -> None:
        """Rows 15 and 16."""
        if put_back := _of(plan, PutBack):
            await self._hands.put_back(put_back)
        if superseded := _of(plan, Supersede):
            await self._hands.supersede(superseded)
        if gone := _of(plan, NoteGone):
            await self._hands.note_gone(gone)
        if purges := _of(plan, Purge):
            await self._hands.purge(purges)

    async def _quarantine(self, view: View, actions: Sequence[Quarantine]) -> set[AssetId]:
        """Rows 4 and 7, unless it is so much that a person should look first."""
        whys = {action.path: self._judged.pop(action.path, None) for action in actions}
        asked = [action for action in actions if not action.approved]
        if asked and not self.guard.few(Direction.IMMICH, len(asked)):
            why = await self.guard.judge(Direction.IMMICH, [action.path for action in asked])
            whys |= {action.path: why or whys[action.path] for action in asked}
        held = [
            PutOnHold(a.path, a.content, a.asset_id, Direction.IMMICH, why)
            for a in asked
            if (why := whys[a.path]) is not None
        ]
        if held:
            await self._hands.hold(view, held)
            actions = [action for action in actions if action.approved or whys[action.path] is None]
        self._swept = False  # until the database knows where the files are
        failed = await self._hands.quarantine(view, actions)
        self._swept = True
        self.todo.retry(action.path for action in failed)
        return {action.asset_id for action in failed}

    def _request(self, plan: Sequence[Action]) -> None:
        """Have Immich asked for what only it can do."""
        for action in plan:
            if isinstance(action, Trash):
                self.to_trash.update(dict.fromkeys(action.paths, action.approved))
                self.trash_wanted.set()
            elif isinstance(action, Restore):
                self.to_restore.add(action.path)
                self.restore_wanted.set()

    async def _remember(self, view: View, plan: Sequence[Action]) -> None:
        """Keep the digests of what waits for a request, so that nothing is hashed twice, whatever happens."""
        held = [self._hands.record(view, path, u.content, None) for u in _of(plan, Upload) for path in u.paths]
        # A restored or rejected hold's record stays tied to its asset until the asset is back.
        restores = [r for r in _of(plan, Restore) if r.path not in view.records or view.records[r.path].hold is None]
        held += (self._hands.record(view, r.path, r.content, None) for r in restores)
        for leave in _of(plan, Leave):
            if leave.content is not None and leave.why is not Why.TWIN:
                known = view.records.get(leave.path)
                problem = known.problem if known and leave.why is Why.REFUSED else None
                held.append(self._hands.record(view, leave.path, leave.content, None, problem=problem))
            elif (touched := self._touched(view, leave.path)) is not None:
                held.append(touched)
        fresh = [record for record in held if view.records.get(record.path) != record]
        if fresh:
            await self.store.upsert(self.owner, fresh)
        if restored := [action.asset_id for action in _of(plan, Restore)]:
            # The owner brought the picture back: nothing is to be put back besides.
            await self.store.supersede(self.owner, restored)

    def _touched(self, view: View, path: RelPath) -> Record | None:
        """The record of a file that is left alone, with the stat that it has been identified by; else it would be
        identified again and again.
        """
        file, known = view.files.get(path), view.records.get(path)
        if file is None or known is None or file.content != known.content:
            return None
        return self._hands.record(view, path, known.content, known.asset_id, problem=known.problem, hold=known.hold)

    def _upload_later(self, view: View, action: Upload | Replace) -> None:
        paths = paths_of(action)
        records = tuple(self._hands.record(view, path, action.content, None) for path in paths)
        self.uploading.update(paths)
        self.to_upload.put_nowait(Job(records, action if isinstance(action, Replace) else None))

    def uploaded(self, job: Job) -> None:
        """An upload has ended, one way or the other."""
        self.uploading.difference_update(record.path for record in job.records)
        self.todo.uploaded(job.content)
        self.look_for_unclaimed()

    async def record_missing(self, records: Sequence[Record]) -> None:
        """Have files that left before they were recorded decided about like others that are missing."""
        async with self._lock:
            known = await self.store.records_of_view(self.owner, [r.path for r in records], [], [], [])
            there = await asyncio.to_thread(lambda: {r.path for r in records if self.root.stat(r.path) is not None})
            if missing := [r for r in records if r.path not in there and r.path not in known]:
                await self.store.upsert(self.owner, missing)
        self.hint(record.path for record in records)

    def look_for_unclaimed(self) -> None:
        """Something that was sent may have to be taken back: find out as soon as every file is identified."""
        self.unclaimed = True
        self.todo.hinted.set()

    async def _identify_later(self, files: Sequence[File]) -> None:
        """Hash these files when they have been left in peace for long enough."""
        now, settle = time.time_ns(), self.parts.rules.settle_ns
        for file in files:
            if self.todo.has_settled(file, now, settle):
                self.hashing[file.path] = file.stat.size
                self.to_hash.put_nowait(file.path)

    def _leave(self, view: View, actions: Sequence[Leave]) -> None:
        for path in (*view.files, *view.records):
            self.left.pop(path, None)
        now, grace = time.monotonic(), self.parts.rules.grace_s
        for action in actions:
            waits = self.todo.wait(
                action,
                scanning=self.known.scanning,
                over=lambda path: self.known.gone_since.get(path, now) + grace - now,
            )
            if not waits and action.why not in _QUIET:
                self.leave([action.path], action.why)


def _of(plan: Sequence[Action], kind: type[A]) -> list[A]:
    return [action for action in plan if isinstance(action, kind)]


def paths_of(action: Action) -> tuple[RelPath, ...]:
    """The paths in the folder that an action is about."""
    match action:
        case Upload() | Trash():
            return action.paths
        case PutBack() | Supersede():
            return (action.entry.path,)
        case Drop(path, _, behind):
            return (path,) if behind is None else (path, behind)
        case NoteGone() | Purge():
            return ()
        case _:
            return (action.path,)
