"""Users and API keys, made and removed straight in the database as Immich itself does it."""

import hashlib
import secrets
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from immich_dbsync import sql

REMOVAL = ("delete_user_albums", "delete_user", "delete_user_audit")
"""What the job sends that removes a user at ``removing``: blocks of ``sql/demo/server.sql``, a statement each."""


async def create_user(
    connection: "asyncpg.Connection[asyncpg.Record]", *, email: str, name: str = "", quota: int | None = None
) -> UUID:
    """Add a user, whose storage is limited to ``quota`` bytes; their id. They have no password: only keys work."""
    user_id: UUID = await connection.fetchval(sql.block("demo/server", "create_user"), email, name, quota)
    return user_id


async def create_api_key(
    connection: "asyncpg.Connection[asyncpg.Record]",
    user_id: UUID,
    permissions: Sequence[str] = ("all",),
    name: str = "demo",
) -> str:
    """Give a user an API key with these permissions; the secret, of which the database keeps the SHA-256 only."""
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).digest()
    await connection.execute(sql.block("demo/server", "create_api_key"), name, digest, user_id, list(permissions))
    return secret


async def delete_user(connection: "asyncpg.Connection[asyncpg.Record]", user_id: UUID) -> None:
    """Delete a user at once, with all that is theirs, in the statements that Immich sends.

    The row first goes to ``removing``. Then it is deleted, and the foreign key takes the user's assets with it: one
    DELETE statement from whatever status they had, during which the user's row can no longer be seen. Immich's own
    audit trigger does not fire for it, and what the audit held of the user goes as well.
    """
    for step in ("user_removing", *REMOVAL):
        await connection.execute(sql.block("demo/server", step), user_id)
