"""Connections that do not ask what PostgreSQL's own arrays are."""

from typing import Any
from unittest.mock import patch
from uuid import uuid4

import asyncpg
import psycopg
import pytest

from immich_dbsync.service.listener import connect
from immich_dbsync.store.connection import ARRAYS
from tests.databases import MAJORS, Servers

pytestmark = pytest.mark.newest


@pytest.mark.parametrize("major", MAJORS)
def test_postgresql_describes_the_arrays_like_that(servers: Servers, major: int) -> None:
    with psycopg.connect(servers.cluster(major).url()) as connection:
        rows = connection.execute(
            """select a.oid::int8, e.typname::text, e.oid::int8 from pg_type a join pg_type e on e.oid = a.typelem
               where a.oid::int8 = any(%s) and a.typname = '_' || e.typname
                 and a.typdelim = ',' and a.typnamespace = 'pg_catalog'::regnamespace""",
            ([*ARRAYS],),
        ).fetchall()
    assert {row[0]: (row[1], row[2]) for row in rows} == ARRAYS


async def test_only_what_is_no_array_of_postgresqls_own_is_asked_for(library_url: str) -> None:
    asked: list[object] = []
    ask: Any = vars(asyncpg.Connection)["_introspect_types"]

    async def introspect(connection: object, oids: Any, *how: object) -> object:
        asked.append([*oids])
        return await ask(connection, oids, *how)

    # As they come back, and inside of one statement as well as of several.
    given: list[tuple[str, list[object]]] = [
        ("bool", [True, None, False]),
        ("bytea", [b"\0", b""]),
        ("int2", [-1]),
        ("int4", [2**31 - 1]),
        ("text", ["a,b", '"', "ü", ""]),
        ("varchar", ["x"]),
        ("int8", [-(2**63), 2**63 - 1]),
        ("float8", [0.5]),
        ("uuid", [uuid4(), uuid4()]),
    ]
    with patch.object(asyncpg.Connection, "_introspect_types", introspect):
        connection = await connect(library_url, "test")
        for name, values in given:
            assert await connection.fetchval(f"select $1::{name}[]", values) == values
        kinds = ", ".join(f"${number}::{name}[]" for number, (name, _) in enumerate(given, 1))
        row = await connection.fetchrow(f"select {kinds}", *(values for _, values in given))
        assert row is not None
        assert [*row] == [values for _, values in given]
        assert await connection.fetchval("select array[to_timestamp(0)]") == [
            await connection.fetchval("select to_timestamp(0)")
        ]
        assert asked == []
        assert await connection.fetchval("select array['active']::assets_status_enum[]") == ["active"]
        assert len(asked) == 1
        await connection.close()
