"""The loops that find out what changed in an owner's folder: watch, scans, and the pump that works off the hints."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import structlog

from immich_dbsync.core.actions import Why
from immich_dbsync.disk.marker import Health, lost_stfolders, stfolders
from immich_dbsync.disk.watch import Watch
from immich_dbsync.metrics import SCANNED, SCANS
from immich_dbsync.model import RelPath
from immich_dbsync.service.logs import printable
from immich_dbsync.service.observe import Observer, RootLost
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.requests import batches
from immich_dbsync.service.scan import Tally, differences
from immich_dbsync.service.sweep import undo
from immich_dbsync.service.take_back import TakeBack

log = structlog.get_logger()

BATCH = 500
"""Paths looked at together: a deletion in Immich may have to wait for one such look."""

BACKLOG = 5000
"""Files waiting to be hashed or uploaded above which a scan waits, so that memory does not grow with the folder."""

_ROOM_S = 0.05  # between two looks whether the backlog has shrunk
_IDLE_S = 0.5  # between two looks whether all is done; nobody tells when a look of another's has ended
_HEALTH_S = 3.0  # between two looks at a root's markers
_REST = 20  # times as long as it took to look for new folders that are shared, until that is done again
_STALL_S = 3.0  # more than that between two looks: the process was not running
_JITTER = 0.1  # of the time between two scans, so that owners do not scan at the same moment for ever


async def catch_up(sync: OwnerSync, judged: asyncio.Event | None = None) -> None:
    """Have everything looked at whose asset changed while nobody listened: compared in SQL, not row by row.

    Sets ``judged`` when what was lost has been judged as a whole.
    """
    await sync.store.clean_requests(sync.owner, sync.queues.requesting)
    paths = await sync.store.catch_up_paths(sync.owner, b"", BATCH)
    # While the settings have changed all of it waits for a person anyway, and says why.
    if paths and sync.known.unfamiliar is not Why.SETTINGS_CHANGED:
        await sync.judge_lost(None)
    if judged is not None:
        judged.set()
    await catch_up_entries(sync)
    while paths:
        await sync.look(paths)
        await _room(sync)
        paths = await sync.store.catch_up_paths(sync.owner, paths[-1], BATCH)
    for hold in await sync.close_holds():
        log.info("hold.closed", owner=str(sync.owner), hold=hold)


async def catch_up_entries(sync: OwnerSync) -> None:
    """The part of ``catch_up`` that is about files in quarantine."""
    retention = sync.parts.rules.retention_ns
    over = None if retention is None else timedelta(microseconds=retention // 1000)
    for entries in batches(await sync.store.catch_up_entries(sync.owner, over), BATCH):
        await sync.look(entries=entries)


async def _room(sync: OwnerSync) -> None:
    """Return when what was found so far is decided and few files wait to be hashed or uploaded."""
    # An event for each of these counters would cost more than looking at them.
    while sync.todo.behind() or sync.queues.backlog() > BACKLOG:  # noqa: ASYNC110
        await asyncio.sleep(_ROOM_S)


def foreign_root(root: Path, expected: UUID | None) -> str:
    """What an administrator can do about a folder that does not hold the mark that the database knows."""
    marker = root / ".immich-dbsync" / "root-id"
    return (
        f"{root} is not the folder that was synced before: {marker} does not hold {expected}. Mount or"
        " put back the right folder; if this is it, write that id into the file. Nothing is deleted meanwhile."
    )


def advice(observer: Observer, state: Health) -> str:
    """What an administrator can do about a root that is not healthy. Until then nothing missing counts as deleted."""
    root = observer.root.path
    match state:
        case Health.MARKER_MISSING | Health.MARKER_FOREIGN:
            return foreign_root(root, observer.root_id)
        case Health.STFOLDER_LOST:
            return _stfolders_lost(root, lost_stfolders(observer.root, observer.stfolders))
        case _:
            return f"{root} is {state.value}: mount or put back the folder. Nothing is deleted meanwhile."


def _stfolders_lost(root: Path, lost: Sequence[bytes]) -> str:
    markers = [printable(os.fsencode(root / os.fsdecode(folder) / ".stfolder")) for folder in lost]
    named = markers[0] if markers else f"A .stfolder in {root}"
    others = f" (and {len(markers) - 1} more)" if len(markers) > 1 else ""
    return (
        f"{named}{others} is gone: a mount may be missing there, or Syncthing may not share the folder any more."
        " Mount it, share it again, or make the empty folder .stfolder again. Nothing is deleted meanwhile."
    )


class Rounds:
    """Watches, scans and pumps one owner's sync until cancelled."""

    def __init__(self, sync: OwnerSync, *, scan_interval: float) -> None:
        self._sync = sync
        self._scan_interval = scan_interval
        self._left_told: dict[str, int] | None = None
        self._finished: Tally | None = None  # a full scan whose differences are still being looked at
        self._began = datetime.now(UTC)  # by the database's clock once the first scan begins
        self._summary: tuple[datetime, Tally] | None = None  # since when, and what the first scan found
        self._take_back = TakeBack(sync)
        self._learn_at = 0.0
        self.tallies: dict[bytes, Tally] = {}  # of the last scan of each prefix, which may still go on

    def start(self, group: asyncio.TaskGroup, *, watch: bool = True) -> None:
        """Start all loops as tasks of ``group``; without ``watch`` nothing is looked at before it is asked for."""
        group.create_task(self._pump_forever())
        group.create_task(self._scan_forever())
        if watch:
            group.create_task(self._watch_forever())
            group.create_task(self._remind_forever())
        group.create_task(self._mind_health_forever())

    # --- hints ---

    async def _pump_forever(self) -> None:
        sync, todo = self._sync, self._sync.todo
        while True:
            todo.hinted.clear()  # before looking at anything: what comes from now on is not missed
            if paths := todo.agenda.take(time.monotonic(), BATCH):
                await sync.look(paths)
                continue
            if sync.dispatch.before and not (sync.queues.hashing or sync.known.scanning):
                await sync.judge_before()
                continue
            if self._finished is not None and self._worked_off():
                finished, self._finished = self._finished, None
                await self._report(finished)
                sync.unclaimed = True
            if sync.unclaimed and self._settled():
                await self._take_back.once()
            if self._summary is not None and sync.idle():
                await self._summarize(*self._summary)
            await self._tell_what_is_left()
            due = [todo.agenda.next_due(), time.monotonic() + _IDLE_S if self._summary is not None else None]
            first = min((each for each in due if each is not None), default=None)
            try:
                async with asyncio.timeout(None if first is None else max(0.0, first - time.monotonic())):
                    await todo.hinted.wait()
            except TimeoutError:
                pass

    async def _watch_forever(self) -> None:
        sync = self._sync
        watch, told = Watch(sync.root, asyncio.Event()), ""
        async for hints in watch:
            trouble = str(watch.trouble) if watch.trouble is not None else ""
            if trouble != told:
                await sync.store.set_problem(sync.owner, "watch", trouble or None)
                log.warning("root.watch", owner=str(sync.owner), mode=watch.mode.value, reason=trouble)
                told = trouble
            if hints.rescan:
                if not sync.root.still_there():
                    raise RootLost(Health.REPLACED if sync.root.path.exists() else Health.MISSING)
                sync.scan()
            # A file that changed while it was sent has failed for no reason that lasts.
            sync.todo.forget_failures(hints.paths)
            await sync.heard(hints.paths)
        raise RootLost(Health.MISSING)

    async def _mind_health_forever(self) -> None:
        """Tell `status` when the root's health changes, and look at everything when it is well again.

        Also where the process stood still for a while, asleep or stopped: the kernel keeps so many events and no more,
        and watchfiles does not tell when some were lost.
        """
        sync, before, attempt = self._sync, Health.OK, 0
        retry_at = slept_at = time.monotonic()
        while True:
            if time.monotonic() - slept_at > _HEALTH_S + _STALL_S:
                log.warning("service.stood_still", owner=str(sync.owner), advice="comparing everything")
                sync.scan()
            if sync.entries_left and time.monotonic() >= retry_at:
                sync.entries_left = False
                await catch_up_entries(sync)
                attempt = attempt + 1 if sync.entries_left else 0
                retry_at = time.monotonic() + sync.todo.pause(attempt)
            observer = sync.parts.observer
            state = await observer.health()
            if state is not before:
                problem = None if state is Health.OK else await asyncio.to_thread(advice, observer, state)
                await sync.store.set_problem(sync.owner, "root", problem)
                log.warning("root.health", owner=str(sync.owner), state=state.value)
            # A look may have found it otherwise for a moment, and left what it saw then.
            if state is Health.OK and (before is not Health.OK or observer.was_unwell):
                observer.was_unwell = False
                sync.scan()
            before = state
            if time.monotonic() >= self._learn_at:
                began = time.monotonic()
                await self._learn_stfolders()
                self._learn_at = time.monotonic() + _REST * (time.monotonic() - began)
            await sync.mind_owner()
            slept_at = time.monotonic()
            await asyncio.sleep(_HEALTH_S)

    async def _learn_stfolders(self) -> None:
        """Know of each folder that the file sync tool came to share meanwhile: its marker has to stay from now on."""
        sync, observer = self._sync, self._sync.parts.observer
        with suppress(OSError):  # the root's health tells of it
            new = await asyncio.to_thread(stfolders, sync.root) - observer.stfolders
            if new:
                observer.stfolders |= new
                await sync.store.set_stfolders(sync.owner, observer.stfolders)

    # --- scans ---

    async def _remind_forever(self) -> None:
        while True:
            await asyncio.sleep(self._scan_interval * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  # jitter
            self._sync.scan()

    async def _scan_forever(self) -> None:
        sync = self._sync
        self._began = await sync.store.now()
        while True:
            await sync.scan_wanted.wait()
            sync.scan_wanted.clear()
            prefixes, sync.to_scan = sync.to_scan, set()
            sync.known.scanning = True
            for prefix in [b""] if b"" in prefixes else sorted(prefixes):
                tally, began, judged = Tally(), time.monotonic(), asyncio.Event()
                self.tallies[prefix] = tally
                async with asyncio.TaskGroup() as both:
                    if prefix:
                        judged.set()
                    else:  # mends what went wrong before, and what no event told of: PostgreSQL, beside the walk
                        both.create_task(catch_up(sync, judged))
                    both.create_task(self._scan(prefix, tally, judged))
                if not prefix:
                    SCANS.labels(str(sync.owner)).observe(time.monotonic() - began)
                    SCANNED.labels(str(sync.owner)).inc(tally.files)
                    self._finished = tally  # the pump reports it when what it found has been looked at
            if not sync.to_scan:
                sync.scanned()

    async def _scan(self, prefix: bytes, tally: Tally, judged: asyncio.Event) -> None:
        """Have every difference looked at, but none before ``judged``."""
        sync = self._sync
        found = differences(sync.root, sync.parts.rules.names, sync.store, sync.owner, prefix=prefix, tally=tally)
        batch: list[RelPath] = []
        async with aclosing(found):
            async for path in found:
                batch.append(path)
                if len(batch) >= BATCH:
                    await judged.wait()
                    sync.hint(batch)
                    batch = []
                    await _room(sync)
        await judged.wait()
        if tally.left_behind and await sync.parts.observer.health() is Health.OK:
            batch += await undo(sync.owner, sync.root, sync.store, tally.left_behind)
        sync.hint(batch)
        await _room(sync)

    async def _tell_what_is_left(self) -> None:
        """Have `status` know what is left alone, as soon as that changes."""
        counts = {why.value: count for why, count in Counter(self._sync.dispatch.left.values()).items()}
        if counts != self._left_told:
            await self._sync.store.set_undecided(self._sync.owner, counts)
            self._left_told = counts

    def _settled(self) -> bool:
        """Whether every file is identified, and nothing is being sent or asked for."""
        sync = self._sync
        sending = sync.queues.uploading or sync.queues.asking
        return sync.identified() and not (sync.known.scanning or sending)

    def _worked_off(self) -> bool:
        """Whether all that the last full scan found has been decided.

        While a person has to be asked that goes for what is missing, too, and another scan that is wanted comes first.
        """
        sync = self._sync
        if not sync.identified() or sync.known.unfamiliar is None:
            return sync.identified()
        scanning = sync.known.scanning or sync.scan_wanted.is_set()
        return not (scanning or sync.todo.waiting_in_grace())

    async def _report(self, tally: Tally) -> None:
        """Write down what a full scan counted; the first one is over when all it found has been decided."""
        sync = self._sync
        # Else nothing that is missing or lost could be decided: it is for the scan that follows when all is well again.
        decided = sync.known.owner_active and not sync.parts.observer.was_unwell
        counts = {
            "files": tally.files,
            "new": tally.new,
            "changed": tally.changed,
            "gone": tally.gone,
            "unreadable": tally.unreadable,
            "left_alone": {reason.value: count for reason, count in tally.left_alone.items()},
        }
        if decided:
            if sync.known.unfamiliar is Why.FIRST_SIGHT:
                self._summary = (self._began, tally)
            sync.known.unfamiliar = None
        await sync.store.set_scanned(sync.owner, counts, sync.parts.rules.digest if decided else None)
        log.info("scan.finished", owner=str(sync.owner), counts=counts)

    def reported(self) -> bool:
        """Whether every full scan that was made has been worked off and written down."""
        return self._finished is None

    async def _summarize(self, since: datetime, tally: Tally) -> None:
        """Write down what became of what the first scan found, now that all of it is done."""
        sync, self._summary = self._sync, None
        left = {reason.value: count for reason, count in tally.left_alone.items()}
        left |= {why.value: count for why, count in Counter(sync.dispatch.left.values()).items()}
        summary = await sync.store.set_summary(sync.owner, since, {"files": tally.files, "left_alone": left})
        log.info("scan.summary", owner=str(sync.owner), counts=summary)
