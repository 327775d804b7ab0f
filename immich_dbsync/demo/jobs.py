"""What Immich does after it has answered: it reads metadata, and deletes what was marked for deletion."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from uuid import UUID

import asyncpg

from immich_dbsync import sql
from immich_dbsync.demo.people import REMOVAL

_LOG = logging.getLogger(__name__)
_METADATA_STEPS = ("metadata_read", "exif_read", "thumbnail_made")
_METADATA_STEP_S = 0.005


class Jobs:
    """The queue of one stand-in. ``delay_s`` lies between the end of a request and the first row that goes.

    Real servers took 15 to 40 ms for one row and 0.8 to 1 s for 200.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, delay_s: float, media: Path | None) -> None:
        self.delay_s = delay_s
        self._pool = pool
        self._media = media
        self._deletions: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()

    async def empty_trash(self) -> None:
        """Queue the deletion of every row, of whichever owner, that is now at ``deleted``.

        What becomes of a row's status from here on makes no difference: its job does not look again.
        """
        rows = await self._pool.fetch(sql.block("demo/server", "to_delete"))
        if rows:
            self._start(self._delete_all([row["id"] for row in rows]), self._deletions)

    def metadata(self, asset_id: UUID) -> None:
        """Queue the jobs that follow an upload: they update the row several times, one statement each."""
        self._start(self._read_metadata(asset_id), self._others)

    def remove_user(self, user_id: UUID) -> None:
        """Queue the removal of a user with all that is theirs."""
        self._start(self._remove_user(user_id), self._deletions)

    async def idle(self) -> None:
        """Return when no deletion is queued or running."""
        while self._deletions:
            await asyncio.wait(set(self._deletions))

    async def close(self) -> None:
        """Cancel what is queued or running and wait until it has ended."""
        tasks = self._deletions | self._others
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(self._guarded(work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        """A job whose database went away is lost, as on a real server until its nightly round."""
        try:
            await work
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            _LOG.warning("a job of the stand-in failed: %s", error)

    async def _read_metadata(self, asset_id: UUID) -> None:
        for step in _METADATA_STEPS:
            await asyncio.sleep(_METADATA_STEP_S)
            await self._pool.execute(sql.block("demo/server", step), asset_id)

    async def _remove_user(self, user_id: UUID) -> None:
        await asyncio.sleep(self.delay_s)
        for step in REMOVAL:
            await self._pool.execute(sql.block("demo/server", step), user_id)

    async def _delete_all(self, ids: list[UUID]) -> None:
        await asyncio.sleep(self.delay_s)
        async with self._pool.acquire() as connection:
            for asset_id in ids:
                video = await self._delete(connection, asset_id)
                if video is not None:
                    self._start(self._delete_all([video]), self._deletions)

    async def _delete(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", asset_id: UUID
    ) -> UUID | None:
        """Delete one row in a statement of its own; the motion video that nothing else uses now, if any."""
        row = await connection.fetchrow(sql.block("demo/server", "for_deletion"), asset_id)
        if row is None:
            return None
        if row["stack_id"] is not None:
            await self._leave_stack(connection, asset_id, row)
        await connection.execute(sql.block("demo/server", "delete_asset"), asset_id)
        if row["libraryId"] is None:
            await connection.execute(sql.block("demo/server", "add_usage"), row["ownerId"], -(row["size"] or 0))
        if self._media is not None:
            remove_files(row["originalPath"], row["sidecar"])
        video: UUID | None = row["livePhotoVideoId"]
        if video is not None and not await connection.fetchval(sql.block("demo/server", "stills_of"), video):
            return video
        return None

    async def _leave_stack(
        self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", asset_id: UUID, row: asyncpg.Record
    ) -> None:
        """A stack of one is dissolved; a stack that loses its primary asset gets another."""
        is_primary = row["stack_primary"] == asset_id
        if len(row["stack_others"]) + (not is_primary) < 2:
            await connection.execute(sql.block("demo/server", "delete_stack"), row["stack_id"])
        elif is_primary:
            await connection.execute(sql.block("demo/server", "promote"), row["stack_id"], row["stack_others"][0])


def remove_files(*paths: str | None) -> None:
    """Remove the files that a row named, as far as they are there."""
    for path in paths:
        if path is not None:
            Path(path).unlink(missing_ok=True)
