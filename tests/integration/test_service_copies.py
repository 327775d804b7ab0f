"""Copies, moves and edits whose paths are in different hands at the same time."""

import threading
import time
from typing import Any

import pytest

from immich_dbsync.disk.hashing import Hashed, hash_file
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath
from immich_dbsync.service import hashing, rounds
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE = picture(1), picture(2), picture(3)
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")


async def test_a_copy_that_is_hashed_while_the_other_is_uploaded_is_tied_and_keeps_the_asset(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sync.start()
    uploading = threading.Event()

    def late(root: Root, path: RelPath, **options: Any) -> Hashed:
        if path == b"b.png":
            uploading.wait(10)
        return hash_file(root, path, **options)

    monkeypatch.setattr(hashing, "hash_file", late)
    sync.immich.faults.delay_s = 0.3
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)

    async def sent() -> bool:
        return UPLOAD in sync.requests

    await until(sent)
    uploading.set()
    await sync.tied("a.png")
    await sync.idle()
    assert await sync.tied("b.png", seconds=3) == await sync.asset(ONE)
    sync.path("a.png").unlink()
    await sync.recorded(["b.png"])
    await sync.idle()
    assert TRASH not in sync.requests


async def test_a_folder_larger_than_the_backlog_is_moved_without_a_request(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scan finds gone must not be judged before the scan has seen where it went."""
    monkeypatch.setattr(rounds, "BACKLOG", 10)
    monkeypatch.setattr(rounds, "BATCH", 5)
    for number in range(40):
        sync.put(f"Camera/{number:02}.png", picture(number))
    await sync.start()
    before = list(sync.requests)
    await sync.stop()
    sync.path("Camera").rename(sync.path("Zoo"))
    await sync.start()
    await sync.recorded([f"Zoo/{number:02}.png" for number in range(40)])
    assert sync.requests == before


async def test_edited_copies_are_not_read_over_and_over(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)
    await sync.start()
    await sync.rescan()
    await sync.stop()
    sync.put("a.png", TWO)
    sync.put("b.png", THREE)
    read: list[RelPath] = []
    first = threading.Event()

    def uneven(root: Root, path: RelPath, **options: Any) -> Hashed:
        read.append(path)
        if path == b"b.png" and not first.is_set():
            first.wait(0.3)  # a large file takes longer than a small one
        return hash_file(root, path, **options)

    monkeypatch.setattr(hashing, "hash_file", uneven)
    await sync.start(wait=False)

    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert len(read) <= 4, f"read {len(read)} times"


async def test_two_copies_that_are_fresh_do_not_have_each_other_read_over_and_over(sync: Harness) -> None:
    """What is read of a fresh file is not proven by its stat: it is read again, but only once it is old enough."""
    await sync.start()
    for name in ("a.png", "b.png"):
        sync.put(name, ONE, mtime_ns=time.time_ns())
    await sync.recorded(["a.png", "b.png"])
    await sync.idle()
    reads = sync.reads.sha1 + sync.reads.xxh3
    assert len(reads) <= 2 * 6, reads  # a few times each, by what the watch tells; it was a hundred and more
