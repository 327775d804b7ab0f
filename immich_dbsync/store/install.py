"""Installs, verifies and removes our schema and triggers: synchronous, one transaction each, never in Immich's way.

A lock is waited for only as long as ``Patience.lock_timeout``: whoever waits for a lock on ``asset`` makes Immich's
next statements queue behind. What was not to be had is tried again after a pause in which nothing is held.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import errors
from psycopg.rows import class_row

from immich_dbsync import sql
from immich_dbsync.errors import DatabaseBusy, DatabaseRightMissing, DatabaseUnreachable, NotImmich, TriggersDiffer
from immich_dbsync.store import expected
from immich_dbsync.store.expected import Part, Row

# Held by install and remove for their transaction, so that two of them do not meet. Any number that is nobody else's.
_ADVISORY_LOCK = 7_302_415_960_117_648
_TRIES = 3  # more, at mending what somebody else spoils at the same time
_BUSY = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    # A restore of Immich's put other tables into the place of those that were looked at.
    errors.UndefinedTable,
    errors.UndefinedObject,
    errors.InvalidSchemaName,
    errors.DuplicateTable,
)
_Result = TypeVar("_Result")
_Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for one lock, between tries, and before giving up; and the clock for that."""

    lock_timeout: float = 0.25
    pause: float = 0.5
    give_up_after: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Report:
    """What was found and done: differences left, things changed, and what else an administrator should know."""

    differences: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Situation:
    role: str
    database: str
    may_create: bool
    asset_owner: str
    acts_for_owner: bool


def verify(url: str) -> Report:
    """Compare the database with what install makes; reads the catalog only and takes no lock.

    Raises NotImmich and DatabaseUnreachable. Differences are in the report, not raised.
    """
    with _connected(url) as connection:
        _require_immich(connection)
        rows = _catalog(connection)
    return Report(differences=expected.differences(rows), warnings=expected.warnings(rows))


def install(url: str, patience: Patience = _PATIENCE) -> Report:
    """Create our schema and triggers, or mend what differs; where nothing differs, do nothing at all.

    Rows in our tables are kept. All or nothing. Raises NotImmich, DatabaseRightMissing, DatabaseBusy,
    DatabaseUnreachable, and TriggersDiffer for what remains wrong because mending it would touch data.
    """
    with _connected(url) as connection:
        situation = _require_immich(connection)
        changed: tuple[str, ...] = ()
        rows = _catalog(connection)
        for _ in range(1 + _TRIES):  # once more where somebody else spoils it between the commit and the look
            if not expected.repairs(rows):
                break
            changed += _patiently(connection, patience, lambda: _mend(connection, situation))
            rows = _catalog(connection)
    left = expected.differences(rows)
    if left:
        raise TriggersDiffer(
            f"What cannot be mended without touching data: {'; '.join(left)}. "
            "Undo it, or start afresh with: immich-dbsync triggers remove --purge",
            left,
        )
    return Report(changed=changed, warnings=expected.warnings(rows))


def remove(url: str, patience: Patience = _PATIENCE) -> Report:
    """Drop our triggers and schemas, of every version; ``changed`` names them and is empty where there were none.

    Everything we know goes with them: records, quarantine entries and history. Files stay where they are. All or
    nothing. Raises DatabaseRightMissing, DatabaseBusy and DatabaseUnreachable.
    """
    with _connected(url) as connection:

        def drop() -> tuple[str, ...]:
            installed = _installed(connection)
            if installed:
                connection.execute(sql.block("schema/catalog", "remove"))
            return installed

        return Report(changed=_patiently(connection, patience, drop))


def remove_triggers(url: str, patience: Patience = _PATIENCE) -> Report:
    """Drop our triggers alone, of every version; ``changed`` names them. A later install goes on with what is known.

    Errors as ``remove``.
    """
    with _connected(url) as connection:

        def drop() -> tuple[str, ...]:
            triggers = tuple(name for name in _installed(connection) if name.startswith("trigger "))
            if triggers:
                connection.execute(sql.block("schema/catalog", "remove_triggers"))
            return triggers

        return Report(changed=_patiently(connection, patience, drop))


def script(patience: Patience = _PATIENCE) -> str:
    """The transaction that a first install runs, to be read or given to psql. Needs no database."""
    blocks = "\n\n".join(sql.block("schema/v1", part.value) for part in Part)
    return f"begin;\nset local lock_timeout = '{_milliseconds(patience)}ms';\n\n{blocks}\n\ncommit;\n"


def grants(role: str) -> str:
    """The statements that give a role the least that the service needs. Needs no database."""
    name = role.replace('"', '""')
    return sql.block("schema/grants", "grants").replace(':"role"', f'"{name}"') + "\n"


def _mend(connection: _Connection, situation: _Situation) -> tuple[str, ...]:
    rows = _catalog(connection)
    parts = expected.repairs(rows)
    if not parts:
        return ()
    _require_rights(situation, creating=Part.TABLES in parts)
    if Part.FUNCTIONS in parts and Part.OWNER not in parts:
        # A function that is made anew belongs to whoever makes it.
        parts = tuple(part for part in Part if part in parts or part is Part.OWNER)
    before = expected.differences(rows)
    for index in expected.changed_indexes(rows):
        connection.execute(sql.block("schema/catalog", "drop_index").replace(':"index"', f'"{index}"'))
    for part in parts:
        connection.execute(sql.block("schema/v1", part.value))
    return before


def _require_immich(connection: _Connection) -> _Situation:
    found = connection.execute(expected.IMMICH_COLUMNS_SQL)
    expected.require_immich((str(table), str(column)) for table, column in found)
    with connection.cursor(row_factory=class_row(_Situation)) as cursor:
        situation = cursor.execute(sql.block("schema/catalog", "situation")).fetchone()
    if situation is None:
        raise NotImmich("Immich's table asset went away while it was looked at: is a restore running? Try again.")
    return situation


def _require_rights(situation: _Situation, *, creating: bool) -> None:
    role, owner, database = (f'"{name}"' for name in (situation.role, situation.asset_owner, situation.database))
    if not situation.acts_for_owner:
        raise DatabaseRightMissing(
            f"Role {role} may not put triggers on public.asset, which belongs to role {owner}. Connect as {owner} or "
            f"as a superuser, or run: GRANT {owner} TO {role};"
        )
    if creating and not situation.may_create:
        raise DatabaseRightMissing(
            f"Role {role} may not create a schema in database {database}. "
            f"Run as a superuser: GRANT CREATE ON DATABASE {database} TO {role};"
        )


def _patiently(connection: _Connection, patience: Patience, work: Callable[[], _Result]) -> _Result:
    """Run ``work`` in a transaction, again and again while locks are not to be had; a failed try leaves nothing."""
    started = patience.clock()
    while True:
        try:
            with connection.transaction():
                connection.execute(f"set local lock_timeout = {_milliseconds(patience)}")
                free = connection.execute("select pg_try_advisory_xact_lock(%s)", (_ADVISORY_LOCK,)).fetchone()
                if free == (True,):
                    return work()
        except _BUSY:
            pass  # said below, once the tries are used up
        if patience.clock() - started + patience.pause > patience.give_up_after:
            raise DatabaseBusy(
                "The tables were in use all the time, by a backup or a long statement perhaps. "
                "Nothing was changed; try again later."
            )
        patience.sleep(patience.pause)


@contextmanager
def _connected(url: str) -> Iterator[_Connection]:
    _refuse_ambiguous_password(url)
    try:
        with psycopg.connect(
            url, autocommit=True, connect_timeout=10, application_name="immich-dbsync triggers"
        ) as connection:
            yield connection
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None:  # of libpq's reading of the URL, which it may quote with the password in it
            raise DatabaseUnreachable("The database URL cannot be read; see the settings for its form.") from None
        if isinstance(error, errors.InsufficientPrivilege):
            raise DatabaseRightMissing(
                f"PostgreSQL refuses: {_line(error)}. Connect as the role that owns Immich's tables, or as a superuser."
            ) from error
        raise TriggersDiffer(f"PostgreSQL refuses: {_line(error)}.") from error
    except errors.ReadOnlySqlTransaction as error:
        raise DatabaseUnreachable("The database is read-only, a standby perhaps: connect to the primary.") from error
    except psycopg.OperationalError as error:
        # psycopg gives no code for a connection that failed; a server that answers so begins its lines with FATAL.
        answered = "FATAL: " in str(error)
        what = "PostgreSQL takes no connection" if answered else "PostgreSQL does not answer"
        advice = "" if answered else " Is it running, is the address right?"
        raise DatabaseUnreachable(f"{what}: {_line(error)}.{advice}") from error


def _refuse_ambiguous_password(url: str) -> None:
    """libpq takes a bare @, / or # in a password for the start of the host, and then prints it as such."""
    credentials = url.partition("://")[2].rpartition("@")[0]
    if any(character in credentials for character in "@/#?[]") or _unreadable(url):
        raise DatabaseUnreachable("The database URL cannot be read: write special characters in its password as %XX.")


def _unreadable(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return True
    return False


def _catalog(connection: _Connection) -> list[Row]:
    """What is there; anew, where something has no definition: another transaction dropped it just now."""
    rows: list[tuple[object, ...]] = []
    for _ in range(_TRIES):
        rows = connection.execute(expected.CATALOG_SQL).fetchall()
        if all(text is not None for _, _, text in rows):
            break
    return [(str(kind), str(name), str(text)) for kind, name, text in rows]


def _installed(connection: _Connection) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in connection.execute(sql.block("schema/catalog", "installed")))


def _milliseconds(patience: Patience) -> int:
    return max(1, round(patience.lock_timeout * 1000))


def _line(error: psycopg.Error) -> str:
    # What libpq guesses, after a tab, is said by us in other words.
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    primary = error.diag.message_primary or re.sub(
        r"^connection (?:failed|is bad): |\[Errno -?\d+\] ", "", " ".join(lines)
    )
    return " ".join(primary.split()).rstrip(".")
