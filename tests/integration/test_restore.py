"""Immich's own restore of a backup works whatever of ours is in the backup and in the database."""

from collections.abc import Iterator

import pytest

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.store import install
from tests.backups import backup, restore
from tests.databases import MAJORS, NEWEST, Servers
from tests.integration.assets import (
    TRASH,
    add_assets,
    add_person,
    connected,
    events,
    plain_owner,
    url_of,
)

NEXT_VERSION = install.script().replace("immich_dbsync_v1", "immich_dbsync_v2") + (
    "create table immich_dbsync_v2.added (id integer);"
)


PLACES: list[tuple[int, ImmichVersion]] = [(NEWEST, "2.7.5"), *((major, "3.1.0") for major in MAJORS)]


@pytest.fixture(params=PLACES, ids=str)
def place(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[Cluster, str, str]]:
    """A cluster, a database of an ordinary role in it, and that role: as Immich runs."""
    major: int
    version: ImmichVersion
    major, version = request.param
    with servers.database(version, major) as name:
        cluster = servers.cluster(major)
        role = plain_owner(cluster, name)
        with connected(cluster.url(name)) as connection:
            connection.execute(f'grant create on database {name} to "{role}"')
        yield cluster, name, role


def _fill(cluster: Cluster, name: str) -> None:
    with connected(cluster.url(name)) as connection:
        assets = add_assets(connection, add_person(connection), 3)
        connection.execute(TRASH, (assets[:1],))


def _capture_works(url: str) -> bool:
    with connected(url) as connection:
        before = len(events(connection))
        connection.execute("""update asset set status = 'trashed', "deletedAt" = now() where status = 'active'""")
        return len(events(connection)) > before


def test_a_backup_with_the_version_that_is_installed(place: tuple[Cluster, str, str]) -> None:
    cluster, name, role = place
    own = url_of(cluster, name, role)
    install.install(own)
    _fill(cluster, name)
    dump = backup(cluster, name, role)
    with connected(own) as connection:
        connection.execute("truncate immich_dbsync_v1.events")
    restore(cluster, name, role, dump)
    assert install.verify(own) == install.Report()
    with connected(own) as connection:
        assert len(events(connection)) == 1
    assert _capture_works(own)


def test_a_backup_from_before_we_came(place: tuple[Cluster, str, str]) -> None:
    cluster, name, role = place
    own = url_of(cluster, name, role)
    dump = backup(cluster, name, role)
    install.install(own)
    _fill(cluster, name)
    restore(cluster, name, role, dump)
    assert install.verify(own).differences == (
        "trigger immich_dbsync_v1_deleted is missing",
        "trigger immich_dbsync_v1_updated is missing",
    )
    install.install(own)
    assert install.verify(own) == install.Report()
    with connected(own) as connection:
        assert connection.execute("select count(*) from immich_dbsync_v1.owners").fetchone() == (1,)
        add_assets(connection, add_person(connection))
    assert _capture_works(own)


@pytest.mark.parametrize("beside", [False, True], ids=["upgraded since", "both versions there"])
def test_a_backup_with_another_version_than_is_installed(place: tuple[Cluster, str, str], beside: bool) -> None:
    cluster, name, role = place
    own = url_of(cluster, name, role)
    install.install(own)
    _fill(cluster, name)
    dump = backup(cluster, name, role)
    if not beside:
        install.remove(own)
    with connected(own) as connection:
        connection.execute(NEXT_VERSION)
    restore(cluster, name, role, dump)
    report = install.verify(own)
    assert report.differences == ()
    assert report.warnings == ("schema immich_dbsync_v2 of another version of immich-dbsync is there too",)
    assert _capture_works(own)


def test_a_backup_with_us_after_we_were_removed(place: tuple[Cluster, str, str]) -> None:
    cluster, name, role = place
    own = url_of(cluster, name, role)
    install.install(own)
    _fill(cluster, name)
    dump = backup(cluster, name, role)
    install.remove(own)
    restore(cluster, name, role, dump)
    assert install.verify(own) == install.Report()
