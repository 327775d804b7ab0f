"""The service: sessions, one after the other, until it is told to stop."""

import asyncio
import logging
import math
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import asyncpg
import structlog

from immich_dbsync.core.backoff import Backoff
from immich_dbsync.errors import DatabaseBusy, DatabaseUnreachable, DbsyncError
from immich_dbsync.immich.api import Server
from immich_dbsync.service import listener as dedicated
from immich_dbsync.service.listener import ConnectionLost
from immich_dbsync.service.session import Session, connected
from immich_dbsync.settings import Settings

log = structlog.get_logger()

RECONNECT = Backoff(first=0.2, most=30.0)
"""Between two tries to reach the database, in seconds."""

_STOP_S = 5.0  # after which the process ends whatever its threads do; ten seconds are promised

_THREADS = 64

_UP_S = 5.0  # a session that lasted so long was up; others come less and less often

_WAITED_FOR = (
    ConnectionLost,
    DatabaseUnreachable,
    DatabaseBusy,
    *dedicated.LOST,
    OSError,
    asyncpg.InterfaceError,  # the pool's connections were closed under us
    asyncpg.TransactionRollbackError,  # a deadlock, of which we were the victim
    asyncpg.ReadOnlySQLTransactionError,  # it became a standby
    asyncpg.UndefinedTableError,  # Immich is restoring a backup, or our schema was removed
    asyncpg.UndefinedColumnError,  # Immich was updated: the next session tells what is missing
    asyncpg.InvalidSchemaNameError,
)


async def run(settings: Settings) -> None:
    """Sync until SIGTERM or SIGINT. Raises a DbsyncError for what a restart would not mend."""
    settings.require_database_url()
    settings.require_api_keys()
    settings.require_sync_root()
    # The pool logs each connection that it could not open again, with a traceback; the session says what is wrong.
    logging.getLogger("asyncpg").addHandler(logging.NullHandler())
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    task = asyncio.ensure_future(_sessions(settings, stopping))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, task, stopping)
    with suppress(asyncio.CancelledError):
        await task
    log.info("service.stopped")


def _stop(task: "asyncio.Task[None]", stopping: asyncio.Event) -> None:
    """End the service in good order, or in any order when that takes too long."""
    stopping.set()
    task.cancel()
    # A thread that hashes a large file can't be interrupted, and the interpreter would wait for it. What is in hand is
    # found anew by the next start, as after a power cut.
    end = threading.Timer(_STOP_S, os._exit, (0,))
    end.daemon = True
    end.start()


async def _sessions(settings: Settings, stopping: asyncio.Event) -> None:
    attempt, started, told = 0, False, ""
    loop = asyncio.get_running_loop()
    # Threads for what waits for a disk: with few, one user's slow files would hold up everybody.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="disk"))
    async with Server(str(settings.server_url), connections=0) as server:  # the upload slots bound them
        while True:
            since = math.inf
            try:
                async with connected(settings) as (pool, listener):
                    log.info("database.connected")
                    session = Session(settings, pool, listener, server)
                    found = await session.prepare(first=not started)
                    started, since, told = True, loop.time(), ""
                    loop.add_signal_handler(signal.SIGCONT, session.continued)
                    await session.run(found)
            except* _WAITED_FOR as errors:
                told = _tell(errors, told)
            except* asyncpg.PostgresError as errors:
                # Whatever PostgreSQL refuses is no reason to leave the folders alone for good once all has been well: a
                # right may have been revoked, a table be altered, a page be unreadable.
                if not started:
                    raise _right_missing(errors) or errors from errors
                told = _tell(errors, told)
            except* DbsyncError as errors:
                # At the start this is a mistake to mend; later it may pass, as when Immich is being restored.
                if not started:
                    raise
                told = _tell(errors, told)
            if stopping.is_set():
                return  # an error of a child's came instead of the cancellation
            if loop.time() - since > _UP_S:
                attempt = 0
            await asyncio.sleep(RECONNECT.wait(attempt, random.random()))  # noqa: S311  # jitter, no secret
            attempt += 1


def _tell(errors: BaseExceptionGroup[Exception], told: str) -> str:
    """Log why the database is waited for, once for each reason; returns it."""
    reason = dedicated.reason(_first(errors))
    if reason != told:
        log.warning("database.unavailable", reason=reason, advice="waiting for it")
    return reason


def _right_missing(errors: BaseExceptionGroup[Exception]) -> DbsyncError | None:
    error = _first(errors)
    return dedicated.right_missing(error) if isinstance(error, asyncpg.InsufficientPrivilegeError) else None


def _first(errors: BaseExceptionGroup[Exception]) -> BaseException:
    """The error that says most: others may have followed from a lost connection."""
    leaves = [*_leaves(errors)]
    return next((error for error in leaves if isinstance(error, ConnectionLost)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
