"""API keys as Immich's table has them: SHA-256 as bytes, and before 2.6 as base64 text."""

import asyncpg
import pytest

from immich_dbsync.demo.people import create_user
from immich_dbsync.immich.keys import NAME, PERMISSIONS, Keys
from immich_dbsync.immich.library import Library
from immich_dbsync.model import OwnerId

pytestmark = pytest.mark.newest


@pytest.mark.parametrize("form", ["bytea", "character varying"])
async def test_a_key_that_is_made_is_its_owners_in_both_forms_of_the_column(database_url: str, form: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        if form != "bytea":
            await connection.execute(f"alter table api_key alter key type {form} using encode(key, 'base64')")
        ada, bob = [OwnerId(await create_user(connection, email=f"{name}@example.org")) for name in ("ada", "bob")]
        keys = Keys(connection)
        first = await keys.create(ada, "secret one")
        await keys.create(ada, "secret two")
        await keys.create(bob, "secret three")
        row = await connection.fetchrow("select * from api_key where id = $1", first)
        assert row is not None
        assert (row["name"], row["permissions"], row["userId"]) == (NAME, list(PERMISSIONS), ada)
        assert "secret" not in str(row["key"])
        library = Library(connection)
        assert [
            (owner := await library.owner_of_key(f"secret {n}")) and owner.id for n in ("one", "three", "four")
        ] == [
            ada,
            bob,
            None,
        ]
        assert {*await keys.owners()} == {ada, bob}
        await keys.delete_one(first)
        assert await keys.count(ada) == 1
        assert await keys.delete(ada) == 1
        assert (await keys.count(ada), await keys.count(bob)) == (0, 1)
    finally:
        await connection.close()
