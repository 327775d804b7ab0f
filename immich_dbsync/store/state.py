"""What commands read of our tables: how each owner is, and what was done."""

import json
from collections.abc import Awaitable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from immich_dbsync import sql
from immich_dbsync.errors import TriggersDiffer
from immich_dbsync.model import OwnerId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OwnerState:
    """One owner's counts: ``synced``, ``waiting`` for an upload, ``refused`` by Immich, ``damaged``, ``holds`` that
    wait for a person, ``quarantined``, ``events``.

    ``last_scan`` is what the last full scan counted; None before the first. ``summary``: what became of what the first
    scan found. ``undecided``: why files are left alone now, and how many. ``problems``: why the sync waits, by kind.
    """

    owner: OwnerId
    enabled: bool
    problems: dict[str, dict[str, str]]
    first_scan_at: datetime | None
    last_scan_at: datetime | None
    last_scan: dict[str, Any] | None
    summary: dict[str, Any] | None
    undecided: dict[str, int]
    synced: int
    waiting: int
    refused: int
    damaged: int
    holds: int
    quarantined: int
    events: int


async def owner_states(connection: "asyncpg.Connection[asyncpg.Record]") -> list[OwnerState]:
    """Every owner whose folder is or was synced; raises TriggersDiffer where our schema is not installed."""
    with installed():
        return [_state(row) for row in await connection.fetch(sql.block("store", "status"))]


async def totals(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """How many ``records``, ``quarantined`` files and lines of ``history`` there are, of all owners."""
    with installed():
        row = await connection.fetchrow(sql.block("store", "totals"))
    assert row is not None
    return dict(row)


@contextmanager
def installed() -> Iterator[None]:
    """Turn the absence of our schema into a TriggersDiffer that says what to do."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise TriggersDiffer("Nothing is installed in this database. Run: immich-dbsync triggers install") from None


async def installed_or(asked: Awaitable[T], otherwise: T) -> T:
    """The answer to a question to our schema, or ``otherwise`` where that is not installed."""
    try:
        return await asked
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return otherwise


async def refused_files(
    connection: "asyncpg.Connection[asyncpg.Record]", owner: OwnerId, limit: int
) -> list[tuple[bytes, str]]:
    """The first ``limit`` files that were refused, by path, and why."""
    rows = await connection.fetch(sql.block("store", "refused"), owner, limit)
    return [(row["path"], row["problem"]) for row in rows]


async def held_locks(
    connection: "asyncpg.Connection[asyncpg.Record] | asyncpg.Pool[asyncpg.Record]", keys: Collection[int]
) -> frozenset[int]:
    """Which of these advisory locks are held: by a service that runs now."""
    return frozenset(row["key"] for row in await connection.fetch(sql.block("store", "locked"), list(keys)))


async def listening(connection: "asyncpg.Connection[asyncpg.Record]", application: str) -> bool:
    """Whether a service of this name in PostgreSQL listens on this database."""
    return bool(await connection.fetchval(sql.block("store", "listening"), application))


async def damaged_files(
    connection: "asyncpg.Connection[asyncpg.Record]", owner: OwnerId, limit: int
) -> list[tuple[bytes, str]]:
    """The first ``limit`` files whose bytes changed without a trace, by path, and what to do."""
    rows = await connection.fetch(sql.block("store", "damaged"), owner, limit)
    advice = "its bytes changed without a trace of a write: restore it from a backup or from Immich, and check the disk"
    return [(row["path"], advice) for row in rows]


@dataclass(frozen=True, slots=True)
class Done:
    """A line of the history: what was done to a path or an asset, when and why."""

    at: datetime
    action: str
    path: bytes | None
    asset_id: UUID | None
    cause: str


async def history(
    connection: "asyncpg.Connection[asyncpg.Record]", owner: OwnerId, path: bytes, since: datetime | None, limit: int
) -> list[Done]:
    """The latest ``limit`` things that were done at and below a path (empty: everywhere), newest first."""
    with installed():
        rows = await connection.fetch(sql.block("store", "history_page"), owner, path, since, limit)
    return [Done(**dict(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Kept:
    """A file in quarantine: where it was and where it is, its size in bytes, since when, and what its asset is now.

    ``gone``: the asset is known to be deleted for good. ``status`` as Immich has it; None where it has no such asset.
    """

    id: int
    path: bytes
    location: bytes
    size: int
    quarantined_at: datetime
    superseded: bool
    gone: bool
    status: str | None


async def quarantined(
    connection: "asyncpg.Connection[asyncpg.Record]", owner: OwnerId, path: bytes = b""
) -> list[Kept]:
    """What is in one owner's quarantine that was at and below a path (empty: everything), oldest first."""
    with installed():
        rows = await connection.fetch(sql.block("store", "quarantine_list"), owner, path)
    return [Kept(**dict(row)) for row in rows]


def _state(row: asyncpg.Record) -> OwnerState:
    values = dict(row)
    for name in ("problems", "last_scan", "summary", "undecided"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return OwnerState(owner=values.pop("owner_id"), **values)
