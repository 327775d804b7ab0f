"""Everything that a demo or an acceptance test plays on: PostgreSQL, a stand-in Immich, a sync root, the service."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.tables import ImmichVersion, create_tables

PERMISSIONS = ("asset.upload", "asset.delete", "asset.copy")
"""What the service's API key needs."""

_STOP_S = 15.0  # the service promises to end within ten seconds


@dataclass
class Stage:
    """A user with a folder and an API key, and all that belongs to them. ``process`` is the service, once started."""

    database_url: str
    connection: "asyncpg.Connection[asyncpg.Record]"
    immich: StandIn
    user: UUID
    key: str
    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """The user's root."""
        return self.home / "sync" / str(self.user)

    @property
    def log(self) -> Path:
        """Where the service's log goes."""
        return self.home / "service.log"

    def variables(self) -> dict[str, str]:
        """The settings with which any command of ours finds this stage."""
        return {
            "IMMICH_DBSYNC_DATABASE_URL": self.database_url,
            "IMMICH_DBSYNC_SERVER_URL": self.immich.url,
            "IMMICH_DBSYNC_SYNC_ROOT": str(self.home / "sync"),
            "IMMICH_DBSYNC_API_KEYS": self.key,
            **self.settings,
        }

    def environment(self) -> dict[str, str]:
        """The environment in which any command of ours finds this stage."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("IMMICH_", "DB_"))}
        return inherited | self.variables()

    def start(self) -> None:
        """Start the service as a process of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "immich_dbsync", "run"], env=self.environment(), stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End the service as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask the service to end, and wait; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(_STOP_S)


@asynccontextmanager
async def staged(
    database_url: str, *, version: ImmichVersion, settings: dict[str, str] | None = None
) -> AsyncIterator[Stage]:
    """A stage on a database that has Immich's tables; all but the database is gone afterwards."""
    async with AsyncExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="dbsync-home-"))
        stack.callback(shutil.rmtree, home)
        connection = await asyncpg.connect(database_url)
        stack.push_async_callback(connection.close)
        immich = await stack.enter_async_context(StandIn(database_url, version=version, media=home / "media"))
        user = await create_user(connection, email="ada@example.org", name="Ada")
        key = await create_api_key(connection, user, PERMISSIONS, "immich-dbsync")
        stage = Stage(database_url, connection, immich, user, key, home, settings or {})
        stage.folder.mkdir(parents=True)
        try:
            yield stage
        finally:
            if stage.process is not None and stage.process.poll() is None:
                await asyncio.to_thread(stage.stop)


@asynccontextmanager
async def embedded(*, version: ImmichVersion, settings: dict[str, str] | None = None) -> AsyncIterator[Stage]:
    """A stage on a PostgreSQL server of its own."""
    with Cluster() as cluster:
        connection = await asyncpg.connect(cluster.url())
        try:
            await create_tables(connection, version)
        finally:
            await connection.close()
        async with staged(cluster.url(), version=version, settings=settings) as stage:
            yield stage
