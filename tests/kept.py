"""Connections that outlive a test.

Each connection is a process of PostgreSQL's that has to learn the catalogue and plan every statement anew: that was
more than half of all work in the tests of the service. What a test leaves idle the next one goes on with; what it
leaves in use is ended as it would have been.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import asyncpg

from immich_dbsync.demo import server, stage
from immich_dbsync.service import listener, pools
from immich_dbsync.service.listener import Listener

_Key = tuple[asyncio.AbstractEventLoop, str, str]
_idle: defaultdict[_Key, list[Any]] = defaultdict(list)
"""Pools and connections that nobody has just now, by their loop, their database and what they are for."""
_loops: set[asyncio.AbstractEventLoop] = set()


class _Lent:
    """What is kept as one test has it: over when that ends it, while the thing itself stays."""

    def __init__(self, kept: Any, idle: list[Any]) -> None:
        self._kept, self._idle, self._over = kept, idle, False

    def __getattr__(self, name: str) -> Any:
        if self._over:
            raise asyncpg.InterfaceError("it is closed")
        return getattr(self._kept, name)


class _LentPool(_Lent):
    """A pool; its connections stay."""

    def terminate(self) -> None:
        for holder in self._kept._holders:
            if holder._in_use:
                holder.terminate()
        self._end()

    async def close(self) -> None:
        for holder in self._kept._holders:
            await holder.wait_until_released()
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._idle.append(self._kept)


class _LentConnection(_Lent):
    """A connection; as good as new for the next."""

    def terminate(self) -> None:
        self._over = True
        self._kept.terminate()

    async def close(self) -> None:
        if self._over:
            return
        self._over = True
        try:
            assert not self._kept.is_in_transaction()
            self._kept._termination_listeners.clear()
            await self._kept.reset(timeout=1)  # of locks and LISTEN, too
            await self._kept.execute("set application_name = 'kept'")  # by its name a service is known to run
            self._idle.append(self._kept)
        except Exception:  # noqa: BLE001  # whatever it is, nobody can go on with it
            self._kept.terminate()


async def _lent(lend: type[Any], url: str, kind: str, make: Callable[[], Awaitable[Any]]) -> Any:
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        return await make()
    idle = _idle[loop, url, kind]
    while idle:
        found = idle.pop()
        if not (isinstance(found, asyncpg.Connection) and found.is_closed()):  # a pool connects anew by itself
            return lend(found, idle)
    return lend(await make(), idle)


@contextmanager
def lending() -> Iterator[None]:
    """Until the block ends, connections of the service, of the stand-in and of stages are lent where loops are kept."""
    service_pool = pools._pool

    async def for_service(url: str, most: int, settings: dict[str, str], setup: Any = None) -> Any:
        return await _lent(_LentPool, url, f"{most} {settings}", lambda: service_pool(url, most, settings, setup))

    async def for_stand_in(url: str, **options: Any) -> Any:
        async def make() -> Any:
            return await asyncpg.create_pool(url, **options)

        return await _lent(_LentPool, url, "stand-in", make)

    async def for_stage(url: str) -> Any:
        return await _lent(_LentConnection, url, "stage", lambda: asyncpg.connect(url))

    @asynccontextmanager
    async def for_listener(url: str, heartbeat: float) -> AsyncIterator[Listener]:
        settings = listener._NOTICE_A_DEAD_HOST
        connection = await _lent(
            _LentConnection, url, "listener", lambda: listener.connect(url, listener.APPLICATION, **settings)
        )
        try:
            await connection.execute(f"set application_name = '{listener.APPLICATION}'")
            made = Listener(connection, heartbeat)
            await made.start()
            yield made
        finally:
            if isinstance(connection, _LentConnection):
                await connection.close()
            else:
                connection.terminate()

    with (
        patch.object(pools, "_pool", for_service),
        patch.object(pools, "listening", for_listener),
        patch.object(server, "asyncpg", SimpleNamespace(create_pool=for_stand_in)),
        patch.object(stage, "asyncpg", SimpleNamespace(connect=for_stage)),
    ):
        yield


@contextmanager
def keeping(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Until the block ends, pools of this loop are kept; then they end."""
    _loops.add(loop)
    try:
        yield
    finally:
        _loops.discard(loop)
        _end(lambda key: key[0] is loop)


def end(url: str) -> None:
    """End all that is kept to a database, which is to be dropped."""
    _end(lambda key: key[1] == url)


def _end(chosen: Callable[[_Key], bool]) -> None:
    for key in [key for key in _idle if chosen(key)]:
        for each in _idle.pop(key):
            each.terminate()


def served_by(url: str) -> list[int]:
    """The processes of what is kept to this database."""
    idle = [each for (_, to, _), idle in _idle.items() if to == url for each in idle]
    held = [[each] if isinstance(each, asyncpg.Connection) else [h._con for h in each._holders] for each in idle]
    connections = [connection for some in held for connection in some if connection is not None]
    return [connection.get_server_pid() for connection in connections if not connection.is_closed()]
