"""Whom to sync, as our tables have it: who is paused, and what is forgotten of those who are synced no more."""

import asyncpg

from immich_dbsync import sql
from immich_dbsync.model import OwnerId
from immich_dbsync.store.channel import USERS, tell

PAUSED = "paused"
"""The kind of problem that a person made by pausing; it outlives the service."""


class Owners:
    """Owners through one pool or connection. Every method is one statement, and tells the services that run."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]") -> None:
        self._pool = pool

    async def announce(self) -> None:
        """Have every service that runs look again whom to sync."""
        await tell(self._pool, USERS)

    async def pause(self, owner: OwnerId, sentence: str) -> None:
        """Have the owner synced no more until ``resume``; ``sentence`` is what `status` says. Capture goes on."""
        await self._pool.execute(sql.block("store", "owner_pause"), owner, sentence)
        await self.announce()

    async def resume(self, owner: OwnerId) -> bool:
        """Have the owner synced again; False where they were not paused."""
        was_paused = await self._pool.fetchval(sql.block("store", "owner_resume"), owner) is not None
        await self.announce()
        return was_paused

    async def paused(self) -> frozenset[OwnerId]:
        """Who is paused."""
        rows = await self._pool.fetch(sql.block("store", "owners_paused"))
        return frozenset(OwnerId(row["owner_id"]) for row in rows)

    async def forget(self, owner: OwnerId) -> None:
        """Forget which path belongs to which asset, and capture no more: the next sync begins with first sight.

        Only for who holds the owner's lock. History and quarantine entries stay.
        """
        await self._pool.execute(sql.block("store", "owner_forget"), owner)
