"""Takes back what was sent to Immich for a file that left before its record could be tied to the asset.

An upload may be carried out though its answer is lost, the service ends, or the file changes or goes meanwhile. The
content then has an asset that nobody asked for any more, and no record that its deletion could be told by.
"""

import asyncio
import time
from collections.abc import Collection

import structlog

from immich_dbsync.disk.marker import Health
from immich_dbsync.immich import api
from immich_dbsync.model import Asset, Direction, Policy, RelPath, Sha1, Status
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.requests import batches, send_split
from immich_dbsync.store.records import Deed

log = structlog.get_logger()

_UNDECIDED_S = 1.0  # until another look whether a file that is there now is tied


async def take_back(sync: OwnerSync) -> None:
    """Trash the assets of what was sent and is not in the folder any more. Only when every file has been identified.

    Raises ApiError as the server answers; then what is left is tried again.
    """
    unclaimed = await sync.store.unclaimed_sends(sync.owner)
    if not unclaimed or sync.known.unfamiliar is not None or await sync.parts.observer.health() is not Health.OK:
        return
    active, trash_enabled = await sync.library.circumstances(sync.owner)
    if not (active and trash_enabled):
        return
    assets = await sync.library.assets(sync.owner, [], [sha1 for sha1, _ in unclaimed])
    by_content = {asset.sha1: asset for asset in assets.values()}
    undecided = await _undecided(sync, [path for _, path in unclaimed])
    wanted: dict[Sha1, tuple[RelPath, Asset]] = {}
    over: list[Sha1] = []
    for sha1, path in unclaimed:
        asset = by_content.get(sha1)
        if path in undecided:
            continue
        if asset is None or asset.status is not Status.ACTIVE or _kept(sync, path, asset):
            over.append(sha1)
        else:
            wanted[sha1] = path, asset
    if over:
        await sync.store.end_sends(sync.owner, over)
    if undecided:
        sync.hint(undecided)
        asyncio.get_running_loop().call_later(_UNDECIDED_S, sync.look_for_unclaimed)
    paths = [path for path, _ in wanted.values()]
    if paths and (why := await sync.guard.judge(Direction.FOLDER, paths)) is not None:
        log.warning("upload.not_taken_back", owner=str(sync.owner), files=len(paths), why=why.value)
        return
    for contents in batches(list(wanted), api.BATCH):
        await _trash(sync, {sha1: wanted[sha1] for sha1 in contents})


async def _undecided(sync: OwnerSync, paths: Collection[RelPath]) -> set[RelPath]:
    """Those that are being sent, or that hold a file which is not as recorded: it may be what was sent."""
    records = await sync.store.records_of_view(sync.owner, paths, [], [], [])
    undecided: set[RelPath] = set()
    for path in paths:
        stat, record = await asyncio.to_thread(sync.root.stat, path), records.get(path)
        as_recorded = stat is None or (record is not None and record.stat == stat and not record.racy)
        if not as_recorded or path in sync.uploading or path in sync.to_restore:
            undecided.add(path)
    return undecided


def _kept(sync: OwnerSync, path: RelPath, asset: Asset) -> bool:
    """Whether the asset would stay if its recorded file had been deleted: row 13."""
    rules = sync.parts.rules
    limit = rules.delete_threshold_ns
    old = limit is not None and asset.created_ns <= time.time_ns() - limit
    return old or asset.hidden or asset.protected or rules.policies.of(path) is not Policy.MIRROR


async def _trash(sync: OwnerSync, unwanted: dict[Sha1, tuple[RelPath, Asset]]) -> None:
    ids = {asset.id: (sha1, path) for sha1, (path, asset) in unwanted.items()}
    # Should a file of that content turn up after all, this brings its asset back.
    await sync.store.request_trash(sync.owner, ids.keys())
    sync.requesting |= ids.keys()
    try:
        refused: Collection[object] = await send_split(lambda part: sync.server.trash(sync.key, part), list(ids))
    finally:
        sync.requesting -= ids.keys()
    done = [asset for asset in ids if asset not in refused]
    await sync.store.end_requests(sync.owner, ids.keys() - {*done})
    await sync.store.end_sends(sync.owner, list(unwanted))
    why = "its file left the folder while it was sent"
    await sync.store.remember(sync.owner, [Deed("trash", why, ids[asset][1], asset) for asset in done])
    sync.guard.note(Direction.FOLDER, [ids[asset][1] for asset in done])
    for asset in done:
        log.info("asset.changed", action="trash", owner=str(sync.owner), path=ids[asset][1], asset=str(asset), why=why)


class TakeBack:
    """Does it when there may be something to take back, and again after a failure."""

    def __init__(self, sync: OwnerSync) -> None:
        self._sync = sync
        self._failures = 0

    async def once(self) -> None:
        """Take back what there is to take back."""
        sync = self._sync
        sync.unclaimed = False
        try:
            await take_back(sync)
        except api.ApiError as error:
            log.warning("request.failed", owner=str(sync.owner), path=None, reason=str(error))
            if isinstance(error, api.Unavailable):
                sync.parts.gate.report(error)
            wait = sync.todo.pause(self._failures)
            self._failures += 1
            asyncio.get_running_loop().call_later(wait, sync.look_for_unclaimed)
        else:
            self._failures = 0
