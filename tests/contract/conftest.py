"""Where the contract suite runs: against the stand-in of both versions, or against a real server.

For a real one, three variables are wanted together: ``IMMICH_CONTRACT_URL`` (without ``/api``),
``IMMICH_CONTRACT_API_KEY`` (an administrator's, with all permissions) and ``IMMICH_CONTRACT_DATABASE_URL`` (a role that
may write Immich's tables, and create triggers and a schema). The tests make users of their own there and delete them
afterwards; nobody else's assets are touched. All the same: a server for trying things out, not the family's.
"""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import cast

import aiohttp
import asyncpg
import pytest

from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.tables import VERSIONS, ImmichVersion
from tests.contract.target import Person, Target
from tests.contract.watch import Watch, watching
from tests.databases import Servers

_VARIABLES = ("IMMICH_CONTRACT_URL", "IMMICH_CONTRACT_API_KEY", "IMMICH_CONTRACT_DATABASE_URL")
_GIVEN = [name for name in _VARIABLES if os.environ.get(name)]
if _GIVEN and len(_GIVEN) < len(_VARIABLES):
    raise pytest.UsageError(f"{', '.join(_VARIABLES)} are wanted together; only {', '.join(_GIVEN)} given")


@dataclass(frozen=True)
class Place:
    """The database to run in, and the version to stand in for; no version where the server is a real one."""

    database_url: str
    version: ImmichVersion | None


@pytest.fixture(scope="session", params=("server",) if _GIVEN else VERSIONS)
def place(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Place]:
    """One database for all tests of a version: they live with what others left there, as they must on a real server."""
    if _GIVEN:
        yield Place(os.environ["IMMICH_CONTRACT_DATABASE_URL"], None)
        return
    version = cast("ImmichVersion", request.param)
    with servers.database(version) as name:
        yield Place(servers.cluster().url(name), version)


async def _known_version(database: "asyncpg.Connection[asyncpg.Record]") -> str:
    version: str = await database.fetchval('select version from version_history order by "createdAt" desc limit 1')
    return version.removeprefix("v")


@pytest.fixture
async def target(place: Place) -> AsyncIterator[Target]:
    database = await asyncpg.connect(place.database_url)
    try:
        version = await _known_version(database)
        async with aiohttp.ClientSession() as session:
            if place.version is not None:
                async with StandIn(place.database_url, version=place.version) as stand_in:
                    yield Target(stand_in.url, version, database, session, stand_in=stand_in)
                return
            url, key = (os.environ[name] for name in _VARIABLES[:2])
            server = Target(url.rstrip("/"), version, database, session, admin_key=key)
            try:
                yield server
            finally:
                await server.clean_up()
    finally:
        await database.close()


@pytest.fixture
async def person(target: Target) -> Person:
    """A user without a quota, whose key may do everything."""
    return await target.person()


@pytest.fixture
async def watch(target: Target) -> AsyncIterator[Watch]:
    async with watching(target.database) as watch:
        yield watch
