"""Install, verify and remove on every PostgreSQL and for every kind of role."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.tables import VERSIONS, ImmichVersion
from immich_dbsync.errors import DatabaseBusy, DatabaseRightMissing, NotImmich, TriggersDiffer
from immich_dbsync.store import install
from immich_dbsync.store.install import Patience, Report
from tests.databases import MAJORS, Servers
from tests.integration.assets import (
    TRASH,
    add_assets,
    add_person,
    connected,
    events,
    plain_owner,
    url_of,
)

IMPATIENT = Patience(pause=0.05, give_up_after=0.7)


@pytest.fixture
def place(servers: Servers) -> Iterator[tuple[Cluster, str, str]]:
    """The newest cluster, and a database in it with its superuser's URL."""
    with servers.database() as name:
        yield servers.cluster(), name, servers.cluster().url(name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("major", MAJORS)
def test_remove_leaves_the_database_as_it_was(servers: Servers, major: int, version: ImmichVersion) -> None:
    with servers.database(version, major) as name:
        cluster = servers.cluster(major)
        url = cluster.url(name)
        with connected(url) as connection:
            connection.execute("comment on schema public is 'ours'")
            connection.execute("alter default privileges grant select on tables to public")
        before = cluster.dump(name)
        assert install.verify(url).differences == (
            "schema immich_dbsync_v1 is missing: the triggers are not installed",
        )
        assert install.install(url).changed
        assert install.verify(url) == install.Report()
        assert "immich_dbsync" in cluster.dump(name)
        removed = install.remove(url).changed
        assert removed[-1] == "schema immich_dbsync_v1"
        assert cluster.dump(name) == before
        assert install.remove(url) == install.Report()


def test_remove_takes_every_version_along(place: tuple[Cluster, str, str]) -> None:
    cluster, name, url = place
    before = cluster.dump(name)
    install.install(url)
    with connected(url) as connection:
        connection.execute(install.script().replace("immich_dbsync_v1", "immich_dbsync_v12"))
    assert install.verify(url).warnings == (
        "schema immich_dbsync_v12 of another version of immich-dbsync is there too",
    )
    assert len(install.remove(url).changed) == 6
    assert cluster.dump(name) == before


def test_the_printed_script_makes_what_install_makes(place: tuple[Cluster, str, str]) -> None:
    cluster, name, url = place
    role = plain_owner(cluster, name)
    with connected(url) as connection:
        connection.execute(install.script())
    by_script = cluster.dump(name)
    assert install.verify(url) == install.Report()
    install.remove(url)
    install.install(url)
    assert cluster.dump(name) == by_script
    assert role in by_script


def _identities(url: str) -> object:
    with connected(url) as connection:
        return connection.execute(
            """select oid, xmin::text from pg_proc where pronamespace = 'immich_dbsync_v1'::regnamespace
               union all select oid, xmin::text from pg_trigger where tgname like 'immich_dbsync%'
               union all select oid, xmin::text from pg_class where relnamespace = 'immich_dbsync_v1'::regnamespace
               union all select oid, xmin::text from pg_namespace where nspname = 'immich_dbsync_v1'
               order by 1, 2"""
        ).fetchall()


def test_a_second_install_touches_nothing_and_needs_no_lock(place: tuple[Cluster, str, str]) -> None:
    _, _, url = place
    install.install(url)
    before = _identities(url)
    with connected(url) as other, other.transaction():
        other.execute("lock table asset in access exclusive mode")
        assert install.install(url, IMPATIENT) == install.Report()
        assert install.verify(url) == install.Report()
    assert _identities(url) == before


def test_a_superuser_installs_for_the_role_that_owns_the_tables(place: tuple[Cluster, str, str]) -> None:
    cluster, name, url = place
    role = plain_owner(cluster, name)
    install.install(url)
    assert install.verify(url) == install.Report()
    assert "immich_dbsync_v1.events" in cluster.dump(name, user=role)  # Immich's own backup
    own = url_of(cluster, name, role)
    assert install.install(own) == install.Report()
    assert install.remove(own).changed


def test_the_owner_of_the_tables_installs_by_itself(place: tuple[Cluster, str, str]) -> None:
    cluster, name, url = place
    role = plain_owner(cluster, name)
    own = url_of(cluster, name, role)
    with pytest.raises(DatabaseRightMissing, match="GRANT CREATE ON DATABASE") as refused:
        install.install(own)
    with connected(url) as connection:
        connection.execute(str(refused.value).partition("superuser: ")[2])
    install.install(own)
    assert install.verify(own) == install.Report()
    with connected(own) as immich:
        [asset] = add_assets(immich, add_person(immich))
        immich.execute(TRASH, ([asset],))
        assert events(immich) == [("trashed", asset)]


def test_a_stranger_is_told_what_to_grant_and_that_suffices(place: tuple[Cluster, str, str]) -> None:
    cluster, name, url = place
    owner = plain_owner(cluster, name)
    stranger = f"stranger_{name}"
    with connected(url) as connection:
        connection.execute(f"create role {stranger} login")
        own = url_of(cluster, name, stranger)
        assert install.verify(own).differences
        for right in ("triggers on public.asset", "create a schema"):
            with pytest.raises(DatabaseRightMissing, match=right) as refused:
                install.install(own)
            advice = re.search(r"GRANT .*;", str(refused.value))
            assert advice is not None
            connection.execute(advice[0])
        install.install(own)
        connection.execute(f'revoke "{owner}" from {stranger}')
    assert install.verify(url) == install.Report()
    with pytest.raises(DatabaseRightMissing, match="must be owner"):
        install.remove(own)


DAMAGES = {
    "drop trigger immich_dbsync_v1_updated on asset": "trigger immich_dbsync_v1_updated is missing",
    "alter table asset disable trigger immich_dbsync_v1_deleted": "v1_deleted is changed: .*disabled",
    "alter table asset disable trigger user": "_updated is changed: .*disabled",
    "alter table asset enable replica trigger immich_dbsync_v1_updated": "replicas only",
    "alter table asset enable always trigger immich_dbsync_v1_updated": "enabled always",
    """create or replace trigger immich_dbsync_v1_updated after update of status on asset
       for each row execute function immich_dbsync_v1.asset_updated()""": "of some columns",
    """create or replace trigger immich_dbsync_v1_updated after update on asset
       for each row when (old.status <> new.status) execute function immich_dbsync_v1.asset_updated()""": "condition",
    """create or replace function immich_dbsync_v1.trim_events(newest bigint) returns void language plpgsql
       set search_path = pg_catalog, pg_temp as 'begin end'""": "function trim_events.* is changed",
    "alter function immich_dbsync_v1.asset_updated() reset search_path": "function asset_updated.* is changed",
    "alter function immich_dbsync_v1.asset_updated() security invoker": "function asset_updated.* is changed",
    "alter function immich_dbsync_v1.begin_capture() set lock_timeout = '1h'": "lock_timeout=1h",
    "drop function immich_dbsync_v1.wake_service()": r"function wake_service\(\) is missing",
    "grant execute on function immich_dbsync_v1.asset_updated() to public": "open to public",
    "alter table immich_dbsync_v1.events owner to {role}": "the owner of table events is changed: role_",
    "alter schema immich_dbsync_v1 owner to {role}": "the owner of schema immich_dbsync_v1 is changed: role_",
    "alter function immich_dbsync_v1.wake_service() owner to {role}": "the owner of function wake_service is changed",
    "drop index immich_dbsync_v1.records_asset": "index records_asset is missing",
    """drop index immich_dbsync_v1.history_owner;
       create index history_owner on immich_dbsync_v1.history (owner_id, id)""": "index history_owner is changed",
    "alter table asset owner to {role}": "the owner of table owners is changed: not readable by",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_install_mends_what_verify_finds(place: tuple[Cluster, str, str], damage: str) -> None:
    _, name, url = place
    install.install(url)
    with connected(url) as connection:
        person = add_person(connection)
        role = f"role_{name}"
        connection.execute(f"create role {role}")
        connection.execute(damage.format(role=role))
        said = install.verify(url).differences
        assert any(re.search(DAMAGES[damage], line) for line in said), said
        with connected(url) as dump, dump.transaction():
            dump.execute("lock table asset in access share mode")  # mending needs no more than Immich's reads allow
            assert install.install(url, IMPATIENT).changed == said
        assert install.verify(url) == install.Report()
        assert connection.execute("select owner_id from immich_dbsync_v1.owners").fetchone() == (person,)


BEYOND_REPAIR = {
    "alter table immich_dbsync_v1.records alter column size type numeric": "column records.size is changed: numeric",
    "alter table immich_dbsync_v1.records drop column racy": "column records.racy is missing",
    "alter table immich_dbsync_v1.records add column more text": "column records.more does not belong there",
    "alter table immich_dbsync_v1.records alter column racy drop not null": "column records.racy is changed: boolean;",
    "drop table immich_dbsync_v1.history": "table history is missing",
    "alter table immich_dbsync_v1.history drop constraint history_pkey": "index history_pkey is missing",
    "create index mine on immich_dbsync_v1.history (action)": "index mine does not belong there",
    "alter table immich_dbsync_v1.events set unlogged": "table events is changed: unlogged table",
    "alter table immich_dbsync_v1.events enable row level security": "row security",
    "alter table immich_dbsync_v1.events add check (id > 0)": "constraint events.events_id_check does not belong",
    "create view immich_dbsync_v1.mine as select 1": "view immich_dbsync_v1.mine does not belong there",
    "create sequence immich_dbsync_v1.mine": "sequence immich_dbsync_v1.mine does not belong there",
    "create type immich_dbsync_v1.mine as enum ()": "type immich_dbsync_v1.mine does not belong there",
    "revoke all on immich_dbsync_v1.events from {owner}": "not readable by the owner of public.asset",
}


@pytest.mark.parametrize("damage", BEYOND_REPAIR)
def test_what_install_may_not_mend_it_reports_and_leaves(place: tuple[Cluster, str, str], damage: str) -> None:
    cluster, name, url = place
    role = plain_owner(cluster, name)
    install.install(url)
    with connected(url) as connection:
        connection.execute(damage.format(owner=f'"{role}"'))
    before = cluster.dump(name, "--schema-only")
    with pytest.raises(TriggersDiffer) as refused:
        install.install(url)
    assert any(BEYOND_REPAIR[damage] in line for line in refused.value.differences), refused.value.differences
    assert refused.value.differences == install.verify(url).differences
    assert cluster.dump(name, "--schema-only") == before
    install.remove(url)
    install.install(url)
    assert install.verify(url) == install.Report()


def test_leftovers_of_other_tools_are_mentioned_and_left(place: tuple[Cluster, str, str]) -> None:
    _, _, url = place
    install.install(url)
    with connected(url) as connection:
        connection.execute("create table assets_delete_audits ()")
        connection.execute("create table assets_filesync_lookup ()")
        connection.execute(
            """create function log_assets_delete_audits() returns trigger language plpgsql as 'begin return null; end';
               create trigger trigger_assets_delete_audits after delete on asset
                 for each row execute function log_assets_delete_audits()"""
        )
    report = install.verify(url)
    assert (report.differences, len(report.warnings)) == ((), 4)
    assert len(install.remove(url).changed) == 3
    assert install.verify(url).warnings == report.warnings


NOT_IMMICH = {
    "drop schema public cascade; create schema public": "none of Immich's tables",
    "alter table asset rename to assets": "older than 1.136",
    'alter table asset drop column "libraryId" cascade': 'asset."libraryId"',
    'drop table "user" cascade': 'table "user"',
    "alter table version_history rename version to v": 'version_history."version"',
}


@pytest.mark.parametrize("change", NOT_IMMICH)
def test_a_database_that_is_no_supported_immich(place: tuple[Cluster, str, str], change: str) -> None:
    _, _, url = place
    with connected(url) as connection:
        connection.execute(change)
    for command in (install.install, install.verify):
        with pytest.raises(NotImmich, match=NOT_IMMICH[change]):
            command(url)
    assert install.remove(url) == install.Report()


def test_install_goes_through_during_a_dump_and_remove_does_not(place: tuple[Cluster, str, str]) -> None:
    """CREATE TRIGGER does not conflict with readers; DROP TRIGGER conflicts with everybody."""
    _, _, url = place
    with connected(url) as dump, dump.transaction():
        dump.execute("lock table asset in access share mode")
        install.install(url, IMPATIENT)
        before = _identities(url)
        with pytest.raises(DatabaseBusy):
            install.remove(url, IMPATIENT)
        assert _identities(url) == before
    with connected(url) as dump, dump.transaction():
        dump.execute("lock table immich_dbsync_v1.records in access share mode")
        with pytest.raises(DatabaseBusy):
            install.remove(url, IMPATIENT)
        assert _identities(url) == before
    assert install.remove(url, IMPATIENT).changed


@pytest.mark.parametrize("command", [install.install, install.remove])
def test_waiting_for_a_long_transaction_hardly_delays_immich(
    place: tuple[Cluster, str, str], command: Callable[[str, Patience], Report]
) -> None:
    cluster, name, url = place
    if command is install.remove:
        install.install(url)
    before = cluster.dump(name, "--schema-only")
    refused: list[Exception] = []

    def run() -> None:
        try:
            command(url, Patience(pause=0.01, give_up_after=1.5))
        except DatabaseBusy as error:
            refused.append(error)

    with connected(url) as setup, connected(url) as immich, connected(url) as long, long.transaction():
        add_person(setup, synced=None)
        long.execute('update asset set "isFavorite" = true')
        # One lock wait longer than this is an error here, however busy the machine is.
        immich.execute("set lock_timeout = '450ms'")
        thread = threading.Thread(target=run)
        thread.start()
        statements = 0
        while thread.is_alive():
            immich.execute('update asset set "isFavorite" = false')
            immich.execute("select from asset")
            statements += 1
        thread.join()
        assert statements > 3
    assert len(refused) == 1
    assert cluster.dump(name, "--schema-only") == before


def test_two_installs_at_once_make_one(place: tuple[Cluster, str, str]) -> None:
    _, _, url = place
    reports: list[install.Report] = []
    threads = [threading.Thread(target=lambda: reports.append(install.install(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bool(report.changed) for report in reports) == [False, False, False, True]


def test_a_failed_install_leaves_nothing(place: tuple[Cluster, str, str]) -> None:
    cluster, name, url = place
    before = cluster.dump(name)
    with connected(url) as immich, immich.transaction():
        immich.execute('update asset set "isFavorite" = true')
        with suppress(DatabaseBusy):
            install.install(url, IMPATIENT)
    assert cluster.dump(name) == before
