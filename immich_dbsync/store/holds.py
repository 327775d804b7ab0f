"""Our tables of what waits for a person, and of what a command asks of the service that runs."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from immich_dbsync import sql
from immich_dbsync.model import AssetId, Decision, Direction, OwnerId, RelPath
from immich_dbsync.store.channel import ASKED, tell

# What may be asked of a service.
RESYNC = "resync"
DECIDED = "decided"
BRING_BACK = "bring back"
PURGE = "purge"


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A hold that is not ended, and how many files belong to it."""

    id: int
    owner: OwnerId
    direction: Direction
    reason: str
    created_at: datetime
    decision: Decision
    decided_at: datetime | None
    files: int


@dataclass(frozen=True, slots=True)
class HeldFile:
    """A path that belongs to a hold; ``size`` in bytes."""

    path: RelPath
    size: int
    asset_id: AssetId | None


@dataclass(frozen=True, slots=True)
class Concerns:
    """How much of one owner waits for a person: ``holds``, and ``problems`` that `status` names."""

    holds: int = 0
    problems: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a command asks: ``resync`` with its arguments, or that decided holds be carried out."""

    id: int
    kind: str
    arguments: dict[str, Any]
    asked_at: datetime


class Holds:
    """Holds and asks, through one pool or connection. Every method is one statement."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]") -> None:
        self._pool = pool

    # --- counting ---

    async def synced(self, owner: OwnerId, most: int) -> int:
        """How many files of the owner are tied to an asset; ``most`` where it is at least so many."""
        return int(await self._value("synced_count", owner, most))

    async def emptied(
        self, owner: OwnerId, folders: Collection[bytes], without: Collection[RelPath]
    ) -> frozenset[bytes]:
        """Which of these folders (``b""``: the root) hold no synced file at or below them but those at some paths."""
        rows = await self._fetch("emptied", owner, list(folders), list(without))
        return frozenset(row["folder"] for row in rows)

    async def lost(self, owner: OwnerId, assets: Collection[AssetId] | None = None) -> int:
        """How many files lose their asset by evidence, of these assets or all, and are on no hold."""
        return int(await self._value("lost_count", owner, None if assets is None else list(assets)))

    async def lost_by_events(self, owner: OwnerId) -> tuple[int, frozenset[int]]:
        """The same of all assets of which an event tells that nobody has acted on yet; and the ids of these events."""
        [row] = await self._fetch("lost_by_events_count", owner)
        return row["lost"], frozenset(row["events"])

    async def recent(self, owner: OwnerId, action: str, since: datetime) -> list[tuple[RelPath, datetime]]:
        """The paths of what was done since then, with its time."""
        rows = await self._fetch("recent_deletions", owner, action, since)
        return [(RelPath(row["path"]), row["at"]) for row in rows if row["path"] is not None]

    async def now(self) -> datetime:
        """The database's time."""
        now: datetime = await self._pool.fetchval("select clock_timestamp()")
        return now

    # --- putting on hold ---

    async def open(self, owner: OwnerId, direction: Direction, reason: str, since: datetime) -> int:
        """The waiting hold of this direction and reason that began ``since`` then, or a new one."""
        found = await self._fetch("hold_recent", owner, direction.value, reason, since)
        return int(found[0]["id"] if found else await self._value("hold_open", owner, direction.value, reason))

    async def add(self, owner: OwnerId, hold: int, paths: Collection[RelPath]) -> None:
        """Let the deletions of these recorded paths wait in the hold."""
        await self._pool.execute(sql.block("holds", "hold_add"), owner, hold, list(paths))

    async def add_lost(self, owner: OwnerId, hold: int, assets: Collection[AssetId] | None = None) -> None:
        """Let every file wait that ``lost`` counts."""
        some = None if assets is None else list(assets)
        await self._pool.execute(sql.block("holds", "hold_lost_assets"), owner, some, hold)

    async def close(self, owner: OwnerId) -> list[int]:
        """End the holds to which nothing belongs any more; returns them."""
        return [row["id"] for row in await self._fetch("holds_close", owner)]

    # --- deciding ---

    async def all(self, owner: OwnerId | None = None) -> list[HoldRow]:
        """The holds that are not ended, oldest first."""
        return [_hold(row) for row in await self._fetch("holds", owner)]

    async def concerns(self) -> dict[OwnerId, Concerns]:
        """What waits for a person, of every owner who was ever synced."""
        rows = await self._fetch("concerns")
        return {OwnerId(row["owner_id"]): Concerns(row["holds"], row["problems"]) for row in rows}

    async def files(self, hold: int, limit: int) -> list[HeldFile]:
        """Up to ``limit`` files that belong to the hold, by path."""
        rows = await self._fetch("hold_paths", hold, limit)
        return [HeldFile(RelPath(row["path"]), row["size"], row["asset_id"]) for row in rows]

    async def decide(self, hold: int, decision: Decision) -> OwnerId | None:
        """Note what a person decided; the owner, or None where there is no such hold that waits."""
        owner: OwnerId | None = await self._pool.fetchval(sql.block("holds", "hold_decide"), hold, decision.value)
        return owner

    async def decided(self, owner: OwnerId, after: bytes, limit: int) -> list[RelPath]:
        """Up to ``limit`` paths, in byte order, that belong to holds that were decided."""
        return [RelPath(row["path"]) for row in await self._fetch("decided_paths", owner, after, limit)]

    # --- asking ---

    async def held_of(self, owner: OwnerId, paths: Collection[RelPath]) -> set[RelPath]:
        """Which of these paths are on hold now."""
        return {RelPath(row["path"]) for row in await self._fetch("held_of", owner, list(paths))}

    async def ask(self, owner: OwnerId, kind: str, arguments: dict[str, Any] | None = None) -> int:
        """Ask the service of this owner; returns the number of the ask."""
        ask = int(await self._value("ask_add", owner, kind, json.dumps(arguments or {})))
        await tell(self._pool, ASKED)
        return ask

    async def asks(self, owner: OwnerId) -> list[Ask]:
        """What is asked and not done, oldest first."""
        rows = await self._fetch("asks", owner)
        return [Ask(row["id"], row["kind"], json.loads(row["arguments"]), row["asked_at"]) for row in rows]

    async def answer(self, ask: int, result: dict[str, Any]) -> None:
        """Note what came of it."""
        await self._pool.execute(sql.block("holds", "ask_done"), ask, json.dumps(result))

    async def result(self, ask: int) -> dict[str, Any] | None:
        """What came of it; None while it is not done."""
        rows = await self._fetch("ask_result", ask)
        if not rows or not rows[0]["done"]:
            return None
        result: dict[str, Any] = json.loads(rows[0]["result"])
        return result

    async def done_since(self, owner: OwnerId, since: datetime) -> dict[str, int]:
        """What was done since then: action to count."""
        return {row["action"]: row["count"] for row in await self._fetch("history_since", owner, since)}

    async def _value(self, name: str, *arguments: object) -> Any:
        return await self._pool.fetchval(sql.block("holds", name), *arguments)

    async def _fetch(self, name: str, *arguments: object) -> list[asyncpg.Record]:
        return await self._pool.fetch(sql.block("holds", name), *arguments)


def _hold(row: asyncpg.Record) -> HoldRow:
    return HoldRow(
        row["id"],
        OwnerId(UUID(str(row["owner_id"]))),
        Direction(row["direction"]),
        row["reason"],
        row["created_at"],
        Decision(row["decision"]),
        row["decided_at"],
        row["files"],
    )
