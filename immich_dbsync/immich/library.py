"""Immich's tables, read through asyncpg."""

import base64
import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from immich_dbsync import sql
from immich_dbsync.model import Asset, AssetId, OwnerId, Sha1, Status


@dataclass(frozen=True, slots=True)
class Owner:
    """An Immich user. ``active``: neither deleted nor being removed."""

    id: OwnerId
    email: str
    name: str
    active: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Immich's tables said at one moment of some assets of an owner, and of the owner.

    ``assets`` has those of theirs that were asked for, and the stills of live photos whose videos are among these;
    external libraries are left out. ``trashed_by_us``: which of them are in the trash by our request, and not by
    anybody's since. ``owner_active``: neither deleted nor being removed. ``trash_enabled`` by Immich's administrator.
    """

    assets: dict[AssetId, Asset]
    trashed_by_us: frozenset[AssetId]
    owner_active: bool
    trash_enabled: bool


class Library:
    """What Immich's tables say. Every method is one statement."""

    def __init__(self, pool: "asyncpg.Connection[asyncpg.Record] | asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def owner_of_key(self, key: str) -> Owner | None:
        """Whose API key this is; None where Immich knows no such key."""
        digest = hashlib.sha256(key.encode()).digest()
        row = await self._pool.fetchrow(
            sql.block("immich", "owner_of_key"), f"\\x{digest.hex()}", base64.b64encode(digest).decode()
        )
        return _owner(row) if row else None

    async def owners(self, ids: Collection[OwnerId]) -> dict[OwnerId, Owner]:
        """The users with these ids; those that do not exist are missing from the result."""
        rows = await self._pool.fetch(sql.block("immich", "owners"), list(ids))
        return {row["id"]: _owner(row) for row in rows}

    async def all_owners(self) -> list[Owner]:
        """Every user, by e-mail address."""
        return [_owner(row) for row in await self._pool.fetch(sql.block("immich", "all_owners"))]

    async def snapshot(self, owner: OwnerId, ids: Collection[AssetId], checksums: Collection[Sha1]) -> Snapshot:
        """What a look needs of Immich at one moment: of the assets with these ids or checksums, and of the owner."""
        rows = await self._pool.fetch(sql.block("immich", "snapshot"), owner, list(ids), list(checksums))
        there = [row for row in rows if row["id"] is not None]
        ours = frozenset(row["id"] for row in there if row["trashed_by_us"])
        assets = {row["id"]: _asset(row) for row in there}
        return Snapshot(assets, ours, rows[0]["owner_active"], rows[0]["trash_enabled"])

    async def assets(
        self, owner: OwnerId, ids: Collection[AssetId], checksums: Collection[Sha1]
    ) -> dict[AssetId, Asset]:
        """The assets of a snapshot alone."""
        return (await self.snapshot(owner, ids, checksums)).assets

    async def protected(self, ids: Collection[AssetId], *, favourites: bool, albums: bool) -> frozenset[AssetId]:
        """Which of these assets are favourites, or in an album, as far as asked for."""
        found: set[AssetId] = set()
        if favourites:
            found.update(row["id"] for row in await self._pool.fetch(sql.block("immich", "favourites"), list(ids)))
        if albums:
            column = await self._pool.fetchval(sql.block("immich", "album_column"))
            block = "in_album" if column == "assetId" else "in_album_plural"
            found.update(row["id"] for row in await self._pool.fetch(sql.block("immich", block), list(ids)))
        return frozenset(found)

    async def audited(self, owner: OwnerId, ids: Collection[AssetId]) -> frozenset[AssetId]:
        """Which of these assets Immich's own audit says were deleted (it forgets after 31 days)."""
        rows = await self._pool.fetch(sql.block("immich", "audited"), owner, list(ids))
        return frozenset(row["id"] for row in rows)

    async def version(self) -> str | None:
        """The version of the server that used this database last, as in 3.1.0; None where none did."""
        version: str | None = await self._pool.fetchval(sql.block("immich", "version"))
        return version.removeprefix("v") if version is not None else None

    async def trash_enabled(self) -> bool:
        """Whether Immich's administrator has the trash on."""
        return bool(await self._pool.fetchval(sql.block("immich", "trash_enabled")))


def _owner(row: asyncpg.Record) -> Owner:
    return Owner(row["id"], row["email"], row["name"], row["active"])


def _asset(row: asyncpg.Record) -> Asset:
    return Asset(
        row["id"],
        Sha1(row["checksum"]),
        Status(row["status"]),
        row["created_ns"],
        row["deleted_ns"],
        row["hidden"],
        row["video_id"],
    )
