"""What figures are measured on: PostgreSQL, libraries of Immich's, people with folders. All goes in the end."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.stage import PERMISSIONS
from immich_dbsync.demo.tables import ImmichVersion, create_tables
from immich_dbsync.store import install
from tests.bench import files
from tests.bench.files import Planned
from tests.bench.sizes import Sizes
from tests.databases import MAJORS, NEWEST, execute

VERSION: ImmichVersion = "3.1.0"
"""The Immich whose tables and answers everything is measured with."""

POSTGRES = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
    "jit": "on",
    "shared_buffers": "512MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "5GB",
    "wal_compression": "on",
    "random_page_cost": "1.2",
    "effective_io_concurrency": "200",
    "track_io_timing": "off",
}
"""As an administrator has Immich's PostgreSQL on an SSD: a commit is on the disk when it is answered."""

_END_ALL = (
    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname is not null"
)

Connection = psycopg.Connection[tuple[Any, ...]]
_TEMPLATE = "immich"
_SPARE = 1.3  # memory to files that are to stay in it


class NotEnough(Exception):
    """This machine has not what a figure needs; the message says what to do."""


@dataclass
class Person:
    """A user of Immich's with a folder and an API key; ``files`` is what lies in it."""

    id: UUID
    key: str
    root: Path
    files: list[Planned] = field(default_factory=list)


class Immich:
    """One database with Immich's tables, and the stand-in that serves it, in a process of its own."""

    def __init__(self, url: str, folder: Path, profiles: Path | None) -> None:
        self.url, self.folder, self.profiles = url, folder, profiles
        self.connect()
        self.server = ""
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "sync").mkdir(parents=True)
        self._requests: list[tuple[float, str]] = []
        self._requests_path = folder / "requests"
        self._requests_path.touch()
        self._requests_file = self._requests_path.open(encoding="ascii")

    def connect(self) -> None:
        """Open the connection (again): nobody may be connected to what becomes a template."""
        self.connection: Connection = psycopg.connect(self.url, autocommit=True)

    def person(self, name: str) -> Person:
        """A new user, with an empty folder."""

        async def create() -> tuple[UUID, str]:
            connection = await asyncpg.connect(self.url)
            try:
                user = await create_user(connection, email=f"{name}@example.org", name=name)
                return user, await create_api_key(connection, user, PERMISSIONS, "bench")
            finally:
                await connection.close()

        user, key = asyncio.run(create())
        root = self.folder / "sync" / str(user)
        root.mkdir()
        return Person(user, key, root)

    def serve(self) -> None:
        """Start the stand-in; it stores no bytes, so that it costs as little as may be."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.stand_in", self.url, str(self._requests_path)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.server = self._process.stdout.readline().decode().rpartition(" ")[2].strip()
        assert self.server, "the stand-in did not start"

    def requests(self) -> list[tuple[float, str]]:
        """Every request so far: the monotonic time at which it began, method and path."""
        new = (line.partition(" ") for line in self._requests_file.read().splitlines())  # each was written at once
        self._requests += [(int(at) / 1e9, what) for at, _, what in new]
        return self._requests

    def value(self, query: str, *arguments: object) -> Any:
        """The first column of a query's first row."""
        row = self.connection.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return row[0]

    def close(self) -> None:
        """End the stand-in. Folders stay until the end: ext4 makes files slowly where many were removed of late."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._requests_file.close()
        self.connection.close()


class Ground:
    """Gives libraries, and keeps those that several figures share."""

    def __init__(
        self, stack: ExitStack, folder: Path, sizes: Sizes, families: Collection[str], profiles: Path | None
    ) -> None:
        self.folder, self.sizes, self.families, self._profiles = folder, sizes, families, profiles
        self._stack = stack
        self.over = False  # then the databases go with their server
        self.cluster = stack.enter_context(Cluster(MAJORS[NEWEST], settings=POSTGRES, data=folder))
        asyncio.run(self._template())
        self._kept: dict[object, Any] = {}
        self._folders: list[Path] = []

    async def _template(self) -> None:
        await execute(self.cluster.url(), f"create database {_TEMPLATE}")
        connection = await asyncpg.connect(self.cluster.url(_TEMPLATE))
        try:
            await create_tables(connection, VERSION)
        finally:
            await connection.close()

    @contextmanager
    def immich(self, name: str, *, template: str = _TEMPLATE) -> Iterator[Immich]:
        """A library of its own, empty or like ``template``, for as long as the block lasts."""
        how = "" if template == _TEMPLATE else "strategy file_copy"  # quicker for what is large
        asyncio.run(execute(self.cluster.url(), f"create database {name} template {template} {how}"))
        try:
            self._folders.append(self.folder / name)
            immich = Immich(self.cluster.url(name), self.folder / name, self._profiles)
            try:
                yield immich
            finally:
                immich.close()
        finally:
            if not self.over:
                asyncio.run(execute(self.cluster.url(), f"drop database {name} with (force)"))

    def kept(self, key: object, make: Callable[[ExitStack], Any]) -> Any:
        """What ``make`` made when it was first asked for; its contexts end with the run."""
        if key not in self._kept:
            self._kept[key] = make(self._stack)
        return self._kept[key]

    def remove_folders(self) -> None:
        """Remove what libraries had on the disk."""
        for each in self._folders:
            files.remove(each)

    @contextmanager
    def beside(self, make: "Callable[[Ground], object]") -> Iterator[None]:
        """Have something made while the block waits for time to pass; both have ended afterwards."""
        with ThreadPoolExecutor(1) as thread:
            making = thread.submit(make, self)
            try:
                yield
                making.result()
            except BaseException:
                while not making.done():  # it ends with its connection
                    asyncio.run(execute(self.cluster.url(), _END_ALL))
                    wait([making], timeout=0.1)
                raise

    def require_memory(self, size: int) -> None:
        """Raise NotEnough where so many bytes would not stay in the page cache."""
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        if available < size * _SPARE:
            raise NotEnough(
                f"{size / 1e9:.1f} GB of files have to stay in the page cache, and {available / 1e9:.1f} GB of memory"
                " are available: stop what else runs, or give a --scale below 1"
            )

    def server_version(self) -> str:
        """PostgreSQL's."""
        with psycopg.connect(self.cluster.url()) as connection:
            row = connection.execute("show server_version").fetchone()
        assert row is not None
        return str(row[0])


@contextmanager
def ground(
    sizes: Sizes, families: Collection[str], *, parent: Path | None = None, profiles: Path | None = None
) -> Iterator[Ground]:
    """Start PostgreSQL with its data in a new folder in ``parent``; both are gone when the block ends.

    ``families``: what is to be measured. ``profiles``: a folder that gets a profile of each run of the service.
    """
    folder = Path(tempfile.mkdtemp(prefix="dbsync-bench-", dir=parent))
    try:
        folder.chmod(0o711)  # PostgreSQL's user has to pass
        with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
            made = Ground(stack, folder, sizes, families, profiles)
            stack.callback(thread.submit, made.remove_folders)  # while PostgreSQL's data goes
            try:
                yield made
            finally:
                made.over = True
    finally:
        folder.rmdir()


# --- filling ---

_SEED = """
create unlogged table bench_seed (
  path bytea, size bigint, mtime_ns bigint, ctime_ns bigint, inode bigint, xxh3 bytea, sha1 bytea, asset_id uuid
)
"""

# Any updateId will do, and what Immich has by default takes a third of the whole statement.
_ASSETS = """
insert into asset (id, checksum, "checksumAlgorithm", "fileCreatedAt", "fileModifiedAt", "localDateTime",
  "originalFileName", "originalPath", "ownerId", type, "updateId")
select asset_id, sha1, 'sha1', t, t, t, regexp_replace(convert_from(path, 'UTF8'), '.*/', ''),
  convert_from(path, 'UTF8'), %(owner)s, 'IMAGE', asset_id
from bench_seed, to_timestamp(1700000000) t
"""

_EXIF = """
insert into asset_exif ("assetId", "fileSizeInByte", "updateId") select asset_id, size, asset_id from bench_seed
"""

_RECORDS = """
insert into immich_dbsync_v1.records
  (owner_id, path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id)
select %(owner)s, path, size, mtime_ns, ctime_ns, inode, false, xxh3, sha1, asset_id from bench_seed
"""

_INDEXES = """
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
from pg_index i
where i.indrelid in (
    to_regclass('public.asset'), to_regclass('public.asset_exif'), to_regclass('immich_dbsync_v1.records'))
  and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
"""
_MANY = 200_000  # rows from which on indexes are better made afterwards
_OURS = re.compile(r"records|checksum|livePhotoVideoId|ownerId")  # and only those that statements of ours go along
_SOME = 5_000  # files that keep the disk busy for a while


def _insert(url: str, person: Person, statements: Sequence[str], indexes: Sequence[str]) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("set local session_replication_role = replica")  # the owner is there, each row need not ask
        for statement in statements:
            connection.execute(statement.encode(), {"owner": person.id})
        for definition in indexes:
            connection.execute(definition.encode())


def fill(
    immich: Immich,
    person: Person,
    wanted: Sequence[Planned],
    *,
    records: bool = False,
    on_disk: bool = True,
    unread: bool = False,
) -> None:
    """Make these files in the person's folder, and their assets; with ``records`` as if they had been synced before.

    Without ``on_disk`` the assets alone; ``unread`` as in `files.make`.
    """
    connection = immich.connection
    if records:
        install.install(immich.url)
    connection.execute("drop table if exists bench_seed")
    connection.execute(_SEED)
    with connection.cursor() as cursor, cursor.copy("copy bench_seed from stdin") as copy:
        for part in files.make(person.root if on_disk else None, wanted, unread=unread):
            copy.write(part)
    person.files += wanted
    indexes = connection.execute(_INDEXES).fetchall() if len(wanted) >= _MANY else []
    for name, _ in indexes:
        connection.execute(f"drop index {name}".encode())
    needed = [definition for _, definition in indexes if _OURS.search(definition)]
    ours = [definition for definition in needed if " ON immich_dbsync_v1." in definition]
    with ThreadPoolExecutor(1) as thread:
        beside = thread.submit(_insert, immich.url, person, [*([_RECORDS] if records else []), _EXIF], ours)
        _insert(immich.url, person, [_ASSETS], [definition for definition in needed if definition not in ours])
        beside.result()
    connection.execute("drop table bench_seed")
    connection.execute(f"vacuum analyze asset, asset_exif{', immich_dbsync_v1.records' * records}".encode())
    if len(wanted) >= _SOME:  # have the disk finish what was begun, as it would have long since
        connection.execute("checkpoint")
        os.sync()
