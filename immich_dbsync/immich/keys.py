"""API keys as rows of Immich's table: the one thing of Immich's that is ever written, when an administrator asks."""

import base64
import hashlib
from collections.abc import Iterable
from uuid import UUID

import asyncpg

from immich_dbsync import sql
from immich_dbsync.model import OwnerId

NAME = "immich-dbsync, made by users add"
"""What a key that we made is called in Immich, so that its owner knows it and `users remove` finds it."""

PERMISSIONS = ("asset.upload", "asset.delete", "asset.copy")
"""What the service's requests need. The second covers restoring; the third is for edited pictures only."""


class Keys:
    """Immich's table ``api_key``, through one connection. Every method is one short transaction."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def create(self, owner: OwnerId, secret: str) -> UUID:
        """Make a key of this secret with PERMISSIONS; the row's id.

        Immich keeps the secret's SHA-256 only: as bytes, or before 2.6 as base64 text.
        """
        digest = hashlib.sha256(secret.encode()).digest()
        column = await self._connection.fetchval(sql.block("keys", "key_type"))
        stored = digest if column == "bytea" else base64.b64encode(digest).decode()
        block = sql.block("keys", "create_key")
        return UUID(str(await self._connection.fetchval(block, NAME, stored, owner, list(PERMISSIONS))))

    async def delete_one(self, key: UUID) -> None:
        """Delete the key with this row's id."""
        await self._connection.execute("delete from public.api_key where id = $1", key)

    async def delete(self, owner: OwnerId) -> int:
        """Delete the keys that we made for the owner, and no other; how many there were."""
        tag = await self._connection.execute(sql.block("keys", "delete_keys"), owner, NAME)
        return int(tag.rpartition(" ")[2])

    async def delete_secret(self, owner: OwnerId, secret: str) -> bool:
        """Delete the owner's key of this secret, if we made it; whether there was one."""
        tag = await self._connection.execute(sql.block("keys", "delete_key"), owner, NAME, _texts(secret))
        return bool(tag != "DELETE 0")

    async def may_delete(self) -> bool:
        """Whether our role has the rights for ``delete``."""
        return bool(await self._connection.fetchval(sql.block("keys", "may_delete")))

    async def count_others(self, owner: OwnerId, secrets: Iterable[str]) -> int:
        """How many keys we made for the owner, but for those of these secrets."""
        texts = [text for secret in secrets for text in _texts(secret)]
        return int(await self._connection.fetchval(sql.block("keys", "count_other_keys"), owner, NAME, texts))

    async def count(self, owner: OwnerId) -> int:
        """How many keys we made for the owner."""
        return int(await self._connection.fetchval(sql.block("keys", "count_keys"), owner, NAME))

    async def owners(self) -> list[OwnerId]:
        """For whom we made keys."""
        return [OwnerId(row["id"]) for row in await self._connection.fetch(sql.block("keys", "owners_with_keys"), NAME)]


def _texts(secret: str) -> list[str]:
    """A secret's SHA-256 as the column of either type reads as text."""
    digest = hashlib.sha256(secret.encode()).digest()
    return [f"\\x{digest.hex()}", base64.b64encode(digest).decode()]
