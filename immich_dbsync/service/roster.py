"""Whom this service syncs: the owners of the keys that are set, without those who are paused; and when that changes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from immich_dbsync.errors import KeyRefused, SettingsError
from immich_dbsync.immich.library import Library
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import Account, accounts
from immich_dbsync.service.listener import Listener
from immich_dbsync.settings import Settings
from immich_dbsync.store.owners import Owners

log = structlog.get_logger()

KEY_RETRY_S = 30.0
"""Seconds until a key that nobody knew is looked for again, and until the file of keys is looked at again."""


class Roster:
    """Reads whom to sync, and tells when it should be read again."""

    def __init__(self, settings: Settings, library: Library, owners: Owners, listener: Listener) -> None:
        self._settings, self._library, self._owners, self._listener = settings, library, owners, listener
        self._unusable: list[str] = []  # a sentence for each key
        self._file: object = None  # what the file of keys was like when it was read
        self._found: list[Account] = []

    @property
    def unusable(self) -> int:
        """How many keys could not be used when they were read last."""
        return len(self._unusable)

    async def read(self, *, first: bool = False) -> list[Account]:
        """Whom to sync now. Keys that can't be used are logged.

        With ``first`` what makes any sync impossible is raised: KeyRefused, SettingsError. Later it is waited for.
        """
        self._file = self._look_at_file()
        try:
            keys = self._settings.require_api_keys() if first else self._settings.api_keys_or_none()
        except SettingsError as error:
            if first:
                raise
            log.error("keys.unreadable", reason=str(error))  # noqa: TRY400  # whoever mends it needs no traceback
            return self._found
        found, unusable = await accounts(self._library, keys)
        for problem in unusable:
            if problem not in self._unusable:
                log.error("key.unusable", reason=problem)
        self._unusable = unusable
        if first and not found:
            raise KeyRefused(unusable[0] + ".")
        self._listener.paused = paused = await self._owners.paused()
        self._found = [account for account in found if account.owner.id not in paused]
        return self._found

    async def changed(self) -> None:
        """Return when it may be otherwise: a command says so, a key was unknown, the file of keys is another one."""
        users = self._listener.users
        while not users.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(KEY_RETRY_S):
                    await users.wait()
            if self._unusable or self._look_at_file() != self._file:
                break
        users.clear()

    def _look_at_file(self) -> object:
        path = self._settings.api_keys_file
        if path is None:
            return None
        try:
            status = path.stat()
        except OSError as error:
            return error.errno
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True, slots=True)
class _Sync:
    """One owner's sync while it runs; ``over`` tells it that it is being ended."""

    account: Account
    over: asyncio.Event
    task: "asyncio.Task[None]"


class Crew:
    """The tasks that sync one owner each."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        sync: Callable[[Account, asyncio.Event], Coroutine[None, None, None]],
        ended: Callable[[OwnerId], Awaitable[None]],
    ) -> None:
        self._group, self._sync, self._ended = group, sync, ended
        self._syncs: dict[OwnerId, _Sync] = {}

    async def become(self, found: Sequence[Account]) -> None:
        """Start the sync of whoever is new, and end that of whoever is not among them, or has another key now."""
        wanted = {(account.owner.id, account.key) for account in found}
        for sync in [*self._syncs.values()]:
            if (sync.account.owner.id, sync.account.key) not in wanted:
                await self._end(sync)
        for account in found:
            if account.owner.id not in self._syncs:
                over = asyncio.Event()
                task = self._group.create_task(self._sync(account, over))
                self._syncs[account.owner.id] = _Sync(account, over, task)

    async def _end(self, sync: _Sync) -> None:
        """End one sync as the end of a session would: whatever is in hand is found anew by the next."""
        owner = sync.account.owner.id
        sync.over.set()
        sync.task.cancel()
        await asyncio.wait([sync.task])
        await self._ended(owner)
        del self._syncs[owner]
        log.info("owner.stopped", owner=str(owner))
