"""Connections that outlive a test.

Each connection is a process of PostgreSQL's that has to learn the catalogue and plan every statement anew: that was
more than half of all work in the tests of the service. What a test leaves idle in its pools the next one goes on with;
what it leaves in use is ended as it would have been.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import asyncpg

from immich_dbsync.demo import server
from immich_dbsync.service import pools

_pools: dict[tuple[asyncio.AbstractEventLoop, str, str], Any] = {}
_loops: set[asyncio.AbstractEventLoop] = set()


class _Lent:
    """A pool as one test has it: over when that ends it, while its connections stay."""

    def __init__(self, pool: Any) -> None:
        self._pool, self._over = pool, False

    def __getattr__(self, name: str) -> Any:
        if self._over:
            raise asyncpg.InterfaceError("pool is closed")
        return getattr(self._pool, name)

    def terminate(self) -> None:
        self._over = True
        for holder in self._pool._holders:
            if holder._in_use:
                holder.terminate()

    async def close(self) -> None:
        self._over = True
        for holder in self._pool._holders:
            await holder.wait_until_released()


async def _lend(kind: str, url: str, made: Coroutine[Any, Any, Any]) -> Any:
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        return await made
    if (key := (loop, url, kind)) in _pools:
        made.close()
    else:
        _pools[key] = await made
    return _Lent(_pools[key])


@contextmanager
def lending() -> Iterator[None]:
    """Until the block ends, pools of the service and of the stand-in are lent, in loops where they are kept."""
    service_pool = pools._pool

    async def for_service(url: str, most: int, settings: dict[str, str], setup: Any = None) -> Any:
        return await _lend(f"{most} {settings}", url, service_pool(url, most, settings, setup))

    async def for_stand_in(url: str, **options: Any) -> Any:
        return await _lend("stand-in", url, _made(url, options))

    with (
        patch.object(pools, "_pool", for_service),
        patch.object(server, "asyncpg", SimpleNamespace(create_pool=for_stand_in)),
    ):
        yield


async def _made(url: str, options: dict[str, Any]) -> Any:
    return await asyncpg.create_pool(url, **options)


@contextmanager
def keeping(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Until the block ends, pools of this loop are kept; then their connections end."""
    _loops.add(loop)
    try:
        yield
    finally:
        _loops.discard(loop)
        for key in [key for key in _pools if key[0] is loop]:
            _pools.pop(key).terminate()


def served_by(url: str) -> list[int]:
    """The processes that idle connections to this database have."""
    return [
        holder._con.get_server_pid()
        for (_, to, _), pool in _pools.items()
        if to == url
        for holder in pool._holders
        if holder._con is not None and not holder._con.is_closed() and not holder._in_use
    ]
