"""One owner's sync: hints come in, the decision table is asked, and what it says is carried out.

All looking and quick doing happens under one lock, so that no decision rests on what another is about to change.
Hashing, uploads and requests go through queues outside of it (workers.py), and end by looking at their paths again.
Nothing is kept here that a restart would need: what is in hand when the service ends is found anew.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from immich_dbsync.core.actions import (
    Action,
    Adopt,
    Drop,
    Identify,
    Leave,
    PutBack,
    Quarantine,
    Refresh,
    Restore,
    Supersede,
    Trash,
    Upload,
    Why,
)
from immich_dbsync.core.agenda import Agenda
from immich_dbsync.core.backoff import Backoff
from immich_dbsync.core.reconcile import View, reconcile
from immich_dbsync.core.settle import Glance, settled
from immich_dbsync.disk.root import Root
from immich_dbsync.immich.api import Server
from immich_dbsync.immich.library import Library
from immich_dbsync.model import AssetId, Content, File, OwnerId, RelPath
from immich_dbsync.service.carry_out import Hands
from immich_dbsync.service.gate import Gate
from immich_dbsync.service.observe import Known, Observer, Rules
from immich_dbsync.service.sweep import sweep
from immich_dbsync.service.uploads import Job
from immich_dbsync.store.records import Store

log = structlog.get_logger()
A = TypeVar("A", bound=Action)


RETRY = Backoff(first=1.0, most=300.0)
"""Between two tries of a path that failed while the server answers, in seconds."""

_BEING_DELETED_S = 30.0  # until a file is looked at again whose content Immich is still deleting
_LONG_SCAN_S = 60.0  # until a missing file is looked at again while a scan goes on
_TWIN_S = 0.5  # until a deletion is looked at again that waits for a file of the same size to be hashed


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
    library: Library
    server: Server
    gate: Gate


class OwnerSync:
    """Looks at paths and assets, decides, does what is quick, and hands the rest to the queues."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.owner, self.key, self.root = parts.owner, parts.key, parts.root
        self.store, self.library, self.server = parts.store, parts.library, parts.server
        self.agenda = Agenda()
        self.hinted = asyncio.Event()
        self.left: dict[RelPath, Why] = {}  # left alone, and why
        self.hashing: dict[RelPath, int] = {}  # path to size, from being queued to being hashed
        self.uploading: set[RelPath] = set()
        self.requesting: set[AssetId] = set()  # in our own requests, whose echoes are no news
        self.to_hash: asyncio.Queue[RelPath] = asyncio.Queue()
        self.to_upload: asyncio.Queue[Job] = asyncio.Queue()
        self.to_request: set[RelPath] = set()
        self.request_wanted = asyncio.Event()
        self.to_scan: set[bytes] = set()
        self.scan_wanted = asyncio.Event()
        self._hands = Hands(owner=parts.owner, root=parts.root, store=parts.store, known=parts.known)
        self._lock = asyncio.Lock()
        self._swept = False
        self._glances: dict[RelPath, Glance] = {}
        self._attempts: Counter[RelPath] = Counter()
        self._after_scan: set[RelPath] = set()  # missing, while a scan may yet find them elsewhere
        self._behind: dict[Content, set[RelPath]] = defaultdict(set)  # another path of the same content is uploading
        self._waiting_for: dict[AssetId, set[RelPath]] = defaultdict(set)
        parts.known.sizes_in_hand = lambda: frozenset(self.hashing.values())

    # --- what comes in ---

    def hint(self, paths: Iterable[RelPath], *, after: float = 0.0) -> None:
        """Have these paths looked at, ``after`` that many seconds."""
        self.agenda.add(paths, time.monotonic() + after)
        self.hinted.set()

    def retry(self, paths: Iterable[RelPath]) -> None:
        """Have these paths looked at again after a failure, later each time."""
        for path in paths:
            self.hint([path], after=RETRY.wait(self._attempts[path], random.random()))  # noqa: S311  # jitter
            self._attempts[path] += 1

    def succeeded(self, paths: Iterable[RelPath]) -> None:
        """Forget the failures of these paths."""
        for path in paths:
            self._attempts.pop(path, None)

    def leave(self, paths: Iterable[RelPath], why: Why) -> None:
        """Note that these paths are left alone, for `status`."""
        self.hinted.set()  # the pump tells `status`
        for path in paths:
            self.left[path] = why
            log.warning("file.left_alone", owner=str(self.owner), path=path, why=why.value)

    def scanned(self) -> None:
        """No scan is under way or wanted: what is missing has not turned up elsewhere."""
        self.parts.known.scanning = False
        missing, self._after_scan = self._after_scan, set()
        self.hint(missing)

    def scan(self, prefix: bytes = b"") -> None:
        """Have everything at and below ``prefix`` compared with its records; ``b""`` is the whole root."""
        self.to_scan.add(prefix)
        self.scan_wanted.set()

    def behind(self) -> bool:
        """Whether paths are due that have not been looked at."""
        due = self.agenda.next_due()
        return due is not None and due <= time.monotonic()

    def quiet(self) -> bool:
        """Whether every file has been identified and all that is due decided; uploads and requests may be under way."""
        due = self.agenda.next_due()
        return not self.hashing and not self._glances and (due is None or due > time.monotonic())

    async def changed_in_immich(self, assets: Collection[AssetId]) -> set[AssetId]:
        """Something happened to these assets; returns those whose consequences could not be carried out yet."""
        news = set(assets) - self.requesting
        stuck = await self.look(assets=news) if news else set[AssetId]()
        for asset in news:
            self.hint(self._waiting_for.pop(asset, ()))
        return stuck

    async def look(
        self, paths: Collection[RelPath] = (), assets: Collection[AssetId] = (), entries: Collection[int] = ()
    ) -> set[AssetId]:
        """Observe, decide and do; returns the assets on whose evidence a file should have gone but could not."""
        async with self._lock:
            await self._sweep_once()
            seen = await self.parts.observer.look(paths, assets, entries)
            whole = reconcile(seen.view)
            plan, later = self._doable(whole)
            stuck = await self._carry_out(seen.view, plan, later)
        if not seen.view.healthy:
            stuck |= {*assets}  # whatever happened to them waits until the folder is well again
        elif assets:
            stuck |= self._undecided(seen.view, whole, plan) & {*assets}
        requests: list[Trash | Restore] = [*_of(plan, Trash), *_of(plan, Restore)]
        for request in requests:
            self.to_request.update(_paths(request))
            self.request_wanted.set()
        edited = {action.path for action in plan if isinstance(action, Leave) and action.why is Why.EDITED}
        for path in paths:
            # An edited file's digests are in no record: they are kept, or every look at a copy would read it again.
            if path not in edited or path not in seen.view.files:
                self.parts.known.identified.pop(path, None)
            if path not in seen.view.files:
                self._glances.pop(path, None)
        for path in seen.folders:
            self.scan(path)
        return stuck

    async def last_look(self, paths: Collection[RelPath]) -> tuple[View, list[Trash], list[Restore]]:
        """Decide anew right before a request: what is still to be asked for, and the view that says so."""
        async with self._lock:
            await self._sweep_once()
            seen = await self.parts.observer.look(paths, last=True)
            plan, later = self._doable(reconcile(seen.view))
            await self._carry_out(seen.view, plan, later)
        return seen.view, _of(plan, Trash), _of(plan, Restore)

    async def tie_restored(self, view: View, actions: Sequence[Restore]) -> None:
        """Row 3, after the request: tie the paths to the assets that are active again."""
        await self._hands.tie(view, actions)

    @staticmethod
    def _undecided(view: View, whole: Sequence[Action], plan: Sequence[Action]) -> set[AssetId]:
        """The assets whose files are in a queue's hands, or must be hashed before anything can be said about them."""
        done = {*plan}
        waiting = {p for action in whole if action not in done or isinstance(action, Identify) for p in _paths(action)}
        records = (view.records[path] for path in waiting if path in view.records)
        return {record.asset_id for record in records if record.asset_id is not None}

    # --- what is decided is done ---

    async def _sweep_once(self) -> None:
        """Bring quarantine folder and table together before anything that is missing is judged."""
        if not self._swept:
            await sweep(self.owner, self.root, self.store, self.library)
            self._swept = True

    def _doable(self, plan: Sequence[Action]) -> tuple[list[Action], list[Upload]]:
        """The plan without what touches a path that a queue has in hand: that is looked at again afterwards.

        Also uploads, by their other paths, of which another path is uploading.
        """
        doable: list[Action] = []
        later: list[Upload] = []
        for action in plan:
            busy = {path for path in _paths(action) if path in self.hashing or path in self.uploading}
            if not busy:
                doable.append(action)
            elif isinstance(action, Upload) and (others := tuple(path for path in action.paths if path not in busy)):
                later.append(Upload(others, action.content))
        return doable, later

    def uploaded(self, job: Job) -> None:
        """An upload has ended, one way or the other."""
        self.uploading.difference_update(record.path for record in job.records)
        self.hint(self._behind.pop(job.content, ()))

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
        if put_back := _of(plan, PutBack):
            await self._hands.put_back(put_back)
        if superseded := _of(plan, Supersede):
            await self._hands.supersede(superseded)
        await self._remember(view, [*plan, *later])
        for upload in later:
            self._behind[upload.content].update(upload.paths)
        for upload in _of(plan, Upload):
            self._upload_later(view, upload)
        for identify in _of(plan, Identify):
            self._identify_later(view.files[identify.path])
        self._leave(view, _of(plan, Leave))
        return stuck

    async def _quarantine(self, view: View, actions: Sequence[Quarantine]) -> set[AssetId]:
        self._swept = False  # until the database knows where the files are
        failed = await self._hands.quarantine(view, actions)
        self._swept = True
        self.retry(action.path for action in failed)
        return {action.asset_id for action in failed}

    async def _remember(self, view: View, plan: Sequence[Action]) -> None:
        """Keep the digests of what waits for a request, so that nothing is hashed twice, whatever happens."""
        held = [self._hands.record(view, path, u.content, None) for u in _of(plan, Upload) for path in u.paths]
        held += (self._hands.record(view, r.path, r.content, None) for r in _of(plan, Restore))
        for leave in _of(plan, Leave):
            if leave.content is not None:
                # At first sight noted as a problem, so that the next scan does not take it for anything else.
                known = view.records.get(leave.path)
                problem = known.problem if known and leave.why is Why.REFUSED else None
                problem = leave.why.value if leave.why is Why.FIRST_SIGHT else problem
                held.append(self._hands.record(view, leave.path, leave.content, None, problem))
        fresh = [record for record in held if view.records.get(record.path) != record]
        if fresh:
            await self.store.upsert(self.owner, fresh)
        if restored := [action.asset_id for action in _of(plan, Restore)]:
            # The owner brought the picture back: nothing is to be put back besides.
            await self.store.supersede(self.owner, restored)

    def _upload_later(self, view: View, action: Upload) -> None:
        records = tuple(self._hands.record(view, path, action.content, None) for path in action.paths)
        self.uploading.update(action.paths)
        self.to_upload.put_nowait(Job(records))

    def _identify_later(self, file: File) -> None:
        """Hash the file when it has been left in peace for long enough."""
        now, settle = time.time_ns(), self.parts.rules.settle_ns
        if settled(file.stat, now, self._glances.get(file.path), settle):
            self._glances.pop(file.path, None)
            self.hashing[file.path] = file.stat.size
            self.to_hash.put_nowait(file.path)
            return
        glance = self._glances.get(file.path)
        if glance is None or glance.stat != file.stat:
            self._glances[file.path] = Glance(file.stat, now)
        wait = settle - (now - file.stat.mtime_ns) if file.stat.mtime_ns <= now else settle
        self.hint([file.path], after=min(wait, settle) / 1e9)

    def _leave(self, view: View, actions: Sequence[Leave]) -> None:
        for path in (*view.files, *view.records):
            self.left.pop(path, None)
        now = time.monotonic()
        for action in actions:
            match action.why:
                case Why.GRACE if self.parts.known.scanning:
                    self._after_scan.add(action.path)
                    self.hint([action.path], after=_LONG_SCAN_S)
                case Why.GRACE:
                    over = self.parts.known.gone_since.get(action.path, now) + self.parts.rules.grace_s - now
                    self.hint([action.path], after=max(over, 0) or _TWIN_S)
                case Why.BEING_DELETED:
                    if action.asset_id is not None:
                        self._waiting_for[action.asset_id].add(action.path)
                    self.hint([action.path], after=_BEING_DELETED_S)
                case _:
                    self.leave([action.path], action.why)


def _of(plan: Sequence[Action], kind: type[A]) -> list[A]:
    return [action for action in plan if isinstance(action, kind)]


def _paths(action: Action) -> tuple[RelPath, ...]:
    match action:
        case Upload() | Trash():
            return action.paths
        case PutBack() | Supersede():
            return (action.entry.path,)
        case _:
            return (action.path,)
