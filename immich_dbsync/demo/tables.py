"""Immich-shaped tables in an empty database, for the demo and the tests."""

from typing import Literal, get_args

import asyncpg

from immich_dbsync import sql

ImmichVersion = Literal["2.7.5", "3.1.0"]
VERSIONS: tuple[ImmichVersion, ...] = get_args(ImmichVersion)


async def create_tables(connection: "asyncpg.Connection[asyncpg.Record]", version: ImmichVersion) -> None:
    """Create the tables of one Immich version in ``public`` and note the version, as a fresh server would."""
    async with connection.transaction():
        await connection.execute(sql.block("demo/immich", "functions"))
        await connection.execute(sql.block("demo/immich", "tables"))
        if version == "2.7.5":
            await connection.execute(sql.block("demo/immich", "to_2_7_5"))
        await connection.execute("insert into version_history (version) values ($1)", version)
