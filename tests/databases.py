"""Real PostgreSQL for the tests: one server per major version and session, one database per test."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import asyncpg

from immich_dbsync.demo.cluster import Binaries, Cluster, available
from immich_dbsync.demo.tables import VERSIONS, ImmichVersion, create_tables

MAJORS: dict[int, Binaries] = {binaries.major: binaries for binaries in available()}
NEWEST = max(MAJORS)


async def execute(url: str, *statements: str) -> None:
    """Run statements one by one outside of a transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _fill(url: str, version: ImmichVersion) -> None:
    connection = await asyncpg.connect(url)
    try:
        await create_tables(connection, version)
    finally:
        await connection.close()


class Servers:
    """Starts a server when a test first asks for its major version; all stop at the end of the session."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._clusters: dict[int, Cluster] = {}
        self._numbers = itertools.count()

    def cluster(self, major: int = NEWEST) -> Cluster:
        """The running server of one major version, with a template database for each Immich version."""
        if major not in self._clusters:
            cluster = self._stack.enter_context(Cluster(MAJORS[major]))
            for version in VERSIONS:
                name = f"immich_{version.replace('.', '_')}"
                asyncio.run(execute(cluster.url(), f"create database {name}"))
                asyncio.run(_fill(cluster.url(name), version))
            self._clusters[major] = cluster
        return self._clusters[major]

    @contextmanager
    def database(self, version: ImmichVersion = "3.1.0", major: int = NEWEST) -> Iterator[str]:
        """The name of a new database with the tables of one Immich version; dropped at the end."""
        cluster = self.cluster(major)
        name = f"test_{next(self._numbers)}"
        asyncio.run(execute(cluster.url(), f"create database {name} template immich_{version.replace('.', '_')}"))
        try:
            yield name
        finally:
            asyncio.run(execute(cluster.url(), f"drop database {name} with (force)"))
