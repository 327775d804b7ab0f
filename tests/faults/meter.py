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
_LOOK_S = 0.1
_WAITS = """
select coalesce(max(extract(epoch from clock_timestamp() - w.waitstart)), 0)::float8
from pg_locks w join pg_stat_activity who on who.pid = w.pid
where not w.granted and who.datname = current_database() and who.application_name not like 'immich-dbsync%'
  and (
    w.relation in (select c.oid from pg_class c where c.relnamespace = to_regnamespace('immich_dbsync_v1'))
    or exists (
      select from unnest(pg_blocking_pids(w.pid)) pid join pg_stat_activity ours using (pid)
      where ours.application_name like 'immich-dbsync%'
    )
  )
"""
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
    ``waited_s`` is the longest that anybody but us waited for us, or for one of our tables: what a trigger waits for it
    bounds itself, and no error tells of it.
    """

    def __init__(self, url: str, owner: UUID, version: ImmichVersion) -> None:
        self._url, self._owner, self.version = url, owner, version
        self.statements = 0
        self.longest_s = self.waited_s = 0.0
        self.failures: list[str] = []
        self._living = asyncio.Lock()
        self._over = asyncio.Event()
        self._number = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._look())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raise AssertionError for every statement that failed or had to wait."""
        assert not self.failures, self.failures[:5]
        assert self.waited_s * 1000 < LONGEST_WAIT_MS, f"Immich waited for us for {self.waited_s:.1f} s"
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
                    while not self._over.is_set():  # a cancellation in that moment is lost
                        async with self._living:
                            await self._life(connection)
                finally:
                    connection.terminate()
            except _AWAY:
                await within(self._over, _PAUSE_S * 5)
            except asyncpg.PostgresError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                await within(self._over, _PAUSE_S * 5)

    async def _look(self) -> None:
        """Ask again and again who waits for whom."""
        while not self._over.is_set():
            try:
                connection = await asyncpg.connect(self._url, statement_cache_size=0)
                try:
                    while not self._over.is_set():
                        self.waited_s = max(self.waited_s, await connection.fetchval(_WAITS))
                        await within(self._over, _LOOK_S)
                finally:
                    connection.terminate()
            except (*_AWAY, asyncpg.PostgresError):
                await within(self._over, _LOOK_S)

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
