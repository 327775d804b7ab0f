"""Waits until the service that runs has followed a change of whom to sync."""

import asyncio
from enum import StrEnum

import asyncpg

from immich_dbsync.immich.library import Owner
from immich_dbsync.service.listener import APPLICATION, lock_key
from immich_dbsync.store.state import held_locks, listening

FOLLOW_S = 15.0
"""Seconds within which a service has followed; one that ends a sync waits for a file that is being moved."""

LOOK_S = 0.1
"""Seconds between two looks whether it has."""


class Follows(StrEnum):
    """What the service makes of a change."""

    YES = "yes"
    NO_SERVICE = "no service"
    NOT_YET = "not yet"


async def follows(connection: "asyncpg.Connection[asyncpg.Record]", owner: Owner, *, synced: bool) -> Follows:
    """Wait until the service has begun to sync this user, or has ended it; not long, and not at all where none runs."""
    key = lock_key(owner.id)
    deadline = asyncio.get_running_loop().time() + FOLLOW_S
    while (key in await held_locks(connection, [key])) != synced:
        if not await listening(connection, APPLICATION):
            return Follows.NO_SERVICE
        if asyncio.get_running_loop().time() > deadline:
            return Follows.NOT_YET
        await asyncio.sleep(LOOK_S)
    return Follows.YES if synced or await listening(connection, APPLICATION) else Follows.NO_SERVICE
