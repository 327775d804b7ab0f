"""Rows 1 and 9: sends files to Immich, ties their paths to the assets that come of it, and replaces edited ones."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import structlog
import xxhash

from immich_dbsync.core.actions import Action, Replace
from immich_dbsync.disk import sidecars
from immich_dbsync.disk.at import stat_of
from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import BLOCK, Digests, Hashed, is_racy, xxh3_of
from immich_dbsync.disk.root import Root
from immich_dbsync.immich import api
from immich_dbsync.metrics import ARRIVAL
from immich_dbsync.model import Asset, AssetId, Record, RelPath, Stat, Status
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.queues import Job, Unread
from immich_dbsync.store.records import Deed, Sent

log = structlog.get_logger()


async def send(sync: OwnerSync, job: Job | Unread) -> bool:
    """Have the content in Immich, verify it, tie its paths; False where it must be looked at anew.

    Raises ApiError as the server answers. Abandoned at any point, the next start finds the content in Immich, or not,
    by its checksum.
    """
    if isinstance(job, Unread):
        return await send_unread(sync, job)
    if job.replaces is not None:
        return await _replace(sync, job, job.replaces)
    uploaded = await _upload(sync, job)
    return uploaded is not None and await _tie(sync, job.records, uploaded)


async def send_unread(sync: OwnerSync, unread: Unread) -> bool:
    """Row 1 for a file that is surely new: hash it while it is sent, verify it, tie its path; else False.

    What was hashed is then known to the next look. Raises as ``send``.
    """
    try:
        hashed, uploaded = await _transfer_unread(sync, unread)
    except (FileNotFoundError, NotTaken, ChangedWhileRead):
        return False
    source = Record(unread.path, hashed.stat, hashed.content, None, is_racy(hashed.stat, hashed.started_ns))
    tied = await _tie(sync, [source], uploaded)
    if not tied:
        sync.known.identified[unread.path] = hashed
    return tied


async def _tie(sync: OwnerSync, records: Sequence[Record], uploaded: api.Uploaded) -> bool:
    """Tie these paths to the asset that came of sending what they hold; False where it is not there, or holds else."""
    why = "Immich had it already" if uploaded.duplicate else "new in the folder"
    if not await sync.store.tie(sync.owner, records, uploaded.asset_id, why):
        await _stored(sync, records, uploaded)  # it says what is wrong
        return False
    if not uploaded.duplicate:
        ARRIVAL.observe(max(0.0, time.time() - records[0].stat.ctime_ns / 1e9))
    path, asset = records[0].path, str(uploaded.asset_id)
    log.info("file.uploaded", owner=str(sync.owner), path=path, asset=asset, duplicate=uploaded.duplicate)
    return True


async def _upload(sync: OwnerSync, job: Job) -> api.Uploaded | None:
    """Send the content; None where the file is not what it was."""
    source = job.records[0]
    ours = await sync.store.begin_send(sync.owner, Sent(source.path, source.content, source.stat.size))
    try:
        uploaded, intact = await _transfer(sync, source)
    except (FileNotFoundError, NotTaken, ChangedWhileRead):
        return None
    if uploaded.duplicate and ours:  # it was there before, by another way: not ours to take back
        await sync.store.end_sends(sync.owner, [source.content.sha1])
    if not intact:
        log.info("upload.changed_meanwhile", owner=str(sync.owner), path=source.path, asset=str(uploaded.asset_id))
        return None
    return uploaded


async def _stored(sync: OwnerSync, records: Sequence[Record], uploaded: api.Uploaded) -> Asset | None:
    """The active asset that came of an upload and holds what was sent; None where there is none."""
    assets = await sync.library.assets(sync.owner, [uploaded.asset_id], [])
    asset = assets.get(uploaded.asset_id)
    if asset is None or asset.status is not Status.ACTIVE:
        return None  # deleted meanwhile, or a duplicate of one in the trash, of which the answer gives no hint
    source = records[0]
    if asset.sha1 != source.content.sha1:
        problem = "Immich stored other bytes than were sent; look at its storage"
        await sync.store.upsert(sync.owner, [replace(record, problem=problem) for record in records])
        await sync.store.remember(sync.owner, [Deed("refused", problem, source.path, asset.id)])
        log.error("upload.corrupted", owner=str(sync.owner), path=source.path, asset=str(asset.id))
        return None
    return asset


async def refuse(sync: OwnerSync, job: Job, problem: str) -> None:
    """Immich does not take this file: note why, so that it is not sent again before it changes."""
    await sync.store.upsert(sync.owner, [replace(record, problem=problem) for record in job.records])
    await sync.store.remember(sync.owner, [Deed("refused", problem, record.path) for record in job.records])
    log.warning("upload.refused", owner=str(sync.owner), path=job.records[0].path, reason=problem)


# --- row 9 ---


async def _replace(sync: OwnerSync, job: Job, edit: Replace) -> bool:
    """Upload or restore the new content, copy to it what the old asset has, trash that, tie the path: in this order.

    Whatever is done before an interruption is found done by the next try, and the record comes last.
    """
    new = await _new_asset(sync, job, edit)
    if new is None:
        return False
    async with sync.queues.editing:
        return await _take_its_place(sync, job, edit, new)


async def _take_its_place(sync: OwnerSync, job: Job, edit: Replace, new: AssetId) -> bool:
    """All of an edit that follows the upload."""
    now = await sync.decide(edit.path)
    if not isinstance(now, Replace) or not _same(now, edit):
        return False
    if now.copy:
        try:
            await sync.parts.gate.wait()
            await sync.server.copy(sync.key, now.old, new)
        except api.NotPermitted as error:
            await _cannot_copy(sync, error)
            now = replace(now, trash_old=False, copy=False)
        except api.BatchRefused:
            return False  # the old asset is gone: then there is nothing to copy, and the next look says so
    trashed = now.trash_old and await _trash_old(sync, now.old)
    await sync.store.upsert(sync.owner, [replace(record, asset_id=new) for record in job.records])
    why = "edited; its old asset is in the trash" if trashed else "edited; its old asset stays"
    await sync.store.remember(sync.owner, [Deed("replace", why, edit.path, new)])
    log.info(
        "file.replaced",
        owner=str(sync.owner),
        path=edit.path,
        asset=str(new),
        old=str(now.old),
        copied=now.copy,
        trashed=trashed,
    )
    await sync.look_after_trash([now.old] if trashed else [])
    return True


def _same(now: Action | None, edit: Replace) -> bool:
    """Whether what is decided now is still this edit."""
    return isinstance(now, Replace) and (now.content, now.old) == (edit.content, edit.old)


async def _new_asset(sync: OwnerSync, job: Job, edit: Replace) -> AssetId | None:
    """The active asset of the new content: there already, restored, or uploaded."""
    there = [
        asset
        for asset in (await sync.library.assets(sync.owner, [], [job.content.sha1])).values()
        if asset.sha1 == job.content.sha1
    ]
    if not there:
        uploaded = await _upload(sync, job)
        stored = await _stored(sync, job.records, uploaded) if uploaded is not None else None
        return stored.id if stored is not None else None
    [asset] = there
    if asset.status is Status.TRASHED:
        # It may have been deleted since that was planned, by somebody who saw what an earlier try had sent.
        if not _same(await sync.decide(edit.path), edit):
            return None
        source = job.records[0]
        sync.queues.returning.add(asset.id)  # what went to quarantine from here on would come back
        try:
            await sync.store.begin_send(sync.owner, Sent(source.path, source.content, source.stat.size))
            # First, because what the request brings about is seen before its answer, which may be lost.
            await sync.store.supersede(sync.owner, [asset.id])
            await sync.server.restore(sync.key, [asset.id])
        except api.BatchRefused:
            return None
        finally:
            sync.queues.returning.discard(asset.id)
        await sync.store.end_requests(sync.owner, [asset.id])
        [asset] = (await sync.library.assets(sync.owner, [asset.id], [])).values() or [asset]
    return asset.id if asset.status is Status.ACTIVE else None


async def _trash_old(sync: OwnerSync, old: AssetId) -> bool:
    """Trash the asset of the content that was edited away; False where Immich refuses it."""
    await sync.store.request_trash(sync.owner, [old])
    sync.queues.requesting.add(old)
    try:
        await sync.parts.gate.wait()
        await sync.server.trash(sync.key, [old])
    except api.BatchRefused:  # in the locked folder, say
        await sync.store.end_requests(sync.owner, [old])
        return False
    finally:
        sync.queues.requesting.discard(old)
    return True


async def _cannot_copy(sync: OwnerSync, error: api.NotPermitted) -> None:
    """Say once that edited pictures leave their old assets where they are."""
    if not sync.known.may_copy:
        return
    sync.known.may_copy = False
    advice = (
        f"Edited pictures are uploaded, but their old versions stay in Immich, with their albums: {error}."
        " Give the API key the permission asset.copy and restart the service."
    )
    await sync.store.set_problem(sync.owner, "copy", advice)
    log.warning("copy.not_permitted", owner=str(sync.owner), reason=str(error))


# --- the bytes ---


async def _transfer(sync: OwnerSync, source: Record) -> tuple[api.Uploaded, bool]:
    """Send one file's bytes; also whether the file still holds them.

    Raises ChangedWhileRead where it held others meanwhile, and then nothing is stored.
    """
    digest, intact = xxhash.xxh3_128(), True
    opened = await asyncio.to_thread(_open, sync.root, source.path, digest.update)
    fd, before = opened.fd, opened.stat
    try:
        if before != source.stat:
            raise ChangedWhileRead(source.path)

        async def body() -> AsyncIterator[bytes]:
            async for block, last in _blocks(opened, source.path, digest.update):
                # Without its last block the server has no file.
                if last and digest.digest() != source.content.xxh3:
                    raise ChangedWhileRead(source.path)
                yield block

        name = source.path.rpartition(b"/")[2]
        upload = api.Upload(name, before.size, before.mtime_ns, source.content.sha1, opened.sidecar)
        uploaded = await sync.server.upload(sync.key, upload, body())
        after = stat_of(os.fstat(fd))
        if not after.same_file(before):  # a rename or chmod moves the ctime alone
            # Touched, or written to.
            read = await asyncio.to_thread(xxh3_of, fd, before.size) if after.size == before.size else None
            intact = read == source.content.xxh3
    finally:
        os.close(fd)
    return uploaded, intact


async def _transfer_unread(sync: OwnerSync, unread: Unread) -> tuple[Hashed, api.Uploaded]:
    """Send one file's bytes, hashed on the way; raises ChangedWhileRead, and then nothing is stored."""
    started = time.time_ns()
    digests, whole, ours = Digests(), False, False
    opened = await asyncio.to_thread(_open, sync.root, unread.path, digests.update)
    fd, before = opened.fd, opened.stat

    async def body() -> AsyncIterator[bytes]:
        nonlocal whole, ours
        async for block, last in _blocks(opened, unread.path, digests.update):
            if last:
                # Before the server has all of it, so that an answer that is lost can be told from no upload.
                if stat_of(os.fstat(fd)) != before:
                    raise ChangedWhileRead(unread.path)
                ours = await sync.store.begin_send(sync.owner, Sent(unread.path, digests.content(), before.size))
                whole = True
            yield block

    try:
        if before.size != unread.size:
            raise ChangedWhileRead(unread.path)
        name = unread.path.rpartition(b"/")[2]
        uploaded = await sync.server.upload(
            sync.key, api.Upload(name, before.size, before.mtime_ns, None, opened.sidecar), body()
        )
    finally:
        os.close(fd)
    if not whole:
        raise api.Unavailable("The server answered before it had the file")
    hashed = Hashed(digests.content(), before, started)
    if uploaded.duplicate and ours:
        await sync.store.end_sends(sync.owner, [hashed.content.sha1])
    return hashed, uploaded


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file that is to be sent: its descriptor, its stat, its first block, and its sidecar's name and bytes."""

    fd: int
    stat: Stat
    first: bytes
    sidecar: tuple[bytes, bytes] | None


def _open(root: Root, path: RelPath, update: Callable[[bytes], None]) -> _Opened:
    """All that a small file needs of the disk, in one turn of a thread; ``update`` has had the first block by then."""
    sidecar = _sidecar(root, path)
    fd, stat = root.open_file(path)
    try:
        first = os.pread(fd, min(BLOCK, stat.size), 0)
        update(first)
    except BaseException:
        os.close(fd)
        raise
    return _Opened(fd, stat, first, sidecar)


def _sidecar(root: Root, path: RelPath) -> tuple[bytes, bytes] | None:
    """Name and bytes of the sidecar that goes with this picture."""
    for found in sidecars.sidecars(root, path):
        if (content := sidecars.read(root, found)) is not None:
            return found.rpartition(b"/")[2], content
    return None


async def _blocks(opened: _Opened, path: RelPath, update: Callable[[bytes], None]) -> AsyncIterator[tuple[bytes, bool]]:
    """As many bytes as its stat says, and with each block whether it is the last; ``update`` has had it by then.

    Or ChangedWhileRead, which breaks off the request: nothing is stored then.
    """

    def read(size: int, offset: int) -> bytes:
        block = os.pread(opened.fd, size, offset)
        update(block)
        return block

    size, offset, block = opened.stat.size, 0, opened.first
    while block:
        offset += len(block)
        yield block, offset == size
        if offset == size:
            return
        block = await asyncio.to_thread(read, min(BLOCK, size - offset), offset)
    raise ChangedWhileRead(path)
