"""Whatever is wrong with our side, Immich's statements and migrations succeed, and soon."""

import re
from collections.abc import Iterator

import pytest

from immich_dbsync.store import install
from tests.integration.assets import DELETE, TRASH, Connection, Ear, add_assets, add_person, connected, events

DAMAGES = {
    "events gone": "drop table immich_dbsync_v1.events",
    "owners gone": "drop table immich_dbsync_v1.owners",
    "column gone": "alter table immich_dbsync_v1.events drop column kind",
    "column retyped": "alter table immich_dbsync_v1.events alter column asset_id type integer using 1",
    "helper gone": "drop function immich_dbsync_v1.begin_capture",
    "waker gone": "drop function immich_dbsync_v1.wake_service",
    "right gone": "",
    "constraint": "alter table immich_dbsync_v1.events add check (kind = 'none')",
    "full disk": """
        create function immich_dbsync_v1.full() returns trigger language plpgsql as
          $$ begin raise exception using errcode = 'disk_full'; end $$;
        create trigger full_disk before insert on immich_dbsync_v1.events
          for each row execute function immich_dbsync_v1.full()""",
    "numbers used up": "alter table immich_dbsync_v1.events alter id set maxvalue 2 restart with 2",
    "numbers twice": """
        insert into immich_dbsync_v1.events (id, owner_id, asset_id, kind) overriding system value
          select i, gen_random_uuid(), gen_random_uuid(), 'trashed' from generate_series(1, 100) i""",
}


@pytest.fixture
def immich(database_url: str) -> Iterator[Connection]:
    install.install(database_url)
    with connected(database_url) as connection:
        yield connection


def _warnings(connection: Connection) -> list[str]:
    said: list[str] = []
    connection.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
    return said


def _damage(connection: Connection, name: str) -> None:
    if name == "right gone":
        connection.execute("create role poor_owner" if not _role_exists(connection) else "select 1")
        connection.execute("alter function immich_dbsync_v1.asset_updated() owner to poor_owner")
        connection.execute("alter function immich_dbsync_v1.assets_deleted() owner to poor_owner")
    else:
        connection.execute(DAMAGES[name])


def _role_exists(connection: Connection) -> bool:
    return connection.execute("select from pg_roles where rolname = 'poor_owner'").fetchone() is not None


@pytest.mark.newest
@pytest.mark.parametrize("warm", [False, True], ids=["fresh session", "session with plans"])
@pytest.mark.parametrize("name", DAMAGES)
def test_our_damage_is_a_warning_and_a_wake_up(immich: Connection, database_url: str, name: str, warm: bool) -> None:
    owner = add_person(immich)
    assets = add_assets(immich, owner, 20)
    if warm:
        for statement in (TRASH, DELETE):
            immich.execute(statement, (add_assets(immich, owner, 1),))
        immich.execute("truncate immich_dbsync_v1.events restart identity")
    with connected(database_url) as other:
        _damage(other, name)
        ear = Ear(other)
        for statement in (TRASH, DELETE):
            said = _warnings(immich)
            assert immich.execute(statement, (assets,)).rowcount == 20
            assert [text.startswith("immich-dbsync could not note") for text in said] == [True]
            assert "missed" in ear.heard()


MIGRATIONS = {
    "column retyped": 'alter table asset alter column "originalFileName" type text',
    "duration retyped": "alter table asset alter column duration type bigint using null",
    "column dropped": 'alter table asset drop column if exists "deviceId", drop column "isOffline"',
    "status retyped": """alter table asset alter column status drop default, alter column status type text;
        alter table asset alter column status set default 'active'""",
    "label added": "alter type assets_status_enum add value 'partial'",
    "label gone": """create type slim as enum ('active', 'trashed');
        alter table asset alter column status drop default, alter column status type slim using status::text::slim""",
    "column added": "alter table asset add column extra jsonb not null default '{}'",
    "table renamed and back": "alter table asset rename to elsewhere; alter table elsewhere rename to asset",
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_migrations_run_and_capture_goes_on(immich: Connection, database_url: str, name: str) -> None:
    owner = add_person(immich)
    [before, after] = add_assets(immich, owner, 2)
    immich.execute(TRASH, ([before],))
    immich.execute("delete from immich_dbsync_v1.events")
    with connected(database_url) as migration:
        migration.execute(MIGRATIONS[name])
        migration.execute(TRASH, ([after],))
        migration.execute(DELETE, ([after],))
    assert events(immich) == [("trashed", after), ("deleted", after)]
    immich.execute(TRASH, ([before],))  # the session that had its plans before
    assert immich.execute(DELETE, ([before],)).rowcount == 1
    assert events(immich)[-1] == ("deleted", before)


BREAKING = {
    "status renamed": ("alter table asset rename status to state", "update asset set state = 'trashed'"),
    "status dropped": ("alter table asset drop column status", 'update asset set "deletedAt" = now()'),
    "date dropped": ('alter table asset drop column "deletedAt"', "update asset set status = 'trashed'"),
    "owner dropped": ('alter table asset drop column "ownerId" cascade', "update asset set status = 'trashed'"),
    "library dropped": ('alter table asset drop column "libraryId" cascade', "update asset set status = 'trashed'"),
    "id renamed": ("alter table asset rename id to uid", "update asset set status = 'trashed'"),
}


@pytest.mark.newest
@pytest.mark.parametrize("name", BREAKING)
def test_migrations_that_take_what_capture_reads_are_not_held_up(
    immich: Connection, database_url: str, name: str
) -> None:
    owner = add_person(immich)
    assets = add_assets(immich, owner, 20)
    immich.execute(TRASH, (assets[:1],))
    migrate, trash = BREAKING[name]
    with connected(database_url) as migration:
        migration.execute("drop trigger asset_delete_audit on asset")  # Immich's own, which reads the same columns
        migration.execute(migrate)
        for session in (migration, immich):
            said = _warnings(session)
            assert session.execute(trash).rowcount == 20
            assert len(said) == 1 if session is migration else len(said) <= 1  # the second may find nothing to change
            session.execute('update asset set "isFavorite" = true')
        assert immich.execute("delete from asset").rowcount == 20


@pytest.mark.newest
@pytest.mark.parametrize("table", ["events", "owners"])
def test_a_locked_table_of_ours_delays_a_statement_once(immich: Connection, database_url: str, table: str) -> None:
    add_assets(immich, add_person(immich), 5000)
    with connected(database_url) as other, other.transaction():
        other.execute(f"lock table immich_dbsync_v1.{table} in access exclusive mode")
        said = _warnings(immich)
        plan = immich.execute("explain analyze update asset set status = 'trashed', \"deletedAt\" = now()").fetchall()
        waited = re.search(r"immich_dbsync_v1_updated: time=([\d.]+)", "\n".join(str(line) for (line,) in plan))
        assert waited is not None
        assert float(waited[1]) < 1000
        assert len(said) == 1
        immich.execute("set statement_timeout = '10s'")
        assert immich.execute("delete from asset").rowcount == 5000
        assert len(said) == 2
    assert events(immich) == []


@pytest.mark.newest
def test_rebuilding_an_index_of_ours_delays_a_statement_once(immich: Connection, database_url: str) -> None:
    assets = add_assets(immich, add_person(immich), 100)
    for index in ("owners_pkey", "events_asset"):
        with connected(database_url) as other, other.transaction():
            other.execute(f"reindex index immich_dbsync_v1.{index}")
            immich.execute("set statement_timeout = '5s'")
            assert immich.execute("update asset set status = 'trashed', \"deletedAt\" = now()").rowcount == len(assets)
            immich.execute("update asset set status = 'active', \"deletedAt\" = null")
