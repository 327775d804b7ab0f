"""The service: sessions, one after the other, until it is told to stop."""

import asyncio
import faulthandler
import math
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import asyncpg
import structlog

from immich_dbsync import __version__
from immich_dbsync.core.backoff import Backoff
from immich_dbsync.errors import DatabaseBusy, DatabaseUnreachable, DbsyncError
from immich_dbsync.immich.api import Server
from immich_dbsync.metrics import SESSIONS
from immich_dbsync.service import listener as dedicated
from immich_dbsync.service.exposition import State, exposed
from immich_dbsync.service.listener import ConnectionLost
from immich_dbsync.service.notify import Notifier
from immich_dbsync.service.pools import connected
from immich_dbsync.service.session import Session
from immich_dbsync.settings import Settings

log = structlog.get_logger()

RECONNECT = Backoff(first=0.2, most=30.0)
"""Between two tries to reach the database, in seconds."""

_STOP_S = 5.0  # after which the process ends whatever its threads do; ten seconds are promised

_THREADS = 64

# Seconds after which a thread that computes lets go of Python's lock. A thread that works on files wants it back after
# every system call, and Python's own 5 ms for each would be most of its time.
_SWITCH_S = 0.0005

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
    sys.setswitchinterval(_SWITCH_S)
    faulthandler.enable()  # systemd's watchdog ends a service that hangs with SIGABRT: the log shows where it hung
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    notifier, state = Notifier(os.environ, os.getpid()), State()
    log.info("service.started", version=__version__)
    async with exposed(settings.metrics_port, state):
        task = asyncio.ensure_future(_sessions(settings, stopping, notifier, state))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, task, stopping, notifier)
        reporting = asyncio.ensure_future(notifier.report_forever(state.line))
        try:
            with suppress(asyncio.CancelledError):
                await task
        finally:
            reporting.cancel()
    log.info("service.stopped")


def _stop(task: "asyncio.Task[None]", stopping: asyncio.Event, notifier: Notifier) -> None:
    """End the service in good order, or in any order when that takes too long."""
    stopping.set()
    notifier.stopping()
    task.cancel()
    # A thread that hashes a large file can't be interrupted, and the interpreter would wait for it. What is in hand is
    # found anew by the next start, as after a power cut.
    end = threading.Timer(_STOP_S, os._exit, (0,))
    end.daemon = True
    end.start()


async def _sessions(settings: Settings, stopping: asyncio.Event, notifier: Notifier, state: State) -> None:
    attempt, started = 0, False
    loop = asyncio.get_running_loop()
    # Threads for what waits for a disk: with few, one user's slow files would hold up everybody.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="disk"))
    async with Server(str(settings.server_url), connections=0) as server:  # the upload slots bound them
        while True:
            since = math.inf
            try:
                async with connected(settings) as (pools, listener):
                    log.info("database.connected")
                    SESSIONS.inc()
                    session = Session(settings, pools, listener, server)
                    found = await session.prepare(first=not started)
                    started, since = True, loop.time()
                    state.session, state.waits_for = session, ""
                    notifier.ready()
                    loop.add_signal_handler(signal.SIGCONT, session.continued)
                    await session.run(found)
            except* _WAITED_FOR as errors:
                _tell(errors, state)
            except* asyncpg.PostgresError as errors:
                # Whatever PostgreSQL refuses is no reason to leave the folders alone for good once all has been well: a
                # right may have been revoked, a table be altered, a page be unreadable.
                if not started:
                    raise _right_missing(errors) or errors from errors
                _tell(errors, state)
            except* DbsyncError as errors:
                # At the start this is a mistake to mend; later it may pass, as when Immich is being restored.
                if not started:
                    raise
                _tell(errors, state)
            # Whoever started us need not wait for the database as well: what could be wrong with us would have shown.
            notifier.ready()
            if stopping.is_set():
                return  # an error of a child's came instead of the cancellation
            if loop.time() - since > _UP_S:
                attempt = 0
            await asyncio.sleep(RECONNECT.wait(attempt, random.random()))  # noqa: S311  # jitter, no secret
            attempt += 1


def _tell(errors: BaseExceptionGroup[Exception], state: State) -> None:
    """Log why the database is waited for, once for each reason."""
    reason = dedicated.reason(_first(errors))
    if reason != state.waits_for:
        log.warning("database.unavailable", reason=reason, advice="waiting for it")
    state.session, state.waits_for = None, reason


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
