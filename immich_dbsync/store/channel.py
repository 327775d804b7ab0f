"""The channel by which a service is woken: by our triggers, and by commands."""

import asyncpg

CHANNEL = "immich_dbsync_v1"
"""Its name, which the functions of sql/schema/v1.sql have as well."""

ASKED = "asked"
"""The payload that says that a command asked something."""

USERS = "users"
"""The payload that says that whom to sync was changed."""


async def tell(pool: "asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]", payload: str) -> None:
    """Tell every service that listens on this database."""
    await pool.execute("select pg_notify($1, $2)", CHANNEL, payload)
