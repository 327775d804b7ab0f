"""What `doctor` says of a real database: each check, and what makes it fail."""

import shlex
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from immich_dbsync.doctor import database
from immich_dbsync.doctor.finding import Finding, Level
from immich_dbsync.store import install
from tests.databases import Servers, execute
from tests.integration.assets import least_role, plain_owner, url_of

pytestmark = pytest.mark.newest


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connected = await asyncpg.connect(database_url)
    try:
        yield connected
    finally:
        await connected.close()


def wrong(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.WRONG]


async def test_a_database_that_is_an_immichs_is_found_so(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    found = await database.database(connection)
    assert wrong(found) == []
    assert "role postgres" in found[0].found
    tables, version = await database.immich(connection)
    assert (wrong(tables), version) == ([], "3.1.0")
    assert (await database.trash(connection)).level is Level.OK


async def test_a_clock_that_is_wrong_is_found(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    [_, clock] = await database.database(connection, wall=lambda: time.time() + 30)
    assert clock.level is Level.WRONG
    assert "behind" in clock.found


async def test_tables_that_are_missing_are_named(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute('alter table asset drop column "isFavorite"')
    [found], version = await database.immich(connection)
    assert (found.level, version) == (Level.WRONG, None)
    assert 'asset."isFavorite"' in found.found


async def test_a_server_that_never_started_is_noted(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute("delete from version_history")
    [found], version = await database.immich(connection)
    assert (found.level, version) == (Level.NOTE, None)


async def test_a_trash_that_is_off_is_found(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(
        """insert into system_metadata (key, value) values ('system-config', '{"trash": {"enabled": false}}')"""
    )
    found = await database.trash(connection)
    assert (found.level, found.found) == (
        Level.WRONG,
        "off, so that each deletion from a folder waits for a person",
    )


async def test_triggers_that_differ_are_found(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    [found, _], there = await database.triggers(connection)
    assert (found.level, found.mend, there) == (Level.WRONG, "Run: immich-dbsync triggers install", False)
    install.install(database_url)
    [found, others], there = await database.triggers(connection)
    assert (found.level, others.level, there) == (Level.OK, Level.OK, True)
    await connection.execute("alter table asset disable trigger immich_dbsync_v1_deleted")
    [found, _], there = await database.triggers(connection)
    assert (found.level, there) == (Level.WRONG, True)
    assert "immich_dbsync_v1_deleted" in found.found


async def test_an_older_tool_is_found_and_the_statements_that_are_said_take_it_away(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await connection.execute(
        """create table assets_delete_audits (id uuid);
           create function log_assets_delete_audits() returns trigger language plpgsql as 'begin return null; end';
           create trigger trigger_assets_delete_audits after delete on asset
             for each row execute function log_assets_delete_audits()"""
    )
    [_, found], _ = await database.triggers(connection)
    assert found.level is Level.WRONG
    assert "trigger trigger_assets_delete_audits on asset" in found.found
    await connection.execute(found.mend.partition("Immich's tables: ")[2])
    [_, found], _ = await database.triggers(connection)
    assert found.level is Level.OK


async def test_another_version_of_ours_is_noted(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute("create schema immich_dbsync_v2")
    found, _ = await database.triggers(connection)
    assert (found[-1].level, "immich_dbsync_v2" in found[-1].found) == (Level.NOTE, True)


# --- rights ---


@pytest.fixture
def name(servers: Servers) -> Iterator[str]:
    with servers.database() as made:
        yield made


async def rights_of(servers: Servers, name: str, role: str, *, installed: bool) -> Finding:
    url = url_of(servers.cluster(), name, role)
    connected = await asyncpg.connect(url)
    try:
        [found] = await database.rights(connected, url, installed=installed)
        return found
    finally:
        await connected.close()


async def test_the_owner_of_the_tables_may_do_all(servers: Servers, name: str) -> None:
    role = plain_owner(servers.cluster(), name)
    await execute(servers.cluster().url(name), f'grant create on database {name} to "{role}"')
    assert (await rights_of(servers, name, role, installed=False)).level is Level.OK


async def test_one_that_may_not_create_a_schema_is_told_the_grant(servers: Servers, name: str) -> None:
    role = plain_owner(servers.cluster(), name)
    found = await rights_of(servers, name, role, installed=False)
    assert found.level is Level.WRONG
    await execute(servers.cluster().url(name), found.mend.removeprefix("As a superuser: "))
    assert (await rights_of(servers, name, role, installed=False)).level is Level.OK


async def test_a_stranger_is_told_to_come_as_the_owner(servers: Servers, name: str) -> None:
    await execute(servers.cluster().url(name), f'create role "stranger {name}" login')
    found = await rights_of(servers, name, f"stranger {name}", installed=False)
    assert found.level is Level.WRONG
    assert found.mend.endswith(f'GRANT "postgres" TO "stranger {name}";')


async def test_a_role_with_the_least_rights_runs_the_service_and_mends_nothing(servers: Servers, name: str) -> None:
    url = servers.cluster().url(name)
    role = least_role(url)
    found = await rights_of(servers, name, role, installed=True)
    assert (found.level, "not mend triggers" in found.found) == (Level.NOTE, True)
    # One right less, and it is named with what to run.
    await execute(url, f'revoke select ("deletedAt") on public.asset from "{role}"')
    found = await rights_of(servers, name, role, installed=True)
    assert (found.level, "lacks select on public.asset.deletedAt" in found.found) == (Level.WRONG, True)
    await execute(url, install.grants(role), f'revoke delete on immich_dbsync_v1.events from "{role}"')
    found = await rights_of(servers, name, role, installed=True)
    assert "lacks delete on immich_dbsync_v1.events" in found.found
    for schema in ("immich_dbsync_v1", "public"):  # into which a role can't look at all
        await execute(url, install.grants(role), f'revoke usage on schema {schema} from "{role}"')
        found = await rights_of(servers, name, role, installed=True)
        assert (found.level, found.found) == (Level.WRONG, f'role "{role}" lacks usage on schema {schema}')


async def test_what_is_said_to_grant_rights_can_be_pasted(servers: Servers, name: str) -> None:
    """As far as psql: that it is asked of the same database, as the owner and without a password."""
    role = least_role(servers.cluster().url(name))
    await execute(servers.cluster().url(name), f'revoke usage on schema immich_dbsync_v1 from "{role}"')
    mend = (await rights_of(servers, name, role, installed=True)).mend
    printing, _, granting = mend.partition(" Run: ")[2].partition(" | ")
    assert shlex.split(printing) == ["immich-dbsync", "triggers", "sql", "--role", role]
    psql, url = shlex.split(granting)
    assert psql == "psql"
    await execute(url, install.grants(role))
    assert (await rights_of(servers, name, role, installed=True)).level is Level.NOTE


async def test_a_right_that_no_check_asked_for_is_said_in_one_line(
    database_url: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    error = asyncpg.InsufficientPrivilegeError("permission denied for table x")
    found = await database.refused(connection, database_url, error)
    assert found.found.endswith("permission denied for table x")
    assert "triggers sql --role postgres | psql " in found.mend
