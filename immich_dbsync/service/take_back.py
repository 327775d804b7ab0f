"""Takes back what was sent to Immich for a file that left before its record could be tied to the asset.

An upload may be carried out though its answer is lost, the service ends, or the file changes or goes meanwhile. The
content then has an asset that nobody asked for any more, and no record that its deletion could be told by.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from enum import Enum, auto

import structlog

from immich_dbsync.disk.marker import Health
from immich_dbsync.immich import api
from immich_dbsync.model import Asset, AssetId, Policy, Record, RelPath, Stat, Status
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.requests import batches, send_split
from immich_dbsync.store.records import Deed, Sent

log = structlog.get_logger()

_SOON_S = 10.0  # for which what is undecided counts as under way; it may last, as with a file that can't be read


class _Place(Enum):
    """What is at the path whose content was sent."""

    EMPTY = auto()  # no file and no record: it was deleted
    ANOTHER = auto()  # a file or record of another content: it was overwritten
    UNDECIDED = auto()  # a file that may be what was sent


async def take_back(sync: OwnerSync) -> bool:
    """See to what was sent and has no record; False where some of it has to be looked at again.

    Only when every file has been identified. Raises ApiError as the server answers; then what is left is tried again.
    """
    sent = await sync.store.unclaimed_sends(sync.owner)
    if not sent:
        return True
    assets = await sync.library.assets(sync.owner, [], [each.content.sha1 for each in sent])
    by_content = {asset.sha1: asset for asset in assets.values() if asset.status is Status.ACTIVE}
    over = [each.content.sha1 for each in sent if each.content.sha1 not in by_content]
    await sync.store.end_sends(sync.owner, over)
    active = [(each, by_content[each.content.sha1]) for each in sent if each.content.sha1 in by_content]
    places = await _places(sync, [each.path for each, _ in active])
    deleted = {pair[0].path: pair for pair in active if places[pair[0].path] is _Place.EMPTY}  # the last of each path
    overwritten = [pair for pair in active if places[pair[0].path] is _Place.ANOTHER]
    # The rest is for the decision table, as if it had been recorded before it was deleted.
    await sync.record_missing([_record(each, asset) for each, asset in deleted.values()])
    sync.hint(path for path, place in places.items() if place is _Place.UNDECIDED)
    return await _trash_all(sync, overwritten) and len(deleted) + len(overwritten) == len(active)


def _record(sent: Sent, asset: Asset) -> Record:
    """The record that the sent file would have. No file has inode 0."""
    return Record(sent.path, Stat(sent.size, 0, 0, 0), sent.content, asset.id)


async def _places(sync: OwnerSync, paths: Collection[RelPath]) -> dict[RelPath, _Place]:
    records = await sync.store.records_at(sync.owner, paths)
    places: dict[RelPath, _Place] = {}
    for path in paths:
        record = records.get(path)
        try:
            stat = await asyncio.to_thread(sync.root.stat, path)
        except OSError:  # under a mount point, say: what is there can't be told now
            places[path] = _Place.UNDECIDED
            continue
        if path in sync.queues.uploading or path in sync.queues.to_restore:
            places[path] = _Place.UNDECIDED
        elif stat is None:
            places[path] = _Place.EMPTY if record is None else _Place.ANOTHER
        else:
            as_recorded = record is not None and record.stat == stat and not record.racy
            places[path] = _Place.ANOTHER if as_recorded else _Place.UNDECIDED
    return places


async def _trash_all(sync: OwnerSync, overwritten: Sequence[tuple[Sent, Asset]]) -> bool:
    """Trash the assets of what was overwritten, as row 9 does with an edited file's; False where that has to wait."""
    if not overwritten:
        return True
    active, trash_enabled = await sync.library.active(sync.owner), await sync.library.trash_enabled()
    if not active or await sync.parts.observer.health() is not Health.OK:
        return False
    kept = [each.content.sha1 for each, asset in overwritten if _kept(sync, each.path, asset) or not trash_enabled]
    await sync.store.end_sends(sync.owner, kept)
    wanted = {asset.id: each for each, asset in overwritten if each.content.sha1 not in kept}
    for ids in batches(list(wanted), api.BATCH):
        await _trash(sync, {asset: wanted[asset] for asset in ids})
    return True


def _kept(sync: OwnerSync, path: RelPath, asset: Asset) -> bool:
    """Whether the asset would stay if its recorded file had been deleted: row 13."""
    rules = sync.parts.rules
    limit = rules.delete_threshold_ns
    old = limit is not None and asset.created_ns <= time.time_ns() - limit
    return old or asset.hidden or asset.protected or rules.policies.of(path) is not Policy.MIRROR


async def _trash(sync: OwnerSync, unwanted: dict[AssetId, Sent]) -> None:
    # Should a file of that content turn up after all, this brings its asset back.
    await sync.store.request_trash(sync.owner, unwanted.keys())
    sync.queues.requesting |= unwanted.keys()
    try:
        refused: Collection[object] = await send_split(lambda part: sync.server.trash(sync.key, part), list(unwanted))
    finally:
        sync.queues.requesting -= unwanted.keys()
    done = [asset for asset in unwanted if asset not in refused]
    await sync.store.end_requests(sync.owner, unwanted.keys() - {*done})
    await sync.store.end_sends(sync.owner, [each.content.sha1 for each in unwanted.values()])
    why = "its file was overwritten while it was sent"
    await sync.store.remember(sync.owner, [Deed("trash", why, unwanted[asset].path, asset) for asset in done])
    for asset in done:
        path = unwanted[asset].path
        log.info("asset.trashed", owner=str(sync.owner), path=path, asset=str(asset), why=why)
    await sync.look_after_trash(done)


class TakeBack:
    """Does it when there may be something to take back, and again where that could not be told or done."""

    def __init__(self, sync: OwnerSync) -> None:
        self._sync = sync
        self._tries = 0
        self._since: float | None = None  # monotonic: when something was left undecided first

    async def once(self) -> None:
        """Take back what there is to take back."""
        sync = self._sync
        sync.unclaimed, sync.claiming = False, True
        failed = False
        try:
            done = await take_back(sync)
        except api.ApiError as error:
            done, failed = False, True
            log.warning("request.failed", owner=str(sync.owner), path=None, reason=str(error))
            if isinstance(error, api.Unavailable):
                sync.parts.gate.report(error)
        now = time.monotonic()
        if done:
            self._tries, self._since = 0, None
            sync.claiming = False
        else:
            self._since = now if self._since is None else self._since
            sync.claiming = not failed and now - self._since < _SOON_S
            asyncio.get_running_loop().call_later(sync.todo.pause(self._tries), sync.look_for_unclaimed)
            self._tries += 1
