"""The dedicated connection: hears our triggers' notifications, proves that it is alive, and holds the owners' locks."""

import asyncio
import hashlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg

from immich_dbsync import sql
from immich_dbsync.errors import DatabaseRightMissing, DatabaseUnreachable, LoginRefused, SettingsError
from immich_dbsync.model import OwnerId
from immich_dbsync.settings import name_in_use, program
from immich_dbsync.store import channel
from immich_dbsync.store.connection import Connection

APPLICATION = "immich-dbsync listen"
"""What the dedicated connection of every service is called in PostgreSQL."""

_ANSWER_S = 10.0  # within which a heartbeat must be answered
_BIGINT = 1 << 63

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server is shutting down or starting
    asyncpg.InsufficientResourcesError,  # too many connections, a full disk
    asyncpg.InternalClientError,  # what asyncpg says of some connections that end in the middle of a question
    ConnectionError,
    TimeoutError,
)
"""Errors of a database that is not there, or not for now."""


class ConnectionLost(Exception):
    """The database connection ended or froze, or Immich's deletions are not captured any more."""


class Listener:
    """Wakes ``news`` on every notification, ``missed`` on one that says that an event could not be written, ``asked``
    where a command asked something, and ``users`` where one changed whom to sync.

    The advisory locks it takes end with the connection, however that ends.
    """

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", heartbeat: float) -> None:
        self._connection = connection
        self._heartbeat = heartbeat
        self.news = asyncio.Event()
        self.news.set()  # what came before LISTEN is to be read as well
        self.missed = asyncio.Event()
        self.asked = asyncio.Event()
        self.users = asyncio.Event()
        self.paused: frozenset[OwnerId] = frozenset()  # when it was last read whom to sync
        self.alive_at = time.monotonic()  # when it last answered
        self._lost = asyncio.Event()
        self.on_frozen: Callable[[], None] = lambda: None
        """Ends what else may wait for the frozen server; a question that is cancelled waits for its answer."""
        self._asking = asyncio.Lock()  # owners ask for their locks side by side, a connection takes one question

    async def start(self) -> None:
        """Begin to listen. Whatever is committed from now on is heard."""
        self._connection.add_termination_listener(lambda *_: self._lost.set())
        await self._connection.add_listener(channel.CHANNEL, self._heard)

    def _heard(self, *heard: object) -> None:
        match heard[-1]:
            case "":
                pass
            case channel.ASKED:
                self.asked.set()
            case channel.USERS:
                self.users.set()
            case _:  # our trigger could not write its event, and says so with a payload
                self.missed.set()
        self.news.set()

    async def lock(self, owner: OwnerId) -> bool:
        """Become the one service for this owner; False where another is."""
        async with self._asking:
            return bool(await self._connection.fetchval("select pg_try_advisory_lock($1)", lock_key(owner)))

    async def unlock(self, owner: OwnerId) -> None:
        """Let another instance be the service for this owner."""
        async with self._asking:
            await self._connection.fetchval("select pg_advisory_unlock($1)", lock_key(owner))

    async def watch_over(self) -> None:
        """Ask the silent connection from time to time whether all is well.

        Raises ConnectionLost when it ends or does not answer, or our triggers are not there: the next session mends
        that. Events and asks that wait without a notification are found, and who was paused or resumed.
        """
        while True:
            try:
                async with asyncio.timeout(self._heartbeat):
                    await self._lost.wait()
                raise ConnectionLost("the database ended the connection")
            except TimeoutError:
                pass
            try:
                async with asyncio.timeout(_ANSWER_S), self._asking:
                    found = await self._connection.fetchrow(sql.block("schema/catalog", "heartbeat"))
            except TimeoutError as error:
                self.on_frozen()
                raise ConnectionLost("the database connection is frozen") from error
            assert found is not None
            self.alive_at = time.monotonic()
            if not found["captures"]:
                raise ConnectionLost("our triggers on Immich's table asset are gone or disabled")
            if found["asked"]:
                self.asked.set()
            if found["waiting"] or found["asked"]:
                self.news.set()
            if self.paused != {UUID(owner) for owner in found["paused"].split()}:
                self.users.set()


def lock_key(owner: OwnerId) -> int:
    """The owner's advisory lock: 64 bits of a digest, as PostgreSQL's signed bigint."""
    digest = hashlib.sha256(b"immich-dbsync owner " + owner.bytes).digest()
    return int.from_bytes(digest[:8], "big") - _BIGINT


# PostgreSQL gives up a client whose host is gone within about eight seconds, and with it the locks that it holds. On a
# Unix socket these have no effect, and no host can go.
_NOTICE_A_DEAD_HOST = {
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "8000",
}


async def connect(url: str, application_name: str, **settings: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection with these settings of PostgreSQL.

    Raises DatabaseUnreachable for what waiting may mend, LoginRefused and SettingsError for what it would not.
    """
    try:
        given = {"application_name": application_name, **settings}
        return await asyncpg.connect(url, timeout=_ANSWER_S, server_settings=given, connection_class=Connection)
    except (*LOST, OSError) as error:
        raise DatabaseUnreachable(
            f"PostgreSQL does not answer at {_place(url)}: {reason(error)}. Is it running, is the address right"
            f" ({name_in_use('database_url')}, or Immich's DB_URL or DB_HOSTNAME)?"
        ) from error
    except asyncpg.PostgresError as error:
        raise LoginRefused(
            f"PostgreSQL refuses the login: {reason(error)}. Check user, password and database name."
        ) from error
    except ValueError:  # of asyncpg's reading of the URL, which it may quote with the password in it
        raise SettingsError(
            "The database URL can't be read; it looks like postgresql://user:password@host/db"
        ) from None


def reason(error: BaseException) -> str:
    """What an error says, in one line without a full stop; the system's words where a system call failed."""
    # An error of TLS is an OSError as well, whose number is another thing.
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno) if error.errno > 0 else error.strerror or str(error)
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def right_missing(error: asyncpg.InsufficientPrivilegeError) -> DatabaseRightMissing:
    """PostgreSQL's refusal of a statement, as the error that says what to do."""
    return DatabaseRightMissing(
        f"PostgreSQL refuses: {reason(error)}. Connect as the role that owns Immich's tables. What else to grant, and"
        f" as whom, is told by: {program()} doctor"
    )


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{host}:{parts.port or 5432}"


@asynccontextmanager
async def listening(url: str, heartbeat: float) -> AsyncIterator[Listener]:
    """A Listener on a connection of its own, closed at the end."""
    connection = await connect(url, APPLICATION, **_NOTICE_A_DEAD_HOST)
    try:
        listener = Listener(connection, heartbeat)
        await listener.start()
        yield listener
    finally:
        connection.terminate()
