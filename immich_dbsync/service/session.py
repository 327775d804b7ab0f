"""From connecting to the database until the connection is lost: everything that the service does.

The order on connecting matters. LISTEN comes first, so that nothing is missed; then the triggers are verified, the
events drained, and what happened while nobody listened is caught up with. A lost connection ends the session and all
that is in hand; the next one begins as after a restart, which has to be right anyway.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import structlog

from immich_dbsync.core.actions import Why
from immich_dbsync.disk.errors import QuarantineUnsafe
from immich_dbsync.disk.marker import read_marker, stfolders, write_marker
from immich_dbsync.disk.root import Root
from immich_dbsync.errors import DatabaseUnreachable, RootUnusable
from immich_dbsync.immich.api import Server
from immich_dbsync.immich.library import Library
from immich_dbsync.metrics import ACTIONS, DEEDS
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import Account
from immich_dbsync.service.asks import Answers
from immich_dbsync.service.drain import Drain
from immich_dbsync.service.gate import Gate
from immich_dbsync.service.listener import LOST, ConnectionLost, Listener
from immich_dbsync.service.observe import Known, Observer, RootLost
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.parts import Parts
from immich_dbsync.service.pools import Pools
from immich_dbsync.service.roster import Crew, Roster
from immich_dbsync.service.rounds import Rounds, catch_up, foreign_root
from immich_dbsync.service.rules import Rules, rules_of
from immich_dbsync.service.workers import Workers
from immich_dbsync.settings import Settings
from immich_dbsync.store.holds import Concerns, Holds
from immich_dbsync.store.owners import Owners
from immich_dbsync.store.records import OwnerRow, Store
from immich_dbsync.wording import counted

log = structlog.get_logger()

_ROOT_RETRY_S = 10.0  # until a missing root is looked for again
_WELL_S = 60.0  # a sync that went on for so long went well for a while: what ends it is told again
_STANDBY_S = 2.0  # until another try to become the service of an owner whom another instance has
_DATABASE = (ConnectionLost, DatabaseUnreachable, asyncpg.PostgresError, asyncpg.InterfaceError, *LOST)
"""What ends the session for all owners; whatever else happens in one owner's sync is theirs alone."""
_OF_DATA = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""Refusals of what was asked, not of the connection or the tables: what is in one owner's folder led to them."""

_CONFINED: tuple[type[Exception], ...] = (Exception,)


class _Done(Exception):
    """Ends a group of tasks whose work is done."""


class Session:
    """One database connection's worth of service."""

    def __init__(self, settings: Settings, pools: Pools, listener: Listener, server: Server) -> None:
        self._settings = settings
        self._pools, pool = pools, pools.work
        self._listener = listener
        self._server = server
        self._library = Library(pool)
        self._store = Store(pool)
        self._holds = Holds(pool)
        self._roster = Roster(settings, self._library, Owners(pool), listener)
        self._rules = rules_of(settings)
        self._gate = Gate(server)
        self._slots = asyncio.Semaphore(settings.uploads)
        self._syncs: dict[OwnerId, OwnerSync] = {}
        self._wanted: frozenset[OwnerId] = frozenset()  # whose keys are set, and who are not paused
        self._elsewhere: set[OwnerId] = set()  # of these: whom another instance syncs
        self._drains: dict[OwnerId, Drain] = {}

    async def prepare(self, *, first: bool) -> list[Account]:
        """Whom to sync. Keys that can't be used are reported.

        In the first session what makes any sync impossible is raised: KeyRefused, RootUnusable. Later it is waited for.
        """
        found = await self._roster.read(first=first)
        self._wanted = _owners(found)
        if first:
            self._require_a_root(found)
        return found

    async def run(self, found: Sequence[Account]) -> None:
        """Sync these owners, and whoever is to be synced later, until cancelled or the connection is lost."""
        async with asyncio.TaskGroup() as group:
            self._start(group)
            crew = Crew(group, self._sync_forever, self._listener.unlock)
            while True:
                await crew.become(found)
                await self._roster.changed()
                found = await self._roster.read()
                self._wanted = _owners(found)

    def line(self) -> str:
        """How it goes, in a few words for one line."""
        syncs = self._syncs.values()
        line = f"syncing {len(syncs)} of {counted(len(self._wanted), 'user')}"
        if backlog := sum(sync.queues.backlog() for sync in syncs):
            line += f", {backlog} files to read or send"
        return line if self._gate.reason is None else f"{line}; waiting for Immich: {self._gate.reason}"

    def unusable_keys(self) -> int:
        """How many of the API keys that are set can't be used, because they are nobody's, or a deleted user's."""
        return self._roster.unusable

    @property
    def waits_for(self) -> str | None:
        """Why Immich's server is waited for; None while it answers."""
        return self._gate.reason

    def syncs(self) -> list[OwnerSync]:
        """Whoever is synced now."""
        return [*self._syncs.values()]

    def silence(self) -> float:
        """Seconds since the database connection was last known to be alive."""
        return time.monotonic() - self._listener.alive_at

    def own(self) -> frozenset[OwnerId]:
        """Whom this instance is to sync, be they synced now or not: all but whom another one syncs."""
        return self._wanted - self._elsewhere

    async def concerns(self) -> dict[OwnerId, Concerns]:
        """What waits for a person, of every owner who was ever synced."""
        return await self._holds.concerns()

    def continued(self) -> None:
        """The process was stopped and goes on: the kernel may have dropped events of files meanwhile."""
        for sync in self._syncs.values():
            sync.scan()

    async def once(self, account: Account, work: Callable[[Answers], Awaitable[None]]) -> bool:
        """Sync one owner for as long as ``work`` takes; False where another instance is their service already.

        Raises RootUnusable for a folder that can't be synced.
        """
        mine = False
        try:
            async with asyncio.TaskGroup() as group:
                self._start(group)
                with Root(self._settings.require_sync_root() / str(account.owner.id)) as root:
                    await self._check_marker(account.owner.id, root)
                    mine = await self._listener.lock(account.owner.id)
                    if mine:
                        await self._sync(account, root, work)
                raise _Done  # noqa: TRY301  # it ends the group
        except* _Done:
            pass
        except* (RootLost, QuarantineUnsafe) as errors:
            raise RootUnusable(_sentence(errors, self._settings.require_sync_root())) from errors
        return mine

    def _start(self, group: asyncio.TaskGroup) -> None:
        """Start what all owners' syncs need."""
        group.create_task(self._listener.watch_over())
        group.create_task(self._gate.probe_forever())
        group.create_task(self._pass_on_forever())

    def _require_a_root(self, found: Sequence[Account]) -> None:
        """Raise RootUnusable when no owner's folder can be opened: then nothing can be synced."""
        sync_root = self._settings.require_sync_root()
        errors: list[RootUnusable] = []
        for account in found:
            try:
                Root(sync_root / str(account.owner.id)).close()
            except RootUnusable as error:
                errors.append(error)
        if errors and len(errors) == len(found):
            raise RootUnusable(f"The folder of {found[0].owner.email} can't be synced: {errors[0]}.")

    # --- events ---

    async def _pass_on_forever(self) -> None:
        """Pass on to the owners' syncs what the listener hears."""
        listener = self._listener
        while True:
            await listener.news.wait()
            listener.news.clear()
            for drain in self._drains.values():
                drain.news.set()
            if listener.asked.is_set():
                listener.asked.clear()
                for sync in self._syncs.values():
                    sync.asked.set()
            if listener.missed.is_set():
                listener.missed.clear()
                log.warning("events.missed", advice="comparing everything with Immich")
                for sync in self._syncs.values():
                    sync.scan()  # begins with a catch-up

    # --- owners ---

    async def _sync_forever(self, account: Account, over: asyncio.Event) -> None:
        """Sync one owner whenever this instance has their folder and no other instance syncs them, until ``over``.

        It is cancelled then; but what fails on the way out may come instead of the cancellation.
        """
        owner = account.owner.id
        path = self._settings.require_sync_root() / str(owner)
        told: str | None = None
        while True:
            began = time.monotonic()
            reason, mine = await self._sync_until_it_fails(account, path)
            if over.is_set():
                return
            # Unless another instance syncs this owner, which may have the folder, `status` is told.
            ours = mine or (bool(reason) and await self._listener.lock(owner))
            if ours:
                self._elsewhere.discard(owner)
            else:
                self._elsewhere.add(owner)
            if mine and time.monotonic() - began > _WELL_S:
                told = None
            if not reason:
                reason = "another instance syncs this owner"
                if reason != told:
                    log.info("owner.standby", owner=str(owner), reason=reason)
                told = reason
                await asyncio.sleep(_STANDBY_S)
                continue
            if reason != told:
                log.error("root.unusable", owner=str(owner), reason=reason)
                told = reason
            if ours:
                await self._store.register_owner(owner)
                await self._store.set_problem(owner, "root", reason)
                await self._listener.unlock(owner)
            await asyncio.sleep(_ROOT_RETRY_S)

    async def _sync_until_it_fails(self, account: Account, path: Path) -> tuple[str, bool]:
        """Why it failed, empty where another instance syncs this owner; and whether it was this one's to sync."""
        owner, mine = account.owner.id, False
        try:
            with Root(path) as root:
                await self._check_marker(owner, root)
                mine = await self._listener.lock(owner)
                if mine:
                    self._elsewhere.discard(owner)
                    await self._sync(account, root)
        except* (RootUnusable, RootLost, QuarantineUnsafe) as errors:
            reason = _sentence(errors, path)
        except* _OF_DATA as errors:
            reason = _failed(errors, owner, path)
        except* _DATABASE as errors:
            # A statement that takes too long is one as well, but has no number; a file system's has.
            if errors.split(lambda error: isinstance(error, TimeoutError) and error.errno is not None)[1]:
                raise
            reason = _failed(errors, owner, path)
        except* _CONFINED as errors:
            reason = _failed(errors, owner, path)
        else:
            reason = ""
        return reason, mine

    async def _check_marker(self, owner: OwnerId, root: Root) -> None:
        """Raise RootUnusable for a folder that is not the one that was synced before, on this host or another."""
        row = await self._store.owner(owner)
        if row is None or row.root_id is None:
            return
        try:
            marker = await asyncio.to_thread(read_marker, root)
        except (ValueError, OSError) as error:
            raise _state_unusable(root, error) from error
        if marker != row.root_id:
            raise RootUnusable(foreign_root(root.path, row.root_id))

    async def _sync(
        self, account: Account, root: Root, work: Callable[[Answers], Awaitable[None]] | None = None
    ) -> None:
        """Sync one owner until the root is lost, or ``work`` is done."""
        owner = account.owner.id
        row = await self._store.register_owner(owner)
        try:
            root_id = await asyncio.to_thread(write_marker, root) if row.root_id is None else row.root_id
            folders = row.stfolders | await asyncio.to_thread(stfolders, root)
        except (ValueError, OSError) as error:
            raise _state_unusable(root, error) from error
        await self._store.set_root_id(owner, root_id)
        await self._store.set_stfolders(owner, folders)
        known = Known(unfamiliar=unfamiliar(row, self._rules))
        observer = Observer(
            owner=owner,
            root=root,
            root_id=root_id,
            stfolders=folders,
            rules=self._rules,
            pool=self._pools.looks,
            known=known,
        )
        sync = OwnerSync(
            Parts(
                owner=owner,
                key=account.key,
                root=root,
                observer=observer,
                known=known,
                rules=self._rules,
                store=self._store,
                holds=self._holds,
                library=self._library,
                server=self._server,
                gate=self._gate,
            )
        )
        log.info("owner.started", owner=str(owner), email=account.owner.email, path=str(root.path))
        await sync.dispatch.sweep_once()  # what is wrong with the quarantine stays told meanwhile
        await self._store.end_problems(owner)
        await sync.guard.remember(self._store)
        rounds = Rounds(sync, scan_interval=self._settings.scan_interval)
        drain = Drain(sync, self._listener)
        # Threads of the owner's own: whose files are large, or grow for ever, keeps nobody else's from being read.
        hashers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hash")
        self._syncs[owner], self._drains[owner] = sync, drain
        for action in ACTIONS:
            DEEDS.labels(str(owner), action)
        try:
            async with asyncio.TaskGroup() as group:
                workers = Workers(sync, slots=self._slots, hashers=hashers)
                workers.start(group, uploads_at_once=self._settings.uploads)
                rounds.start(group, watch=work is None)
                answers = Answers(sync, rounds, hashers)
                if work is None:
                    group.create_task(answers.answer_forever())
                await drain.once()
                group.create_task(drain.forever())
                await catch_up(sync)
                sync.looked = True
                if work is not None:
                    await work(answers)
                    raise _Done  # noqa: TRY301  # it ends the group
        except* _Done:
            pass
        finally:
            hashers.shutdown(wait=False, cancel_futures=True)
            del self._syncs[owner], self._drains[owner]


def _state_unusable(root: Root, error: ValueError | OSError) -> RootUnusable:
    """What is to be done about our own folder in a root: what was forged is to go, what failed is to be mended."""
    advice = "Mend that first" if isinstance(error, OSError) else "Mend or remove it"
    return RootUnusable(f"{root.path / '.immich-dbsync'} can't be used: {error}. {advice}")


def _owners(found: Sequence[Account]) -> frozenset[OwnerId]:
    return frozenset(account.owner.id for account in found)


def unfamiliar(row: OwnerRow | None, rules: Rules) -> Why | None:
    """Why removals that the next scan finds are to wait for a person; None for a root that is known."""
    if row is None or not row.scanned:
        return Why.FIRST_SIGHT
    return Why.SETTINGS_CHANGED if row.rules != rules.digest else None


def _failed(errors: BaseExceptionGroup[Exception], owner: OwnerId, path: Path) -> str:
    """What `status` says of a sync that failed: nothing in one folder may keep another one from being synced."""
    log.error("owner.failed", owner=str(owner), exc_info=errors)
    return f"the sync of {str(path)!r} failed and is tried again; the log says more: {_sentence(errors, path)}"


def _sentence(errors: BaseExceptionGroup[Exception], path: Path) -> str:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, RootLost):
        return f"{str(path)!r} is {first.health.value}: mount or put back the folder; nothing is removed meanwhile"
    return str(first)
