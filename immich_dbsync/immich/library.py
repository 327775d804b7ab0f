"""Immich's tables, read through asyncpg."""

import base64
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

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

    async def assets(
        self, owner: OwnerId, ids: Collection[AssetId], checksums: Collection[Sha1]
    ) -> dict[AssetId, Asset]:
        """Those of the owner's assets with these ids or checksums; external libraries are left out."""
        rows = await self._pool.fetch(sql.block("immich", "assets"), owner, list(ids), list(checksums))
        return {asset.id: asset for asset in map(asset_of, rows)}

    async def active(self, owner: OwnerId) -> bool:
        """Whether this user is there, and neither deleted nor being removed."""
        found = (await self.owners([owner])).get(owner)
        return found is not None and found.active

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

    async def version(self) -> str | None:
        """The version of the server that used this database last, as in 3.1.0; None where none did."""
        version: str | None = await self._pool.fetchval(sql.block("immich", "version"))
        return version.removeprefix("v") if version is not None else None

    async def trash_enabled(self) -> bool:
        """Whether Immich's administrator has the trash on."""
        return bool(await self._pool.fetchval(sql.block("immich", "trash_enabled")))


def _owner(row: asyncpg.Record) -> Owner:
    return Owner(row["id"], row["email"], row["name"], row["active"])


def asset_of(row: Iterable[Any]) -> Asset:
    """An asset from its id, checksum, status, creation and deletion in ns, whether it is hidden, its motion part."""
    key, checksum, status, created_ns, deleted_ns, hidden, video_id = row
    return Asset(key, checksum, Status(status), created_ns, deleted_ns, hidden, video_id)
