"""A world for each reader of the docs."""

from collections.abc import AsyncIterator, Iterator

import pytest

from immich_dbsync.demo.stage import Stage, staged
from tests.databases import Servers


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """The URL of a database with the newest Immich's tables."""
    with servers.database() as name:
        yield servers.cluster().url(name)


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    """An Immich with a user whom nobody has set up yet."""
    async with staged(database, version="3.1.0") as stage:
        await stage.connection.execute("delete from api_key")
        yield stage
        if await stage.connection.fetchval("select 1 from pg_roles where rolname = 'dbsync'"):
            await stage.connection.execute("drop owned by dbsync; drop role dbsync")
