"""A file whose size is nowhere in the library is hashed while it is sent: read once, and never sent twice."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from typing import Any

import pytest

from immich_dbsync.disk.hashing import Abandoned, Hashed
from immich_dbsync.disk.root import Root
from immich_dbsync.immich import api
from immich_dbsync.model import OwnerId, RelPath
from immich_dbsync.service import hashing, uploads, workers
from immich_dbsync.service.observe import Observer, Seen
from immich_dbsync.service.sizes import LibrarySizes
from immich_dbsync.store.records import Store
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)
UPLOAD, TRASH, RESTORE = ("POST", "/api/assets"), ("DELETE", "/api/assets"), ("POST", "/api/trash/restore/assets")


def no_hash(*_: object, **__: object) -> None:
    raise AssertionError("read before it was sent")


class Bytes:
    """How many bytes of files were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read = 0
        pread, preadv = os.pread, os.preadv

        def counted(fd: int, size: int, offset: int) -> bytes:
            block = pread(fd, size, offset)
            self.read += len(block)
            return block

        def counted_v(fd: int, buffers: Any, offset: int) -> int:
            count = preadv(fd, buffers, offset)
            self.read += count
            return count

        monkeypatch.setattr(os, "pread", counted)
        monkeypatch.setattr(os, "preadv", counted_v)


async def test_a_new_file_is_read_once(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "hash_file", no_hash)
    await sync.start()
    read = Bytes(monkeypatch)
    content = ONE + bytes(5 << 20)
    sync.put("a.png", content)
    assert await sync.tied("a.png") == await sync.asset(content)
    await sync.idle()
    assert read.read == len(content)
    assert sync.requests == [UPLOAD]
    assert not await sync.connection.fetchval(
        "select count(*) from immich_dbsync_v1.sends where owner_id = $1", sync.user
    )


async def test_what_the_library_may_have_is_hashed_first(sync: Harness) -> None:
    """By an asset's size, a record's, a quarantined file's, or that of a file that is being sent."""
    await sync.start()
    asset = await sync.upload(ONE)
    sync.put("a.png", ONE)
    assert await sync.tied("a.png") == asset
    sync.put("again.png", ONE)
    assert await sync.tied("again.png") == asset
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    sent = [path for path in sync.reads.sha1 if path == b"a.png"]
    assert len(sent) == 1
    assert sync.requests == [UPLOAD, TRASH]


async def test_many_copies_of_a_new_picture_are_sent_once(sync: Harness) -> None:
    await sync.start()
    for number in range(20):
        sync.put(f"{number}.png", ONE)
    for number in range(20):
        assert await sync.tied(f"{number}.png") == await sync.asset(ONE)
    assert sync.requests == [UPLOAD]


async def test_a_copy_of_what_is_about_to_be_sent_is_not_sent_besides(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of that size was known when it was asked for; when the answer came, the other file had been hashed."""
    await sync.start()
    sizes_seen, upload, queues = Store.sizes_seen, api.Server.upload, sync.syncs()[0].queues

    async def sending_a() -> bool:
        return b"a.png" in queues.uploading

    async def done_with_b() -> bool:
        return b"b.png" not in queues.hashing

    async def slow_for_b(
        store: Store, owner: OwnerId, sizes: Mapping[RelPath, int]
    ) -> dict[RelPath, tuple[bool, bool]]:
        answer = await sizes_seen(store, owner, sizes)
        if b"b.png" in sizes:
            await until(sending_a)
        return answer

    async def after_b(*arguments: Any, **named: Any) -> api.Uploaded:
        await until(done_with_b)
        return await upload(*arguments, **named)

    monkeypatch.setattr(Store, "sizes_seen", slow_for_b)
    monkeypatch.setattr(api.Server, "upload", after_b)
    sync.put("b.png", ONE)
    sync.put("a.png", ONE)
    assert await sync.tied("a.png") == await sync.tied("b.png") == await sync.asset(ONE)
    assert sync.requests == [UPLOAD]


async def test_a_copy_that_was_sent_during_the_look_at_the_other_is_found(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look began before the picture was in Immich, and ends when nothing is being sent any more."""
    await sync.start()
    sizes_seen, look, queues = Store.sizes_seen, Observer.look, sync.syncs()[0].queues
    looking = asyncio.Event()

    async def sent() -> bool:
        return len(ONE) in queues.ended

    async def slow_for_a(
        store: Store, owner: OwnerId, sizes: Mapping[RelPath, int]
    ) -> dict[RelPath, tuple[bool, bool]]:
        answer = await sizes_seen(store, owner, sizes)
        if b"a.png" in sizes:
            await looking.wait()
        return answer

    async def slow_at_b(observer: Observer, paths: Collection[RelPath] = (), *rest: Any, **named: Any) -> Seen:
        seen = await look(observer, paths, *rest, **named)
        if b"b.png" in paths and b"b.png" in observer.known.identified and not looking.is_set():
            looking.set()
            await until(sent)
        return seen

    monkeypatch.setattr(Store, "sizes_seen", slow_for_a)
    monkeypatch.setattr(Observer, "look", slow_at_b)
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)
    assert await sync.tied("b.png") == await sync.asset(ONE)
    assert sync.requests == [UPLOAD]
    assert looking.is_set()


async def test_a_new_file_that_changes_while_it_is_sent_leaves_nothing_behind(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync.start()
    first, second = ONE + bytes(3 << 20), TWO + bytes(3 << 20)
    blocks, path = uploads._blocks, sync.path("a.png")
    once = [1]

    async def overwritten(*arguments: Any) -> Any:
        async for block, last in blocks(*arguments):
            if once:
                once.pop()
                path.write_bytes(second)
                os.utime(path, (1, 1))
            yield block, last

    monkeypatch.setattr(uploads, "_blocks", overwritten)
    sync.put("a.png", first)
    assert await sync.tied("a.png") == await sync.asset(second)
    await sync.idle()
    assert await sync.status(first) is None


async def test_a_new_file_that_immich_refuses_is_not_sent_again(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    await sync.start()
    sent: list[api.Upload] = []

    async def refuse(_: object, __: str, upload: api.Upload, body: AsyncIterator[bytes]) -> None:
        sent.append(upload)
        async for _ in body:
            pass
        raise api.FileRefused("Unsupported file type")

    monkeypatch.setattr(api.Server, "upload", refuse)
    sync.put("a.png", ONE)

    async def noted() -> bool:
        return "Unsupported" in str(await sync.connection.fetchval("select problem from immich_dbsync_v1.records"))

    await until(noted)
    await sync.rescan()
    assert [each.sha1 for each in sent] == [None]


async def test_a_duplicate_in_the_trash_whose_size_nobody_knew(sync: Harness) -> None:
    """Its metadata is not known. The answer says duplicate; then the file is decided about as if it had been hashed."""
    await sync.start()
    asset = await sync.upload(ONE)
    await sync.trash(asset)
    await sync.connection.execute('delete from asset_exif where "assetId" = $1', asset)
    await sync.connection.execute(
        'update asset set "createdAt" = now() - $2::interval where id = $1', asset, timedelta(hours=1)
    )
    sync.put("a.png", ONE)  # it came after
    await sync.becomes(ONE, "active")
    assert await sync.tied("a.png") == asset
    assert sync.requests == [UPLOAD, TRASH, UPLOAD, RESTORE]
    assert sync.reads.sha1 == [b"a.png"]


async def test_while_the_server_is_down_new_files_are_hashed(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `status` tells of them, and they are not read again."""
    await sync.start()

    async def silent(_: object) -> None:
        raise api.Unavailable("nobody answers")

    with monkeypatch.context() as down:
        down.setattr(api.Server, "ping", silent)
        assert sync.session is not None
        sync.session._gate.report(api.Unavailable("nobody answers"))
        sync.put("a.png", ONE)
        await sync.recorded(["a.png"])
        assert sync.requests == []
    sent, read = list(sync.requests), list(sync.reads.sha1)
    assert await sync.tied("a.png") == await sync.asset(ONE)
    assert (sent, read) == ([], [b"a.png"])
    assert sync.reads.sha1 == read


async def test_the_librarys_sizes(sync: Harness) -> None:
    await sync.start()
    store, now = Store(sync.session._pools.work), [0.0]  # type: ignore[union-attr]
    sizes = LibrarySizes(sync.user, store, lambda: now[0])  # type: ignore[arg-type]

    async def lack(size: int) -> bool:
        now[0] += 100
        return await sizes.lack(size)

    ids = [await sync.upload(picture(number)) for number in range(3)]
    assert await lack(1)
    await sync.connection.execute('update asset_exif set "fileSizeInByte" = 7 where "assetId" = $1', ids[0])
    await sync.connection.execute('update asset_exif set "fileSizeInByte" = 9000000000 where "assetId" = $1', ids[1])
    sizes = LibrarySizes(sync.user, store, lambda: now[0])  # type: ignore[arg-type]
    assert [await lack(size) for size in (6, 7, 8, 9_000_000_000)] == [True, False, True, False]
    await sync.connection.execute('update asset_exif set "fileSizeInByte" = null where "assetId" = $1', ids[2])
    assert not await lack(8)  # one is awaited
    await sync.connection.execute('update asset_exif set "fileSizeInByte" = 8 where "assetId" = $1', ids[2])
    assert [await lack(size) for size in (5, 7, 8)] == [True, False, False]
    await sync.connection.execute("drop table asset_exif cascade")
    sizes = LibrarySizes(sync.user, store, lambda: now[0])  # type: ignore[arg-type]
    assert not await lack(1)


async def test_a_small_file_does_not_wait_for_a_large_one(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones are read together; the large one is read for as long as it takes."""
    small, large = picture(1), picture(2) + bytes(100_000)
    for content in (small, large):
        await sync.upload(content)
    tied = threading.Event()

    def slow(root: Root, path: RelPath, **options: Any) -> Hashed:
        if path == b"b.png":
            while not tied.wait(timeout=0.01):
                if options["stopped"]():
                    raise Abandoned
        return sync.reads.hash_file(root, path, **options)

    monkeypatch.setattr(hashing, "hash_file", slow)
    monkeypatch.setattr(hashing, "WORKERS", 1)
    monkeypatch.setattr(hashing, "_BYTES_TOGETHER", 50_000)
    monkeypatch.setattr(workers, "WORKERS", 1)
    sync.put("a.png", small)
    sync.put("b.png", large)
    await sync.start(wait=False)
    assert await sync.tied("a.png") == await sync.asset(small)
    tied.set()
    assert await sync.tied("b.png") == await sync.asset(large)
