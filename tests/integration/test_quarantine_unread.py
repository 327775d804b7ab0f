"""A quarantine of which something can't be seen: what is not seen there is not gone, and nothing is decided before."""

import errno
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.disk import marker
from immich_dbsync.disk.hashing import hash_file
from immich_dbsync.disk.quarantine import QuarantineBatch
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import Walk
from immich_dbsync.model import RelPath
from immich_dbsync.service import sweep
from immich_dbsync.service.carry_out import today
from immich_dbsync.store.records import Store
from tests.integration.harness import Harness, harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)
DEEP = [b"d" * 203] * 20  # 4,079 bytes: within what is synced, and beyond it by the name of the quarantine


@pytest.fixture
async def sync(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    async with harness(library_url, immich_version) as made:
        yield made


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder in quarantine can be listed."""
    plain = Walk._list

    def listed(self: Walk, fd: int, prefix: bytes) -> list[bytes]:
        if prefix.startswith(b".immich-dbsync/quarantine/"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(self, fd, prefix)

    monkeypatch.setattr(Walk, "_list", listed)


def put(sync: Harness, folders: list[bytes], content: bytes) -> bytes:
    """A file at the bottom of folders that no path of the kernel's reaches at once; its path."""
    fd = os.open(sync.folder, os.O_RDONLY | os.O_DIRECTORY)
    for name in folders:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    part = os.open(b".part", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(part, content)
    os.close(part)
    os.utime(b".part", (1_700_000_000, 1_700_000_000), dir_fd=fd)
    os.rename(b".part", b"1.png", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    return b"/".join([*folders, b"1.png"])


def there(sync: Harness, path: bytes) -> bool:
    with Root(sync.folder) as root:
        return root.stat(RelPath(path)) is not None


async def entries(sync: Harness) -> int:
    return int(await sync.connection.fetchval("select count(*) from immich_dbsync_v1.quarantine"))


async def told(sync: Harness, words: str) -> None:
    async def said() -> bool:
        return words in str(await sync.problem())

    await until(said)


async def test_entries_outlive_a_start_that_cannot_see_their_files(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a/1.png", ONE)
    sync.put("2.png", TWO)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a/1.png")
    await sync.idle()
    await sync.stop()
    with monkeypatch.context() as patch:
        failing(patch)
        await sync.start(wait=False)
        await told(sync, "can't be looked at (Input/output error)")
        assert await entries(sync) == 1
    await sync.restart()
    await sync.restore(asset)
    await sync.there("a/1.png", ONE)


@pytest.mark.parametrize("way", ["plain", "unreadable", "deep", "link", "link in place of a day"])
async def test_killed_between_rename_and_commit_and_restored_in_immich_meanwhile(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The file is in quarantine, which only looking tells; unseen it would look as if its owner had deleted it."""
    sync.put("stays.png", TWO)
    path = put(sync, DEEP if way == "deep" else [b"a"], ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.stop()
    await sync.trash(asset)
    with Root(sync.folder) as root, QuarantineBatch(root, today()) as batch:
        hashed = hash_file(root, RelPath(path))
        batch.take(RelPath(path), hashed.stat, hashed.content.xxh3)
    await sync.restore(asset)
    quarantine = sync.path(".immich-dbsync/quarantine")
    with monkeypatch.context() as patch:
        if way == "unreadable":
            failing(patch)
        place = {"link": quarantine, "link in place of a day": quarantine / today()}.get(way)
        if place is not None:
            place.rename(sync.path(".immich-dbsync/elsewhere"))
            place.symlink_to(sync.path(".immich-dbsync/elsewhere"))
        await sync.start(wait=False)
        if place is not None or way == "unreadable":
            await told(sync, "can't be looked at")
            assert await sync.status(ONE) == "active"
        if place is not None:
            place.unlink()
            sync.path(".immich-dbsync/elsewhere").rename(place)

    async def back() -> bool:
        return there(sync, path)

    await until(back, seconds=20)
    assert await sync.status(ONE) == "active"


async def test_an_entry_at_a_path_as_long_as_may_be_outlives_a_restart(sync: Harness) -> None:
    sync.put("stays.png", TWO)
    path = put(sync, DEEP, ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)

    async def gone() -> bool:
        return not there(sync, path)

    async def back() -> bool:
        return there(sync, path)

    await until(gone)
    await sync.restart()
    assert await entries(sync) == 1
    await sync.restore(asset)
    await until(back)


async def test_a_quarantine_that_was_there_before_us_is_looked_at_in_pages(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_PAGE", 3)
    asked: list[int] = []
    plain = Store.records_at

    async def counted(self: Any, owner: Any, paths: Any) -> Any:
        asked.append(len(paths))
        return await plain(self, owner, paths)

    monkeypatch.setattr(Store, "records_at", counted)
    for number in range(8):
        sync.put(f".immich-dbsync/quarantine/2024-01-01/{number}.png", picture(number))
    sync.put("stays.png", TWO)
    await sync.start()
    await sync.idle()
    assert asked[:3] == [3, 3, 2]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_without_room_for_the_mark_nothing_of_it_stays(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Root(tmp_path) as root:
        for _ in range(3):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, full)
                with pytest.raises(OSError, match="No space"):
                    marker.write_marker(root)
        assert [*(tmp_path / ".immich-dbsync").iterdir()] == []
        marker.write_marker(root)
