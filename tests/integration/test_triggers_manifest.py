import asyncpg
import psycopg
import pytest

from immich_dbsync import sql
from immich_dbsync.store import expected, install
from tests.databases import MAJORS, Servers


@pytest.mark.parametrize("major", MAJORS)
def test_the_manifest_is_what_a_fresh_install_shows(servers: Servers, major: int) -> None:
    with servers.database(major=major) as name:
        url = servers.cluster(major).url(name)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(install.script())
            rows = [(str(a), str(b), str(c)) for a, b, c in connection.execute(expected.CATALOG_SQL)]
    fresh = expected.manifest(rows)
    assert fresh == sql.block("schema/v1_manifest", "manifest"), f"Put this into sql/schema/v1_manifest.sql:\n{fresh}"


async def test_the_service_can_ask_the_same_through_asyncpg(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    rows = [tuple(row) for row in await connection.fetch(expected.CATALOG_SQL)]
    assert len(expected.differences(rows)) == 1
    install.install(database_url)
    rows = [tuple(row) for row in await connection.fetch(expected.CATALOG_SQL)]
    await connection.close()
    assert expected.differences(rows) == ()
    assert all(isinstance(text, str) for row in rows for text in row)
