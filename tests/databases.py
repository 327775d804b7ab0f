"""Real PostgreSQL for the tests: one server per major version and session, one database per test."""

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psycopg

from immich_dbsync.demo.cluster import Binaries, Cluster, available
from immich_dbsync.demo.tables import VERSIONS, ImmichVersion, create_tables
from immich_dbsync.store import expected
from tests import kept

Connection = psycopg.Connection[tuple[Any, ...]]

MAJORS: dict[int, Binaries] = {binaries.major: binaries for binaries in available()}
NEWEST = max(MAJORS)


_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30


def _in_memory() -> Path | None:
    """A file system in memory with room for databases: a new one for each test is hundreds of files."""
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if roomy else None


async def execute(url: str, *statements: str) -> None:
    """Run statements one by one outside of a transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


# A digest of all that a test may have changed in Immich's part of a database, but for the rows of tables that are empty
# in a new one.
_SHAPE = """
select md5(string_agg(thing, chr(10) order by thing)) from (
  select format('%s %s %s %s %s', c.relname, c.relkind, c.relacl, c.relowner, c.relrowsecurity) from pg_class c
  where c.relnamespace = 'public'::regnamespace and c.relkind <> 't'
  union all
  select format('%s %s %s %s', a.attrelid::regclass, a.attname, a.atttypid::regtype, a.attnotnull)
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
  union all
  select format('%s %s %s', t.tgrelid::regclass, t.tgname, t.tgenabled) from pg_trigger t
  where not t.tgisinternal and t.tgname not like 'immich_dbsync%'
  union all
  select format('%s %s', p.proname, md5(p.prosrc)) from pg_proc p where p.pronamespace = 'public'::regnamespace
  union all
  select format('%s %s', n.nspname, n.nspacl) from pg_namespace n
  where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'immich_dbsync_v1')
  union all
  select v::text from version_history v
) as all_of_it(thing)
"""

# How it stands with the catalog: whatever changes, adds or ends a row of it changes this. Takes a tenth of the time
# that it takes to compare the catalog.
_STANDING = """
with
  schemas as (select oid from pg_namespace where nspname in ('public', 'immich_dbsync_v1')),
  relations as (select oid, xmin from pg_class where relnamespace in (select * from schemas) and relkind <> 'S'),
  rows as (
    select 'n' as kind, xmin from pg_namespace
    union all select 'r', xmin from relations
    union all select 'a', xmin from pg_attribute where attrelid in (select oid from relations)
    union all select 'd', xmin from pg_attrdef where adrelid in (select oid from relations)
    union all select 'i', xmin from pg_index where indrelid in (select oid from relations)
    union all select 'g', xmin from pg_trigger where tgrelid in (select oid from relations)
    union all select 'c', xmin from pg_constraint where connamespace in (select * from schemas)
    union all select 'p', xmin from pg_proc where pronamespace in (select * from schemas)
    union all select 't', xmin from pg_type where typnamespace in (select * from schemas)
    union all select 'v', xmin from version_history
  )
select string_agg(concat(kind, newest, ' ', count), ' ' order by kind)
from (select kind, count(*), max(xmin::text::bigint) as newest from rows group by kind) as kinds
"""

# Empties what has rows, and has every sequence begin anew. No trigger fires.
_EMPTY = """
do $$
declare
  name text;
  filled text[] := '{}';
  has_rows boolean;
begin
  set local session_replication_role = replica;
  for name in
    select format('%I.%I', schemaname, tablename) from pg_tables
    where schemaname in ('public', 'immich_dbsync_v1') and tablename not in ('version_history', 'schema_version')
  loop
    execute 'select exists (select from ' || name || ')' into has_rows;
    if has_rows and pg_relation_size(name::regclass) > 1000000 then
      filled := filled || name;
    elsif has_rows then
      execute 'delete from ' || name;  -- a truncated table gets new files
    end if;
  end loop;
  if filled <> '{}' then
    execute 'truncate ' || array_to_string(filled, ', ') || ' cascade';
  end if;
  for name in
    select format('%I.%I', schemaname, sequencename) from pg_sequences
    where schemaname in ('public', 'immich_dbsync_v1') and last_value is not null
  loop
    execute 'alter sequence ' || name || ' restart';
  end loop;
end
$$
"""


def _one(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]


@dataclass
class _Used:
    """A database where tests were, and how it stood when it was last compared with a new one."""

    name: str
    connection: Connection
    standing: str = ""


def _emptied(database: _Used, shape: str, url: str) -> bool:
    """Empty a database for the next test; False where a test left it in another shape than a new one has."""
    connection = database.connection
    idle = ",".join(map(str, (0, *kept.served_by(url))))
    ours = f"pg_backend_pid(),{idle}"
    others = f"from pg_stat_activity where datname = current_database() and pid not in ({ours})"
    deadline = time.monotonic() + 10
    while _one(connection, f"select count(pg_terminate_backend(pid, 1000)) {others}"):
        assert time.monotonic() < deadline, "somebody stays connected"
    standing = _one(connection, _STANDING)
    if standing != database.standing:
        rows = connection.execute(expected.CATALOG_SQL.encode()).fetchall()
        differences = expected.differences(rows)
        as_installed = not differences or differences == expected.differences([])
        if not as_installed or expected.warnings(rows) or _one(connection, _SHAPE) != shape:
            return False
        database.standing = standing
    connection.execute(_EMPTY.encode())
    return True


async def _fill(url: str, version: ImmichVersion) -> None:
    connection = await asyncpg.connect(url)
    try:
        await create_tables(connection, version)
    finally:
        await connection.close()


class Servers:
    """Starts a server when a test first asks for its major version; all stop at the end of the session."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._clusters: dict[int, Cluster] = {}
        self._templates: set[tuple[int, ImmichVersion]] = set()
        self._numbers = itertools.count()
        # A connection of our own to each stays open: one that is new takes longer for its first questions than for all.
        self._idle: dict[ImmichVersion, list[_Used]] = {version: [] for version in VERSIONS}
        self._shapes: dict[ImmichVersion, str] = {}

    def cluster(self, major: int = NEWEST) -> Cluster:
        """The running server of one major version."""
        if major not in self._clusters:
            cluster = self._stack.enter_context(
                Cluster(MAJORS[major], settings={"autovacuum": "off"}, data=_in_memory())
            )
            self._clusters[major] = cluster
        return self._clusters[major]

    @contextmanager
    def database(self, version: ImmichVersion = "3.1.0", major: int = NEWEST) -> Iterator[str]:
        """The name of a new database with the tables of one Immich version; dropped at the end."""
        name = self._create(version, major)
        try:
            yield name
        finally:
            self._drop(name, major)

    @contextmanager
    def emptied(self, version: ImmichVersion) -> Iterator[str]:
        """The name of a database of the newest PostgreSQL where other tests may have been.

        Nothing is left of them but our schema, perhaps. Much sooner there than a new one.
        """
        idle, cluster = self._idle[version], self.cluster()
        if idle:
            database = idle.pop()
        else:
            name = self._create(version, NEWEST)
            connection = self._stack.enter_context(psycopg.connect(cluster.url(name), autocommit=True))
            database = _Used(name, connection)
        if version not in self._shapes:
            self._shapes[version] = _one(database.connection, _SHAPE)
        try:
            yield database.name
        finally:
            if _emptied(database, self._shapes[version], cluster.url(database.name)):
                idle.append(database)
            else:
                database.connection.close()
                self._drop(database.name, NEWEST)

    def _create(self, version: ImmichVersion, major: int) -> str:
        cluster, name = self.cluster(major), f"test_{next(self._numbers)}"
        asyncio.run(execute(cluster.url(), f"create database {name} template {self._template(version, major)}"))
        return name

    def _template(self, version: ImmichVersion, major: int) -> str:
        """The database with the tables of one Immich version, made when it is first asked for."""
        name = f"immich_{version.replace('.', '_')}"
        if (major, version) not in self._templates:
            asyncio.run(execute(self.cluster(major).url(), f"create database {name}"))
            asyncio.run(_fill(self.cluster(major).url(name), version))
            self._templates.add((major, version))
        return name

    def _drop(self, name: str, major: int) -> None:
        kept.end(self.cluster(major).url(name))
        asyncio.run(execute(self.cluster(major).url(), f"drop database {name} with (force)"))
