"""Adopting a library: a folder whose pictures are in Immich already, for the most part."""

import asyncio
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from immich_dbsync.core.actions import Why
from immich_dbsync.core.names import LeftAlone
from immich_dbsync.disk.hashing import Abandoned, Hashed
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath
from immich_dbsync.service import hashing
from immich_dbsync.service.rounds import Rounds
from immich_dbsync.service.scan import Tally
from tests.integration.harness import Harness, until

UPLOAD = ("POST", "/api/assets")
RESTORE = ("POST", "/api/trash/restore/assets")
SOME, MANY = 300, int(os.environ.get("ADOPTED_FILES", "3000"))


def content(number: int) -> bytes:
    return b"picture %d" % number + bytes(number)  # few pictures have the same size


def path(number: int) -> str:
    return f"Camera/{number % 7}/{number:05}.png"


class Folder:
    """Files by what Immich knows of them: numbers of 20 are new, trashed before, trashed earlier, or there."""

    def __init__(self, files: int) -> None:
        self.new = [number for number in range(files) if number % 20 == 0]
        self.trashed_since = [number for number in range(files) if number % 20 == 1]
        self.trashed_before = [number for number in range(files) if number % 20 == 2]
        self.there = [number for number in range(files) if number % 20 > 2]
        self.numbers = range(files)

    async def fill(self, sync: Harness) -> None:
        """Files first, then Immich's rows: of one trash later than the files, of the other an hour earlier."""
        for number in self.numbers:
            sync.put(path(number), content(number))
        now = datetime.now(UTC)
        await add_assets(sync, self.there, "active", None)
        await add_assets(sync, self.trashed_since, "trashed", now)
        await add_assets(sync, self.trashed_before, "trashed", now - timedelta(hours=1))


async def add_assets(sync: Harness, numbers: Collection[int], status: str, deleted: datetime | None) -> None:
    """Rows as uploads from elsewhere left them long ago."""
    connection = sync.connection
    old = await connection.fetchval(
        "select exists (select from information_schema.columns where table_name = 'asset' and column_name = 'deviceId')"
    )
    columns, values = (', "deviceAssetId", "deviceId"', ", name, 'phone'") if old else ("", "")
    contents = [content(number) for number in numbers]
    await connection.execute(
        f"""with added as (
              insert into asset (checksum, "checksumAlgorithm", "fileCreatedAt", "fileModifiedAt", "localDateTime",
                "originalFileName", "originalPath", "ownerId", type, status, "deletedAt"{columns})
              select sum, 'sha1', now(), now(), now(), name, name, $1, 'IMAGE', $4::text::assets_status_enum, $5{values}
              from unnest($2::bytea[], $3::text[]) as given(sum, name) returning id, checksum)
            insert into asset_exif ("assetId", "fileSizeInByte")
            select added.id, given.size from added join unnest($2::bytea[], $6::bigint[]) given(sum, size)
              on given.sum = added.checksum""",
        sync.user,
        [hashlib.sha1(each, usedforsecurity=False).digest() for each in contents],
        [f"{number}.png" for number in numbers],
        status,
        deleted,
        [len(each) for each in contents],
    )


async def summary(sync: Harness) -> dict[str, Any]:
    """What became of what the first scan found, once that is known."""

    async def check() -> dict[str, Any] | None:
        found = await sync.connection.fetchval(
            "select summary from immich_dbsync_v1.owners where owner_id = $1", sync.user
        )
        return dict(json.loads(found)) if found else None

    found = await until(check, seconds=60)
    assert found is not None
    return found


async def statuses(sync: Harness) -> Counter[str]:
    rows = await sync.connection.fetch("select status::text, count(*) from asset group by 1")
    return Counter({row["status"]: row["count"] for row in rows})


async def adopted(sync: Harness, folder: Folder) -> None:
    """All is as it should be after the first scan, and the next one reads nothing."""
    paths = sorted(path(number).encode() for number in folder.numbers)
    assert (await sync.held(len(folder.trashed_since))).reason == Why.FIRST_SIGHT.value
    assert sync.requests.count(UPLOAD) == len(folder.new)
    assert {*sync.requests} == {UPLOAD, RESTORE}
    assert await statuses(sync) == {
        "active": len(folder.numbers) - len(folder.trashed_since),
        "trashed": len(folder.trashed_since),
    }
    assert sync.files() == {path(number): content(number) for number in folder.numbers}
    assert sorted(await sync.records()) == paths
    assert sorted(sync.reads.sha1) == paths
    read = len(sync.reads.xxh3)
    await sync.rescan()
    await sync.restart()
    assert sorted(sync.reads.sha1) == paths
    assert len(sync.reads.xxh3) == read


@pytest.mark.newest
async def test_it_sums_up_when_the_last_that_ends_is_a_look_of_anothers(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Rounds._report

    async def with_a_look_under_way(self: Rounds, tally: Tally) -> None:
        await report(self, tally)
        looking = self._sync._lock
        await looking.acquire()
        asyncio.get_running_loop().call_later(0.2, looking.release)

    monkeypatch.setattr(Rounds, "_report", with_a_look_under_way)
    await sync.start()
    assert (await summary(sync))["files"] == 0


async def test_adoption_uploads_only_what_is_new_and_sums_up(sync: Harness) -> None:
    folder = Folder(SOME)
    await folder.fill(sync)
    sync.put("notes.txt", b"no picture")
    sync.put("empty.png", b"")
    sync.put("Camera/0/00000.png.xmp", b"<x:xmpmeta/>")
    expected = {
        "files": SOME,
        "upload": len(folder.new),
        "adopt": len(folder.there),
        "restore": len(folder.trashed_before),
        "hold": len(folder.trashed_since),
    }
    left = {LeftAlone.NOT_MEDIA.value: 1, LeftAlone.EMPTY.value: 1, LeftAlone.SIDECAR.value: 1}
    with capture_logs() as logs:

        async def logged() -> list[Any]:  # after it is written down
            return [line for line in logs if line["event"] == "scan.summary"]

        await sync.start()
        found = await summary(sync)
        [told] = await until(logged)
    assert {key: found.get(key) for key in expected} == expected
    assert {key: found["left_alone"].get(key) for key in left} == left
    assert told["counts"] == found
    for name in ("notes.txt", "empty.png", "Camera/0/00000.png.xmp"):
        sync.path(name).unlink()
    await adopted(sync, folder)
    assert await summary(sync) == found  # it is of the first scan


async def test_adoption_interrupted_by_a_restart_reads_nothing_twice(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before is recorded; what was being read then is given up."""
    folder = Folder(SOME)
    await folder.fill(sync)
    begun = threading.Semaphore(SOME // 3)

    hashed: list[RelPath] = []

    def third(root: Root, path: RelPath, **options: Any) -> Hashed:
        while not begun.acquire(timeout=0.01):
            if options["stopped"]():
                raise Abandoned
        hashed.append(path)
        return sync.reads.hash_file(root, path, **options)

    with monkeypatch.context() as slow:
        slow.setattr(hashing, "hash_file", third)
        slow.setattr(hashing, "_TOGETHER", 1)  # else those that are read together with the one that waits wait, too
        await sync.start(wait=False)

        async def a_third() -> bool:
            records = await sync.records()
            read = len(sync.reads.sha1)
            return len(hashed) == SOME // 3 and len(records) == read and None not in records.values()

        await until(a_third)
        await sync.stop()
    before = [*sync.reads.sha1]
    assert len(before) < SOME // 2
    await sync.start()
    assert sync.reads.sha1[: len(before)] == before
    await adopted(sync, folder)


@pytest.mark.newest  # for its time
async def test_adoption_of_a_large_library(sync: Harness) -> None:
    """Larger than a batch and a page of a scan."""
    folder = Folder(MANY)
    await folder.fill(sync)
    await sync.start()
    await adopted(sync, folder)
