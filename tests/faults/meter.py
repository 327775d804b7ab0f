"""Immich's own statements, sent again and again while something is wrong with us: each succeeds, and soon."""

import asyncio
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Self
from uuid import UUID

import asyncpg

from immich_dbsync.demo.tables import ImmichVersion
from tests.waiting import within

LONGEST_WAIT_MS = 1000
"""No statement of Immich's may wait for a lock of ours for longer (issue: faults of the database)."""

_PAUSE_S = 0.01
_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


class Meter:
    """Lives an asset's life in another synced user's library, over and over; a context manager.

    ``statements`` counts what was sent, ``longest_s`` is the longest that one took, ``failures`` is what went wrong; a
    statement that waits for a lock for longer than ``LONGEST_WAIT_MS`` is one. That the server itself was away is none.
    """

    def __init__(self, url: str, owner: UUID, version: ImmichVersion) -> None:
        self._url, self._owner, self.version = url, owner, version
        self.statements = 0
        self.longest_s = 0.0
        self.failures: list[str] = []
        self._living = asyncio.Lock()
        self._over = asyncio.Event()
        self._number = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Raise AssertionError for every statement that failed or had to wait."""
        assert not self.failures, self.failures[:5]
        assert self.statements > 0

    async def rest(self) -> None:
        """Send nothing until ``go_on``: for what no Immich runs during, as its own update."""
        await self._living.acquire()

    def go_on(self, version: ImmichVersion | None = None) -> None:
        """Send statements again, as this version does."""
        self.version = version or self.version
        self._living.release()

    async def _run(self) -> None:
        while not self._over.is_set():
            try:
                connection = await asyncpg.connect(
                    self._url, server_settings={"lock_timeout": str(LONGEST_WAIT_MS)}, statement_cache_size=0
                )
                try:
                    while True:
                        async with self._living:
                            await self._life(connection)
                finally:
                    connection.terminate()
            except _AWAY:
                await within(self._over, _PAUSE_S * 5)
            except asyncpg.PostgresError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                await within(self._over, _PAUSE_S * 5)

    async def _life(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._number += 1
        columns, values = (', "deviceAssetId", "deviceId"', ", 'a', 'b'") if self.version == "2.7.5" else ("", "")
        asset = await self._timed(
            connection.fetchval(
                f"""insert into asset (checksum, "checksumAlgorithm", "fileCreatedAt", "fileModifiedAt",
                      "localDateTime", "originalFileName", "originalPath", "ownerId", type{columns})
                    values (sha256($1), 'sha1', now(), now(), now(), 'm.jpg', 'm.jpg', $2, 'IMAGE'{values})
                    returning id""",
                f"meter {self._number}".encode(),
                self._owner,
            )
        )
        for statement in (
            'update asset set "isFavorite" = true where id = $1',
            """update asset set status = 'trashed', "deletedAt" = now() where id = $1""",
            """update asset set status = 'active', "deletedAt" = null where id = $1""",
            """update asset set status = 'deleted', "deletedAt" = now() where id = $1""",
            "delete from asset where id = $1",
        ):
            await self._timed(connection.execute(statement, asset))
            await within(self._over, _PAUSE_S)

    async def _timed(self, statement: Awaitable[object]) -> object:
        began = time.monotonic()
        result = await statement
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.statements += 1
        return result
