"""Sees to what was decided: what is quick is done at once, the rest goes to the workers' queues."""

import time
from collections.abc import Collection, Iterable, Sequence, Set
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
    Upload,
    Why,
    paths_of,
)
from immich_dbsync.core.view import View
from immich_dbsync.disk.hashing import FRESH_NS, fresh_until_ns
from immich_dbsync.model import AssetId, Content, Direction, Entry, File, Record, RelPath
from immich_dbsync.service.carry_out import Hands
from immich_dbsync.service.guard import Guard
from immich_dbsync.service.parts import Parts
from immich_dbsync.service.queues import Job, Queues
from immich_dbsync.service.sweep import sweep
from immich_dbsync.service.todo import Todo

log = structlog.get_logger()
A = TypeVar("A", bound=Action)

_QUIET = frozenset({Why.HELD, Why.EXCLUDED, Why.KEPT_BY_POLICY, Why.DAMAGED, Why.REJECTED, Why.REFUSED})
"""Reasons that `status` tells in another way, or that nobody has to be told of."""


class Dispatch:
    """One owner's. The caller holds the lock under which the plan was made."""

    def __init__(self, parts: Parts, guard: Guard, queues: Queues, todo: Todo) -> None:
        self._parts, self._guard, self._queues, self._todo = parts, guard, queues, todo
        self._owner, self._known = parts.owner, parts.known
        self.hands = Hands(
            owner=parts.owner,
            root=parts.root,
            store=parts.store,
            known=parts.known,
            guard=guard,
            names=parts.rules.names,
        )
        self.left: dict[RelPath, Why] = {}  # left alone, and why
        self.before: set[RelPath] = set()  # row 4: files to be removed, once all of these are known
        self._judged: dict[RelPath, Why | None] = {}  # what was found of them: why they are to wait for a person
        self._swept = False

    async def sweep_once(self) -> None:
        """Bring quarantine folder and table together before anything that is missing is judged."""
        if not self._swept:
            parts = self._parts
            await sweep(self._owner, parts.root, parts.store, parts.library, parts.rules.names)
            self._swept = True

    def leave(self, paths: Iterable[RelPath], why: Why) -> None:
        """Note that these paths are left alone, for `status`."""
        self._todo.hinted.set()  # the pump tells `status`
        for path in paths:
            if self.left.get(path) is not why:
                log.warning("file.left_alone", owner=str(self._owner), path=path, why=why.value)
            self.left[path] = why

    def not_left(self, paths: Iterable[RelPath]) -> None:
        """Nothing is at these paths any more, neither file nor record, that could be left alone.

        What can't be put back there is another matter.
        """
        for path in paths:
            if self.left.get(path) is not Why.NOT_MOVED:
                self.left.pop(path, None)

    async def judge_before(self) -> None:
        """Row 4: judge the removals together, now that every file is identified, and have them carried out."""
        paths, self.before = self.before, set()
        self._judged = dict.fromkeys(paths, await self._guard.judge(Direction.IMMICH, paths))
        self._todo.hint(paths)

    def doable(self, plan: Sequence[Action], in_hand: Set[RelPath]) -> tuple[list[Action], list[Upload]]:
        """The plan without what touches a path that a worker has in hand: that is looked at again afterwards.

        ``in_hand``: those that one had when the look began.

        Also uploads, by their other paths, of which another path is uploading.
        """
        doable: list[Action] = []
        later: list[Upload] = []
        hashing, uploading = self._queues.hashing, self._queues.uploading
        touched = {path for action in plan for path in paths_of(action)}
        untouchable = self._untouchable(plan, {p for p in touched if p in in_hand or p in hashing or p in uploading})
        for action in map(self._not_yet, plan):
            if isinstance(action, Quarantine) and action.asset_id in self._queues.returning:
                self._todo.behind_a_move(action.path)
                continue
            busy = untouchable.intersection(paths_of(action))
            if not busy:
                doable.append(action)
            elif isinstance(action, Drop | Adopt):
                self._todo.behind_a_move(action.path)
            elif isinstance(action, Upload) and (others := tuple(path for path in action.paths if path not in busy)):
                later.append(Upload(others, action.content))
        return doable, later

    @staticmethod
    def _untouchable(plan: Sequence[Action], busy: set[RelPath]) -> set[RelPath]:
        """These paths, and those that are only to be touched together with one of them, of renames in a row."""
        together = {a.path: a.behind for a in plan if isinstance(a, Drop | Adopt) and a.behind is not None}
        while more := {path for path, behind in together.items() if behind in busy and path not in busy}:
            busy |= more
        return busy

    def _not_yet(self, action: Action) -> Action:
        """Row 4 for a file of many that are identified one by one: they are judged together, before the first goes."""
        match action:
            case Quarantine(path, content, asset, Why.TRASHED_BEFORE, False) if path not in self._judged:
                self.before.add(path)
                return Leave(path, Why.COUNTING, asset, content)
            case _:
                return action

    async def carry_out(
        self, view: View, plan: Sequence[Action], later: Sequence[Upload], asked: Collection[RelPath]
    ) -> set[AssetId]:
        """Do or queue what the plan says, but for requests: those are for who looks.

        ``asked``: the paths that the look was at; none where it was at assets.

        Returns the assets whose files should have gone to quarantine, or come back from there, but could not.
        """
        failed: list[Quarantine | Entry] = []
        # Removals come first: they are what somebody waits for.
        if quarantines := _of(plan, Quarantine):
            failed += await self._quarantine(view, quarantines)
        ties: list[Adopt | Refresh] = [*_of(plan, Adopt), *_of(plan, Refresh)]
        if ties:
            await self.hands.tie(view, ties)
        if drops := _of(plan, Drop):
            await self.hands.drop(drops)
            # What is at such a path by now is decided about when the record of what was there before has ended.
            self._todo.hint(drop.path for drop in drops if drop.path in view.files)
        if holds := _of(plan, PutOnHold):
            await self.hands.hold(view, holds)
        failed += await self._do_quarantined(plan)
        await self._remember(view, [*plan, *later])
        for upload in later:
            self._wait_behind(upload.content, upload.paths)
        for action in plan:
            if isinstance(action, Upload | Replace):
                self._upload_later(view, action)
        self._identify_later(view, [identify.path for identify in _of(plan, Identify)], asked)
        self._leave(view, _of(plan, Leave))
        if failed:
            self._todo.hinted.set()  # the pump tells `status`
            self.left |= {unmoved.path: Why.NOT_MOVED for unmoved in failed}
        return {unmoved.asset_id for unmoved in failed}

    async def _do_quarantined(self, plan: Sequence[Action]) -> list[Entry]:
        """Rows 15 and 16; returns the entries of files that should have come back but could not."""
        for action in plan:
            # Of these there is neither a file nor a record by which `_leave` would find it.
            if isinstance(action, PutBack | Supersede | Purge):
                self._moved(action.entry.path)
        failed = await self.hands.put_back(put_back) if (put_back := _of(plan, PutBack)) else []
        if superseded := _of(plan, Supersede):
            await self.hands.supersede(superseded)
        if gone := _of(plan, NoteGone):
            await self.hands.note_gone(gone)
        if purges := _of(plan, Purge):
            await self.hands.purge([purge.entry for purge in purges])
        return failed

    def _moved(self, path: RelPath) -> None:
        """It is not known any more that the file at this path can't be moved."""
        if self.left.get(path) is Why.NOT_MOVED:
            del self.left[path]

    async def _quarantine(self, view: View, actions: Sequence[Quarantine]) -> list[Quarantine]:
        """Rows 4 and 7, unless it is so much that a person should look first; returns those that could not be done."""
        whys = {action.path: self._judged.pop(action.path, None) for action in actions}
        asked = [action for action in actions if not action.approved]
        if asked and not self._guard.few(Direction.IMMICH, len(asked)):
            why = await self._guard.judge(Direction.IMMICH, [action.path for action in asked])
            whys |= {action.path: why or whys[action.path] for action in asked}
        held = [
            PutOnHold(a.path, a.content, a.asset_id, Direction.IMMICH, why)
            for a in asked
            if (why := whys[a.path]) is not None
        ]
        if held:
            await self.hands.hold(view, held)
            actions = [action for action in actions if action.approved or whys[action.path] is None]
        self._swept = False  # until the database knows where the files are
        failed, left = await self.hands.quarantine(view, actions)
        self._swept = True
        self._todo.hint(left)  # the watch may have told of it while it was taken for our doing
        self._todo.retry(action.path for action in failed)
        return failed

    async def _remember(self, view: View, plan: Sequence[Action]) -> None:
        """Keep the digests of what waits for a request, so that nothing is hashed twice, whatever happens."""
        held = [self.hands.record(view, path, u.content, None) for u in _of(plan, Upload) for path in u.paths]
        # A restored or rejected hold's record stays tied to its asset until the asset is back.
        restores = [r for r in _of(plan, Restore) if r.path not in view.records or view.records[r.path].hold is None]
        held += (self.hands.record(view, r.path, r.content, None) for r in restores)
        for leave in _of(plan, Leave):
            if leave.content is not None and leave.why is not Why.TWIN:
                known = view.records.get(leave.path)
                problem = known.problem if known and leave.why is Why.REFUSED else None
                held.append(self.hands.record(view, leave.path, leave.content, None, problem=problem))
            elif (touched := self._touched(view, leave.path)) is not None:
                held.append(touched)
        fresh = [record for record in held if view.records.get(record.path) != record]
        if fresh:
            await self._parts.store.upsert(self._owner, fresh)
        if restored := [action.asset_id for action in _of(plan, Restore)]:
            # The owner brought the picture back: nothing is to be put back besides.
            await self._parts.store.supersede(self._owner, restored)

    def _touched(self, view: View, path: RelPath) -> Record | None:
        """The record of a file that is left alone, with the stat that it has been identified by; else it would be
        identified again and again.
        """
        file, known = view.files.get(path), view.records.get(path)
        if file is None or known is None or file.content != known.content:
            return None
        return self.hands.record(view, path, known.content, known.asset_id, problem=known.problem, hold=known.hold)

    def _upload_later(self, view: View, action: Upload | Replace) -> None:
        paths = paths_of(action)
        size = view.files[paths[0]].stat.size
        if size in self._queues.unread or size in self._queues.ended:  # it may be the same picture
            self._wait_behind(size, paths)
            return
        records = tuple(self.hands.record(view, path, action.content, None) for path in paths)
        self._queues.upload(Job(records, action if isinstance(action, Replace) else None))

    def _wait_behind(self, sent: Content | int, paths: Sequence[RelPath]) -> None:
        if sent in self._queues.ended:  # what came of it is not in this look's view
            self._todo.hint(paths)
        else:
            self._todo.wait_behind(sent, paths)

    def _identify_later(self, view: View, paths: Sequence[RelPath], asked: Collection[RelPath]) -> None:
        """Hash these files when they have been left in peace for long enough."""
        now, settle = time.time_ns(), self._parts.rules.settle_ns
        for path in paths:
            file = view.files[path]
            if asked and path not in asked and (wait_ns := self._fresh_for_ns(file, view.records.get(path), now)) > 0:
                # Else two copies that are fresh would have each other hashed again and again.
                self._todo.hint([path], after=wait_ns / 1e9)
            elif self._todo.has_settled(file, now, settle):
                self._queues.hash(file)

    @staticmethod
    def _fresh_for_ns(file: File, record: Record | None, now_ns: int) -> int:
        """How long what was hashed of the file, as it is now, will not prove anything; 0 where its clock is off."""
        if record is None or not record.racy or record.stat != file.stat:
            return 0
        left = fresh_until_ns(file.stat) - now_ns
        return left if left <= FRESH_NS else 0

    def _leave(self, view: View, actions: Sequence[Leave]) -> None:
        for path in (*view.files, *view.records):
            self.left.pop(path, None)
        now, grace = time.monotonic(), self._parts.rules.grace_s
        for action in actions:
            waits = self._todo.wait(
                action,
                scanning=self._known.scanning,
                over=lambda path: self._known.gone_since.get(path, now) + grace - now,
            )
            if not waits and action.why not in _QUIET:
                self.leave([action.path], action.why)


def _of(plan: Sequence[Action], kind: type[A]) -> list[A]:
    return [action for action in plan if isinstance(action, kind)]
