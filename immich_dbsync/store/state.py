"""What `status` reads of our tables."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from immich_dbsync import sql
from immich_dbsync.errors import TriggersDiffer
from immich_dbsync.model import OwnerId


@dataclass(frozen=True, slots=True)
class OwnerState:
    """One owner's counts: ``synced``, ``waiting`` for an upload, ``refused`` by Immich, ``quarantined``, ``events``.

    ``last_scan`` is what the last full scan counted; None before the first. ``undecided``: why files are left alone
    now, and how many.
    """

    owner: OwnerId
    enabled: bool
    problem: str | None
    problem_at: datetime | None
    first_scan_at: datetime | None
    last_scan_at: datetime | None
    last_scan: dict[str, Any] | None
    undecided: dict[str, int]
    synced: int
    waiting: int
    refused: int
    quarantined: int
    events: int


async def owner_states(connection: "asyncpg.Connection[asyncpg.Record]") -> list[OwnerState]:
    """Every owner whose folder is or was synced; raises TriggersDiffer where our schema is not installed."""
    with installed():
        return [_state(row) for row in await connection.fetch(sql.block("store", "status"))]


@contextmanager
def installed() -> Iterator[None]:
    """Turn the absence of our schema into a TriggersDiffer that says what to do."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise TriggersDiffer("Nothing is installed in this database. Run: immich-dbsync triggers install") from None


async def refused_files(
    connection: "asyncpg.Connection[asyncpg.Record]", owner: OwnerId, limit: int
) -> list[tuple[bytes, str]]:
    """The first ``limit`` files that were refused, by path, and why."""
    rows = await connection.fetch(sql.block("store", "refused"), owner, limit)
    return [(row["path"], row["problem"]) for row in rows]


async def held_locks(connection: "asyncpg.Connection[asyncpg.Record]", keys: Collection[int]) -> frozenset[int]:
    """Which of these advisory locks are held: by a service that runs now."""
    return frozenset(row["key"] for row in await connection.fetch(sql.block("store", "locked"), list(keys)))


def _state(row: asyncpg.Record) -> OwnerState:
    values = dict(row)
    owner = values.pop("owner_id")
    scan, undecided = values.pop("last_scan"), json.loads(values.pop("undecided"))
    return OwnerState(owner=owner, last_scan=None if scan is None else json.loads(scan), undecided=undecided, **values)
