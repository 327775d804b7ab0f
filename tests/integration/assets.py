"""People and assets as rows, and what Immich does to them in SQL; for the tests of our triggers."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.store import install

Connection = psycopg.Connection[tuple[object, ...]]
CHANNEL = "immich_dbsync_v1"
TRASH = """update asset set status = 'trashed', "deletedAt" = now() where id = any(%s)"""
FORCE = """update asset set status = 'deleted', "deletedAt" = now() where id = any(%s)"""
RESTORE = """update asset set status = 'active', "deletedAt" = null where id = any(%s)"""
DELETE = "delete from asset where id = any(%s)"
_numbers = count()


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        yield connection


def add_person(connection: Connection, *, synced: bool | None = True) -> UUID:
    """A user; ``synced`` None leaves out our own row, False disables it."""
    owner = uuid4()
    connection.execute('insert into "user" (id, email) values (%s, %s)', (owner, f"{owner}@example.test"))
    if synced is not None:
        connection.execute("insert into immich_dbsync_v1.owners (owner_id, enabled) values (%s, %s)", (owner, synced))
    return owner


def add_assets(connection: Connection, owner: UUID, many: int = 1, *, library: UUID | None = None) -> list[UUID]:
    old = connection.execute(
        "select 1 from pg_attribute where attrelid = 'asset'::regclass and attname = 'deviceId' and not attisdropped"
    ).fetchone()
    columns, values = (', "deviceAssetId", "deviceId"', ", 'a', 'b'") if old else ("", "")
    rows = connection.execute(
        f"""insert into asset (checksum, "checksumAlgorithm", "fileCreatedAt", "fileModifiedAt", "localDateTime",
              "originalFileName", "originalPath", "ownerId", "libraryId", type{columns})
            select sha256(convert_to(%s || ' ' || i, 'UTF8')), 'sha1', now(), now(), now(), i || '.jpg', i || '.jpg',
              %s, %s, 'IMAGE'{values}
            from generate_series(1, %s) i returning id""",
        (str(next(_numbers)), owner, library, many),
    )
    return [UUID(str(row[0])) for row in rows]


def add_library(connection: Connection, owner: UUID) -> UUID:
    row = connection.execute(
        """insert into library ("exclusionPatterns", "importPaths", name, "ownerId") values ('{}', '{}', 'l', %s)
           returning id""",
        (owner,),
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def events(connection: Connection) -> list[tuple[str, UUID]]:
    rows = connection.execute("select kind, asset_id from immich_dbsync_v1.events order by id")
    return [(str(kind), UUID(str(asset))) for kind, asset in rows]


class Ear:
    """Hears our channel; ``heard`` gives the payloads since the last time, up to a mark that it sends itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._payloads: list[str] = []
        connection.add_notify_handler(lambda notify: self._payloads.append(notify.payload))
        connection.execute(f"listen {CHANNEL}")

    def heard(self) -> list[str]:
        mark = f"mark {next(_numbers)}"
        self._connection.execute("select pg_notify(%s, %s)", (CHANNEL, mark))
        for _ in range(1000):
            self._connection.execute("select 1")
            if mark in self._payloads:
                payloads, self._payloads = self._payloads, []
                return payloads[: payloads.index(mark)]
        raise AssertionError("the mark never came")


def plain_owner(cluster: Cluster, database: str) -> str:
    """Give all that is Immich's to a new role that is no superuser, as most servers have it; returns its name."""
    role = f"Immich {database}"  # a name that must be quoted
    with connected(cluster.url(database)) as connection:
        connection.execute(f'create role "{role}" login')
        connection.execute(f'alter schema public owner to "{role}"')
        connection.execute(
            f"""do $$ declare statement text; begin
                  for statement in
                    select format('alter table %s owner to %I', oid::regclass, '{role}') from pg_class
                      where relnamespace = 'public'::regnamespace and relkind = 'r'
                    union all
                    select format('alter type %s owner to %I', oid::regtype, '{role}') from pg_type
                      where typnamespace = 'public'::regnamespace and typtype = 'e'
                    union all
                    select format('alter function %s owner to %I', oid::regprocedure, '{role}') from pg_proc
                      where pronamespace = 'public'::regnamespace
                  loop
                    execute statement;
                  end loop;
                end $$"""
        )
    return role


def least_role(url: str) -> str:
    """Install everything, and make a role with no more than the rights that are printed for it; returns its name."""
    install.install(url)
    name = f"least {urlsplit(url).path[1:]}"
    with connected(url) as connection:
        connection.execute("revoke all on schema public from public")
        connection.execute(f'create role "{name}" login')
        connection.execute(install.grants(name).encode())
    return name


def url_of(cluster: Cluster, database: str, role: str) -> str:
    return cluster.url(database, user=role.replace(" ", "%20"))
