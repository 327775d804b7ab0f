"""The loops that work off an owner's queues of uploads and requests. Each has its paths looked at again after."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from immich_dbsync.core.actions import Restore, Trash, Why
from immich_dbsync.core.guards import FOLDER_MIN, WINDOW_S
from immich_dbsync.core.view import View
from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import is_racy
from immich_dbsync.immich import api
from immich_dbsync.metrics import TRASH
from immich_dbsync.model import AssetId, Direction, Record, RelPath, Status
from immich_dbsync.service import uploads
from immich_dbsync.service.hashing import WORKERS, Hashing
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.queues import Job, Unread
from immich_dbsync.service.requests import KeyedRequest, batches, send_split
from immich_dbsync.store.records import Deed, Sent

log = structlog.get_logger()
T = TypeVar("T")

_AFTERWARDS_S = 0.5  # until what was uploaded is looked at again: at least, and at most twice that
_REQUEST_PATHS = 500  # paths looked at for one request
_PASS_S = 0.05  # between two looks whether a pass of deletions is whole


class Workers:
    """Works off the queues of one owner's sync until cancelled."""

    def __init__(self, sync: OwnerSync, *, slots: asyncio.Semaphore, hashers: ThreadPoolExecutor) -> None:
        """All owners share ``slots``, for uploads beside one that each has for itself; ``hashers`` are this owner's."""
        self._sync = sync
        self._slots = slots
        self._hashing = Hashing(sync, hashers)
        self._problems: dict[str, str | None] = {}

    def start(self, group: asyncio.TaskGroup, *, uploads_at_once: int) -> None:
        """Start all loops as tasks of ``group``."""
        for _ in range(WORKERS):
            group.create_task(self._hashing.identify_forever())
        # One of the owner's own, so that another's large files do not keep theirs waiting.
        group.create_task(self._upload_forever(asyncio.Semaphore()))
        for _ in range(uploads_at_once - 1):
            group.create_task(self._upload_forever(self._slots))
        group.create_task(self._trash_forever())
        group.create_task(self._restore_forever())

    # --- uploads ---

    async def _upload_forever(self, slots: asyncio.Semaphore) -> None:
        sync = self._sync
        while True:
            job = await sync.queues.to_upload.get()
            try:
                async with self._failures(job.paths):
                    await sync.queues.quota_used_up.wait()
                    await self._ready()
                    async with slots:
                        await self._upload(job)
            finally:
                sync.uploaded(job)

    async def _upload(self, job: Job | Unread) -> None:
        paths = job.paths
        try:
            tied = await uploads.send(self._sync, job)
        except api.FileRefused as error:
            await self._refuse(job, str(error))
            return
        await self._set_problem("key", None)
        await self._set_problem("quota", None)
        if not tied:
            if paths[0] in self._sync.known.identified:
                self._sync.hint(paths)  # as a file that was hashed
            else:
                self._sync.todo.retry(paths)
            return
        self._sync.todo.forget_failures(paths)
        self._hashing.sent(job)
        # Whatever happened to files and asset meanwhile is seen then, in one look for all of a half second.
        self._sync.hint(paths, after=2 * _AFTERWARDS_S - time.monotonic() % _AFTERWARDS_S)

    async def _refuse(self, job: Job | Unread, problem: str) -> None:
        """Note why Immich does not take a file: what it holds has to be known, to know when it is another."""
        sync = self._sync
        if isinstance(job, Unread):
            try:
                hashed = await self._hashing.both(job.path)
            except (FileNotFoundError, ChangedWhileRead, NotTaken):
                sync.hint(job.paths)
                return
            racy = is_racy(hashed.stat, hashed.started_ns)
            job = Job((Record(job.path, hashed.stat, hashed.content, None, racy),))
        await uploads.refuse(sync, job, problem)

    # --- requests ---

    async def _restore_forever(self) -> None:
        sync = self._sync
        while True:
            await sync.queues.restore_wanted.wait()
            sync.queues.restore_wanted.clear()
            wanted, sync.queues.to_restore = sorted(sync.queues.to_restore), set()
            with sync.request_in_hand():
                await self._request_all(wanted)

    async def _trash_forever(self) -> None:
        sync = self._sync
        while True:
            await sync.queues.trash_wanted.wait()
            await self._whole_pass()
            sync.queues.trash_wanted.clear()
            wanted, sync.queues.to_trash = sync.queues.to_trash, {}
            asked = sorted(path for path, approved in wanted.items() if not approved)
            with sync.request_in_hand():
                why = await sync.guard.judge(Direction.FOLDER, asked) if asked else None
                if why is not None:
                    await sync.hold_back(asked, why)
                    wanted = {path: approved for path, approved in wanted.items() if approved}
                await self._request_all(sorted(wanted))

    async def _request_all(self, wanted: Sequence[RelPath]) -> None:
        for paths in batches(wanted, _REQUEST_PATHS):
            async with self._failures(paths):
                await self._ready()
                await self._request(paths)

    async def _whole_pass(self) -> None:
        """Return when deletions that belong together are all known, so that they can be judged as a whole.

        A few are not waited for. Of many, as when a folder is emptied, the last is found missing later than the first.
        """
        sync = self._sync
        last = time.monotonic() + WINDOW_S
        while time.monotonic() < last:
            undecided = sync.todo.waiting_in_grace()
            count = undecided + len(sync.queues.to_trash)
            many = count >= FOLDER_MIN or not sync.guard.few(Direction.FOLDER, count)
            if not (sync.known.scanning or (many and (undecided or sync.looking()))):
                return
            await asyncio.sleep(_PASS_S)

    async def _request(self, paths: Collection[RelPath]) -> None:
        """Ask for what the last look still wants: trash first, then restore."""
        sync = self._sync
        view, plan = await sync.last_look(paths)
        trash = [action for action in plan if isinstance(action, Trash)]
        restore = [action for action in plan if isinstance(action, Restore)]
        actions: list[Trash | Restore] = [*trash, *restore]
        ids = {action.asset_id for action in actions}
        sync.queues.requesting |= ids
        try:
            done = {*await self._trash(trash), *await self._restore(view, restore)}
            await self._set_problem("key", None)
        finally:
            sync.queues.requesting -= ids
        for action in actions:
            asked = action.paths if isinstance(action, Trash) else (action.path,)
            if action.asset_id in done:
                sync.todo.forget_failures(asked)
                sync.hint(asked)
            else:
                sync.dispatch.leave(asked, Why.NOT_ALLOWED)
                sync.todo.retry(asked)
        trashed = {action.asset_id for action in trash} & done
        # What became of a still decides about its video's files.
        live = {key for key in done if (asset := view.assets.get(key)) is not None and asset.video_id is not None}
        await sync.look_after_trash(trashed | live)

    async def _trash(self, actions: Sequence[Trash]) -> list[AssetId]:
        """Row 11: trash these assets and end their records; returns those that Immich trashed."""
        if not actions:
            return []
        sync = self._sync
        gone = {action.asset_id: action.paths for action in actions}
        await sync.store.request_trash(sync.owner, gone.keys())
        done = await self._send(sync.server.trash, list(gone))
        if refused := gone.keys() - {*done}:
            await sync.store.end_requests(sync.owner, refused)
        await sync.store.drop(sync.owner, [path for asset in done for path in gone[asset]], tied_to=done)
        why, what = "the file was deleted from the folder", [(path, asset) for asset in done for path in gone[asset]]
        await self._remember("trash", why, what)
        for path, asset in what:
            log.info("asset.trashed", owner=str(sync.owner), path=path, asset=str(asset), why=why)
        sync.guard.note(
            Direction.FOLDER, [p for a in actions if a.asset_id in done and not a.approved for p in a.paths]
        )
        now = time.monotonic()
        for path, _ in what:
            if (since := sync.known.gone_since.pop(path, None)) is not None:
                TRASH.observe(now - since)
        return done

    async def _restore(self, view: View, actions: Sequence[Restore]) -> list[AssetId]:
        """Row 3: restore these assets and tie their paths; returns those that Immich restored."""
        if not actions:
            return []
        sync = self._sync
        for action in actions:
            size = view.files[action.path].stat.size
            await sync.store.begin_send(sync.owner, Sent(action.path, action.content, size))
        sync.unclaimed = True
        await self._send(sync.server.restore, sorted({action.asset_id for action in actions}))
        # A row at `deleted` answers 200 and stays deleted (seen): only the row tells.
        assets = await sync.library.assets(sync.owner, [action.asset_id for action in actions], [])
        done = [asset.id for asset in assets.values() if asset.status is Status.ACTIVE]
        await sync.store.end_requests(sync.owner, done)
        back = [action for action in actions if action.asset_id in done]
        await sync.tie_restored(view, back)
        why, what = "the picture came back to the folder", [(action.path, action.asset_id) for action in back]
        await self._remember("restore", why, what)
        for path, asset in what:
            log.info("asset.restored", owner=str(sync.owner), path=path, asset=str(asset), why=why)
        return done

    async def _send(self, request: KeyedRequest, ids: Sequence[AssetId]) -> list[AssetId]:
        """Send one kind of request for these assets; returns those that were not refused."""
        done: list[AssetId] = []
        for batch in batches(ids, api.BATCH):
            refused = set(await send_split(lambda part: request(self._sync.key, part), batch))
            done += [asset for asset in batch if asset not in refused]
        return done

    async def _remember(self, action: str, why: str, what: Sequence[tuple[RelPath, AssetId]]) -> None:
        await self._sync.store.remember(self._sync.owner, [Deed(action, why, path, asset) for path, asset in what])

    # --- what may go wrong ---

    async def _ready(self) -> None:
        """Return when the key may be tried and the server answers."""
        await self._sync.queues.key_refused.wait()
        await self._sync.parts.gate.wait()

    @asynccontextmanager
    async def _failures(self, paths: Sequence[RelPath]) -> AsyncIterator[None]:
        """Turn the server's failures into a later try of these paths, and into what `status` tells."""
        sync = self._sync
        try:
            yield
        except api.Unavailable as error:
            log.warning("request.failed", owner=str(sync.owner), path=paths[0], reason=str(error))
            sync.parts.gate.report(error)
            # Later each time all the same: the gate is shut for everybody, and it may be this file that spoils it.
            sync.todo.retry(paths, at_least=error.retry_after or 0.0)
        except api.KeyRejected as error:
            sync.queues.key_refused.begin()
            advice = "Make a new key with asset.upload, asset.delete and asset.copy."
            await self._set_problem("key", f"Immich refuses the API key: {error}. {advice}")
            sync.hint(paths, after=sync.queues.key_refused.seconds)
        except api.QuotaExceeded as error:
            sync.queues.quota_used_up.begin()
            advice = "Raise the user's quota or free space."
            await self._set_problem("quota", f"Immich takes no more uploads: {error} {advice}")
            sync.hint(paths, after=sync.queues.quota_used_up.seconds)
        except OSError as error:  # of the file: leased by another process, on a disk that fails
            log.warning("file.not_taken", owner=str(sync.owner), path=paths[0], reason=str(error))
            sync.todo.retry(paths)

    async def _set_problem(self, kind: str, problem: str | None) -> None:
        if problem == self._problems.get(kind):
            return
        self._problems[kind] = problem
        await self._sync.store.set_problem(self._sync.owner, kind, problem)
        if problem is not None:
            log.error("owner.paused", owner=str(self._sync.owner), reason=problem)
