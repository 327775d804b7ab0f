import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from immich_dbsync.store import install
from tests.integration.assets import (
    DELETE,
    FORCE,
    RESTORE,
    TRASH,
    Connection,
    Ear,
    add_assets,
    add_library,
    add_person,
    connected,
    events,
)

NOBODY = UUID(int=0)


@pytest.fixture
def immich(database_url: str) -> Iterator[Connection]:
    """Immich's session, with our triggers installed."""
    install.install(database_url)
    with connected(database_url) as connection:
        yield connection


def test_each_step_of_an_assets_life_is_an_event(immich: Connection) -> None:
    [asset] = add_assets(immich, add_person(immich))
    for statement in (TRASH, RESTORE, TRASH, FORCE, TRASH, RESTORE, FORCE, RESTORE, DELETE):
        immich.execute(statement, ([asset],))
    kinds = ["trashed", "restored", "trashed", "deleting", "trashed", "restored", "deleting", "restored", "deleted"]
    assert events(immich) == [(kind, asset) for kind in kinds]


def test_the_date_alone_tells_of_the_trash_as_well(immich: Connection) -> None:
    [asset] = add_assets(immich, add_person(immich))
    immich.execute('update asset set "deletedAt" = now()')
    immich.execute("update asset set status = 'trashed'")
    immich.execute("""update asset set status = 'active', "deletedAt" = null""")
    assert events(immich) == [("trashed", asset), ("restored", asset)]


def test_what_changes_nothing_of_that_writes_nothing(immich: Connection) -> None:
    synced, paused, unknown = (add_person(immich, synced=state) for state in (True, False, None))
    foreign = add_assets(immich, paused, 2) + add_assets(immich, unknown, 2)
    library = add_assets(immich, synced, 2, library=add_library(immich, synced))
    own = add_assets(immich, synced, 2)
    immich.execute('update asset set "isFavorite" = true')
    for statement in (TRASH, FORCE, RESTORE, DELETE):
        immich.execute(statement, (foreign + library,))
    assert events(immich) == []
    immich.execute(TRASH, (own,))
    written = events(immich)
    immich.execute(TRASH, (own,))  # only its date moves
    immich.execute("""update asset set "isFavorite" = false""")
    assert events(immich) == written
    assert sorted(written) == sorted(("trashed", asset) for asset in own)


def test_deleting_a_user_is_told_as_deletions(immich: Connection) -> None:
    person = add_person(immich)
    assets = add_assets(immich, person, 3)
    immich.execute("""update "user" set status = 'removing', "deletedAt" = now()""")
    immich.execute('delete from "user"')
    assert sorted(events(immich)) == sorted(("deleted", asset) for asset in assets)


def test_many_assets_in_one_statement(immich: Connection) -> None:
    assets = add_assets(immich, add_person(immich), 2500)
    for statement in (TRASH, DELETE):
        immich.execute(statement, (assets,))
    told = events(immich)
    assert sorted(told[:2500]) == sorted(("trashed", asset) for asset in assets)
    assert sorted(told[2500:]) == sorted(("deleted", asset) for asset in assets)


def test_a_rollback_takes_the_events_along(immich: Connection, database_url: str) -> None:
    first, second, third = add_assets(immich, add_person(immich), 3)
    with connected(database_url) as other:
        ear = Ear(other)
        immich.execute("begin")
        immich.execute(TRASH, ([first],))
        immich.execute("rollback")
        assert events(immich) == []
        assert ear.heard() == []
        immich.execute("begin")
        immich.execute("savepoint s")
        immich.execute(TRASH, ([first],))
        immich.execute("rollback to savepoint s")
        immich.execute(TRASH, ([second],))
        immich.execute("savepoint s")
        immich.execute(DELETE, ([third],))
        immich.execute("release savepoint s")
        immich.execute("commit")
        assert events(immich) == [("trashed", second), ("deleted", third)]
        assert ear.heard() == [""]


def test_one_notification_a_transaction_and_none_for_nothing(immich: Connection, database_url: str) -> None:
    assets = add_assets(immich, add_person(immich), 50)
    foreign = add_assets(immich, add_person(immich, synced=False), 5)
    with connected(database_url) as other:
        ear = Ear(other)
        immich.execute(TRASH, (foreign,))
        immich.execute(DELETE, (foreign,))
        immich.execute(DELETE, ([NOBODY],))
        immich.execute('update asset set "isFavorite" = true')
        assert ear.heard() == []
        immich.execute(TRASH, (assets,))
        assert ear.heard() == [""]
        with immich.transaction():
            immich.execute(RESTORE, (assets,))
            immich.execute(DELETE, (assets[:5],))
            immich.execute(TRASH, (assets[5:],))
        assert ear.heard() == [""]


@pytest.mark.newest
def test_two_sessions_at_once_lose_nothing(immich: Connection, database_url: str) -> None:
    owner = add_person(immich)
    halves = [add_assets(immich, owner, 100) for _ in range(2)]

    def trash_one_by_one(assets: list[UUID]) -> None:
        with connected(database_url) as connection:
            for asset in assets:
                connection.execute(TRASH, ([asset],))

    threads = [threading.Thread(target=trash_one_by_one, args=(assets,)) for assets in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(events(immich)) == sorted(("trashed", asset) for half in halves for asset in half)


@pytest.mark.newest
def test_an_open_transaction_of_ours_holds_nobody_up(immich: Connection, database_url: str) -> None:
    first, second = add_assets(immich, add_person(immich), 2)
    immich.execute(TRASH, ([first],))
    immich.execute("set lock_timeout = '1ms'")
    with connected(database_url) as service, service.transaction():
        service.execute("delete from immich_dbsync_v1.events")
        service.execute("update immich_dbsync_v1.owners set last_scan_at = now()")
        immich.execute(TRASH, ([second],))
    assert events(immich) == [("trashed", second)]


@pytest.mark.newest
def test_triggers_keep_the_session_as_it_was(immich: Connection) -> None:
    assets = add_assets(immich, add_person(immich), 2)
    immich.execute("set lock_timeout = '7s'")
    immich.execute("set search_path = public")
    immich.execute("begin")
    immich.execute(TRASH, (assets,))
    row = immich.execute("select current_setting('lock_timeout'), current_setting('search_path'), current_user")
    assert row.fetchone() == ("7s", "public", "postgres")
    immich.execute("commit")


def _fill_events(immich: Connection, many: int, next_id: int) -> None:
    immich.execute(
        """insert into immich_dbsync_v1.events (owner_id, asset_id, kind)
           select gen_random_uuid(), gen_random_uuid(), 'trashed' from generate_series(1, %s)""",
        (many,),
    )
    immich.execute("select setval('immich_dbsync_v1.events_id_seq', %s, false)", (next_id,))


@pytest.mark.newest
@pytest.mark.parametrize("statement", [TRASH, DELETE])
def test_events_are_bounded_and_say_when_some_were_dropped(
    immich: Connection, database_url: str, statement: str
) -> None:
    assets = add_assets(immich, add_person(immich), 2)
    _fill_events(immich, 100_500, 101_000)
    immich.execute("set lock_timeout = '1ms'")
    with connected(database_url) as service, service.transaction():
        service.execute("select from immich_dbsync_v1.events where id <= 10 for update")
        immich.execute(statement, (assets,))  # neither waits for the ten nor drops them
    row = immich.execute(
        "select count(*), count(*) filter (where id <= 10), min(id) filter (where id > 10) from immich_dbsync_v1.events"
    ).fetchone()
    told = events(immich)
    assert {asset for _, asset in told} >= set(assets)
    assert told.count(("overflow", NOBODY)) == 1
    assert row is not None
    total, locked, oldest = row
    assert isinstance(total, int)
    assert (total <= 100_015, locked) == (True, 10)
    assert isinstance(oldest, int)
    assert 490 < oldest < 520


@pytest.mark.newest
def test_few_old_events_are_kept_however_high_the_numbers_are(immich: Connection) -> None:
    assets = add_assets(immich, add_person(immich), 2)
    _fill_events(immich, 10, 500_000)
    immich.execute(TRASH, (assets,))
    assert len(events(immich)) == 12


@pytest.mark.newest
def test_a_foreign_role_needs_no_grants_on_our_schema(immich: Connection, database_url: str) -> None:
    [asset] = add_assets(immich, add_person(immich))
    role = f"app_{asset.hex}"
    immich.execute(f"create role {role}")
    immich.execute(f"grant select, update on asset to {role}")
    with connected(database_url) as app:
        app.execute(f"set role {role}")
        app.execute(TRASH, ([asset],))
        with pytest.raises(Exception, match="permission denied"):
            app.execute("select from immich_dbsync_v1.events")
    assert events(immich) == [("trashed", asset)]
