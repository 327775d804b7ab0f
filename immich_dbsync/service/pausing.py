"""Whom a person paused is left alone by commands as well, until that person says otherwise."""

import shlex
from collections.abc import Iterable, Sequence

import asyncpg

from immich_dbsync.errors import NoSuchUser
from immich_dbsync.immich.library import Owner
from immich_dbsync.store.owners import Owners
from immich_dbsync.store.state import installed_or


async def paused_of(
    pool: "asyncpg.Pool[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]", owners: Iterable[Owner]
) -> list[Owner]:
    """Those of these users who are paused; nobody where nothing is installed."""
    paused = await installed_or(Owners(pool).paused(), frozenset())
    return [owner for owner in owners if owner.id in paused]


def way_on(owner: Owner) -> str:
    """The command that ends a pause."""
    return f"immich-dbsync users resume {shlex.quote(owner.email)}"


def refusal(paused: Sequence[Owner]) -> NoSuchUser:
    """What to raise where somebody names a user who is paused, for something that only a sync can do."""
    return NoSuchUser(
        " ".join(
            f"{owner.email} is paused, so nothing is done for them. Go on with: {way_on(owner)}" for owner in paused
        )
    )
