"""A session's connections to the database: one listens, few answer what decisions rest on, others do all the rest."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog

from immich_dbsync.errors import DatabaseUnreachable
from immich_dbsync.service.listener import Listener, listening
from immich_dbsync.settings import Settings
from immich_dbsync.store import expected
from immich_dbsync.store.connection import Connection

log = structlog.get_logger()

_WORK = 8  # connections, at most
_LOOKS = 4
PLANS_KEPT_S = 2.0
"""Seconds for which ``work`` keeps a plan."""

_AS_ALL = {
    "application_name": "immich-dbsync",
    # A commit of ours that a crash of PostgreSQL undoes is found again like one that was never made, and Immich's own
    # commits stay as durable as they are.
    "synchronous_commit": "off",
    # Nothing of ours holds a transaction open; should a bug do so, it must not keep Immich's dump waiting.
    "idle_in_transaction_session_timeout": "10000",
    # What compiling a plan costs is more than it can save for any statement of ours.
    "jit": "off",
}
LOOKING = {
    # Planning these anew for each look takes longer than answering them: each is written so that there is one plan,
    # along the indexes, for one path as for thousands, and whatever is known of the tables when it is made.
    "plan_cache_mode": "force_generic_plan",
    # Of a table that was vacuumed while it was empty PostgreSQL would read everything for each thing that is looked up.
    "enable_seqscan": "off",
}
"""How the connections for looks plan."""


@dataclass(frozen=True, slots=True)
class Pools:
    """``looks`` answers what bears on decisions, so that no long work keeps a deletion waiting; ``work`` all else."""

    work: "asyncpg.Pool[asyncpg.Record]"
    looks: "asyncpg.Pool[asyncpg.Record]"

    def terminate(self) -> None:
        """End all connections at once: a server that is frozen would never answer."""
        self.work.terminate()
        self.looks.terminate()


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Pools, Listener]]:
    """LISTEN on a connection of its own, then see to the triggers and open the pools for everything else."""
    url = settings.require_database_url()
    async with listening(url, settings.heartbeat) as listener:
        work = await _pool(url, _WORK, {}, setup=_Replanning())
        try:
            await _see_to_triggers(url, work)
            pools = Pools(work, await _pool(url, _LOOKS, LOOKING))
        except BaseException:
            work.terminate()
            raise
        listener.on_frozen = pools.terminate
        try:
            yield pools, listener
        finally:
            pools.terminate()  # nothing is under way that should be waited for


async def _see_to_triggers(url: str, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Mend our schema and triggers where they are not what they must be. Errors as of ``install.install``."""
    expected.require_immich((table, column) for table, column in await pool.fetch(expected.IMMICH_COLUMNS_SQL))
    # What another transaction drops just now may have no name or definition any more: that is a difference.
    rows = [(str(kind), str(name), str(text)) for kind, name, text in await pool.fetch(expected.CATALOG_SQL)]
    warnings = expected.warnings(rows)
    if expected.differences(rows):
        # Only now, because it brings psycopg: 8 MB that are for nothing at nearly every start.
        from immich_dbsync.store import install  # noqa: PLC0415

        report = await asyncio.to_thread(install.install, url)
        warnings = report.warnings
        for change in report.changed:
            log.info("triggers.mended", what=change)
    for warning in warnings:
        log.warning("triggers.warning", what=warning)


async def _pool(
    url: str, most: int, settings: dict[str, str], setup: "_Replanning | None" = None
) -> "asyncpg.Pool[asyncpg.Record]":
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=most,
        command_timeout=120,
        setup=setup,
        reset=_keep_as_it_is,
        connect=_connect,
        connection_class=Connection,
        server_settings=_AS_ALL | settings,
    )


async def _connect(*arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection for a pool; an OSError is told from one of a folder."""
    try:
        return await asyncpg.connect(*arguments, **options)
    except OSError as error:
        raise DatabaseUnreachable(f"PostgreSQL does not answer: {error}") from error


class _Replanning:
    """Has a connection's plans made anew after a while, when it is taken from its pool.

    PostgreSQL would keep one that was made while our tables were empty until it analyses them: by then thousands of
    files may have been looked up by reading all others.
    """

    def __init__(self) -> None:
        self._planned_at: dict[int, float] = {}  # by the process that serves the connection

    async def __call__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        now, served_by = time.monotonic(), connection.get_server_pid()
        if now - self._planned_at.setdefault(served_by, now) > PLANS_KEPT_S:
            self._planned_at[served_by] = now
            await connection.execute("discard plans")


async def _keep_as_it_is(_: object) -> None:
    """Nothing of ours changes a connection's state, and resetting it would cost a round trip for every query."""
