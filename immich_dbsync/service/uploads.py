"""Row 1: sends files to Immich and ties their paths to the assets that come of it."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import structlog
import xxhash

from immich_dbsync.disk.at import stat_of
from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import BLOCK
from immich_dbsync.disk.root import Root
from immich_dbsync.immich import api
from immich_dbsync.immich.library import Library
from immich_dbsync.model import AssetId, Content, OwnerId, Record, RelPath, Stat, Status
from immich_dbsync.store.records import Deed, Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    """One content to upload: the records of every path that holds it, the one to read first."""

    records: tuple[Record, ...]

    @property
    def content(self) -> Content:
        """What all the paths hold."""
        return self.records[0].content


class Sender(Protocol):
    """The part of an owner's sync that an upload needs."""

    owner: OwnerId
    key: str
    root: Root
    store: Store
    library: Library
    server: api.Server


async def send(sender: Sender, job: Job) -> bool:
    """Upload the content, verify it, tie its paths; False where the file is not as it was and must be looked at anew.

    Raises ApiError as the server answers. Abandoned at any point, the next start finds the content in Immich, or not,
    by its checksum.
    """
    source = job.records[0]
    try:
        uploaded, intact = await _transfer(sender, source)
    except (FileNotFoundError, NotTaken, ChangedWhileRead):
        return False
    if not intact:
        await _take_back(sender, source.path, uploaded)
        return False
    assets = await sender.library.assets(sender.owner, [uploaded.asset_id], [])
    asset = assets.get(uploaded.asset_id)
    if asset is None or asset.status is not Status.ACTIVE:
        return False  # deleted meanwhile, or a duplicate of one in the trash, of which the answer gives no hint
    if asset.sha1 != source.content.sha1:
        problem = "Immich stored other bytes than were sent; look at its storage"
        await sender.store.upsert(sender.owner, [_with(record, None, problem) for record in job.records])
        await sender.store.remember(sender.owner, [Deed("refused", problem, source.path, asset.id)])
        log.error("upload.corrupted", owner=str(sender.owner), path=source.path, asset=str(asset.id))
        return False
    await sender.store.upsert(sender.owner, [_with(record, asset.id, None) for record in job.records])
    why = "Immich had it already" if uploaded.duplicate else "new in the folder"
    await sender.store.remember(sender.owner, [Deed("upload", why, r.path, asset.id) for r in job.records])
    log.info(
        "file.uploaded", owner=str(sender.owner), path=source.path, asset=str(asset.id), duplicate=uploaded.duplicate
    )
    return True


async def refuse(sender: Sender, job: Job, problem: str) -> None:
    """Immich does not take this file: note why, so that it is not sent again before it changes."""
    await sender.store.upsert(sender.owner, [_with(record, None, problem) for record in job.records])
    await sender.store.remember(sender.owner, [Deed("refused", problem, record.path) for record in job.records])
    log.warning("upload.refused", owner=str(sender.owner), path=job.records[0].path, reason=problem)


async def _transfer(sender: Sender, source: Record) -> tuple[api.Uploaded, bool]:
    """Send one file's bytes; also whether file and bytes were the recorded ones from beginning to end."""
    fd, before = await asyncio.to_thread(sender.root.open_file, source.path)
    try:
        if before != source.stat:
            raise ChangedWhileRead(source.path)
        digest = xxhash.xxh3_128()
        name = source.path.rpartition(b"/")[2]
        upload = api.Upload(name, before.size, before.mtime_ns, source.content.sha1)
        uploaded = await sender.server.upload(sender.key, upload, _body(fd, source.path, before, digest))
        after = stat_of(os.fstat(fd))
    finally:
        os.close(fd)
    # A duplicate may be answered before the body was read.
    whole = uploaded.duplicate or digest.digest() == source.content.xxh3
    return uploaded, whole and after.same_file(before)  # a rename or chmod meanwhile moves the ctime alone


async def _body(fd: int, path: RelPath, stat: Stat, digest: xxhash.xxh3_128) -> AsyncIterator[bytes]:
    """Exactly ``stat.size`` bytes, or ChangedWhileRead, which breaks off the request: nothing is stored then."""
    offset = 0
    while offset < stat.size:
        block = await asyncio.to_thread(os.pread, fd, min(BLOCK, stat.size - offset), offset)
        if not block:
            raise ChangedWhileRead(path)
        digest.update(block)
        offset += len(block)
        yield block


async def _take_back(sender: Sender, path: RelPath, uploaded: api.Uploaded) -> None:
    """The file changed while it was sent: what Immich has now is neither its old nor its new content."""
    log.info("upload.changed_meanwhile", owner=str(sender.owner), path=path, asset=str(uploaded.asset_id))
    records = await sender.store.records_of_view(sender.owner, [], [uploaded.asset_id], [], [])
    tied = any(record.asset_id == uploaded.asset_id for record in records.values())  # to another path, meanwhile
    if not uploaded.duplicate and not tied:
        await sender.store.request_trash(sender.owner, [uploaded.asset_id])
        await sender.server.trash(sender.key, [uploaded.asset_id])
        why = "the file changed while it was uploaded"
        await sender.store.remember(sender.owner, [Deed("trash", why, path, uploaded.asset_id)])


def _with(record: Record, asset_id: AssetId | None, problem: str | None) -> Record:
    return Record(record.path, record.stat, record.content, asset_id, record.racy, problem)
