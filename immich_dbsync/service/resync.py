"""A full comparison on demand: asked of the service that runs, or done here where none does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from immich_dbsync.immich.api import Server
from immich_dbsync.service.accounts import Account
from immich_dbsync.service.asks import RESYNC, Answers
from immich_dbsync.service.pools import connected
from immich_dbsync.service.session import Session
from immich_dbsync.settings import Settings
from immich_dbsync.store.holds import Holds
from immich_dbsync.store.state import held_locks

_LOOK_S = 0.2  # between two looks whether the service has answered

Progress = Callable[[str], None]
Result = dict[str, Any]


async def served(pool: "asyncpg.Pool[asyncpg.Record]", lock: int) -> bool:
    """Whether some instance is the service for the owner with this lock now."""
    return lock in await held_locks(pool, [lock])


async def ask(
    holds: Holds,
    account: Account,
    kind: str,
    arguments: dict[str, Any],
    *,
    still_served: Callable[[], Awaitable[bool]],
    progress: Progress,
) -> Result | None:
    """Ask the service of this owner and wait for its answer; None when it ended meanwhile."""
    since = await holds.now()
    number = await holds.ask(account.owner.id, kind, arguments)
    while (result := await holds.result(number)) is None:
        done = await holds.done_since(account.owner.id, since)
        progress(", ".join(f"{count} {action}" for action, count in sorted(done.items())) or "comparing")
        await asyncio.sleep(_LOOK_S)
        if not await still_served():
            return await holds.result(number)
    return result


async def alone(
    settings: Settings, accounts: Sequence[Account], prefix: bytes, *, rehash: bool, progress: Progress
) -> dict[Account, Result]:
    """Be the service of these owners, one after the other, for one comparison each; without those who have one."""
    results: dict[Account, Result] = {}
    for account in accounts:

        async def compare(answers: Answers, account: Account = account) -> None:
            progress(f"comparing the folder of {account.owner.email}")
            results[account] = await answers.resync(prefix, rehash=rehash)

        async with (
            Server(str(settings.server_url), connections=settings.uploads + 4) as server,
            connected(settings) as (pools, listener),
        ):
            await Session(settings, pools, listener, server).once(account, compare)
    return results


def arguments(prefix: bytes, *, rehash: bool) -> dict[str, Any]:
    """What is asked of a service."""
    return {"prefix": prefix.hex(), "rehash": rehash}


__all__ = ["RESYNC", "Progress", "Result", "alone", "arguments", "ask", "served"]
