"""Damage that `resync --rehash` finds, and what becomes of it; the command itself is in tests/acceptance."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.model import OwnerId
from immich_dbsync.service.questions import comparison
from immich_dbsync.store.holds import RESYNC, Holds
from immich_dbsync.store.state import damaged_files
from tests.integration.harness import Harness, harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE = picture(1), picture(2), picture(3)
ROTTEN = ONE[:-1] + b"!"
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")


@pytest.fixture
async def sync(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    """A file that rotted while nobody looked, and one that did not."""
    async with harness(library_url, immich_version) as made:
        made.put("Camera/a.png", ONE)
        made.put("b.png", TWO)
        await made.start()
        await made.stop()
        await rot(made, "Camera/a.png", ROTTEN)
        await made.start()
        yield made


async def rot(sync: Harness, name: str, content: bytes) -> None:
    """Other bytes under the same stat. No program can forge a ctime, so the record is made to say what it is."""
    path = sync.path(name)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    await asyncio.to_thread(os.utime, path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await sync.connection.execute("update immich_dbsync_v1.records set racy = false")
    await sync.connection.execute(
        "update immich_dbsync_v1.records set ctime_ns = $1 where path = $2", path.stat().st_ctime_ns, os.fsencode(name)
    )


async def rehash(sync: Harness, prefix: bytes = b"") -> list[str]:
    """Ask the running service; the damaged files."""
    holds = Holds(sync.connection)
    number = await holds.ask(OwnerId(sync.user), RESYNC, comparison(prefix, rehash=True).arguments)

    async def answered() -> dict[str, Any] | None:
        return await holds.result(number)

    found: list[str] = ((await until(answered)) or {})["damaged"]
    return found


async def damaged(sync: Harness) -> list[bytes]:
    """What `status` names."""
    return [path for path, _ in await damaged_files(sync.connection, OwnerId(sync.user), 10)]


async def untouched(sync: Harness) -> None:
    """Nothing was sent, and nothing is gone."""
    await sync.idle()
    assert sync.requests == [UPLOAD] * 2
    assert await sync.status(ONE) == await sync.status(TWO) == "active"
    assert await sync.status(ROTTEN) is None
    assert sync.files() == {"Camera/a.png": ROTTEN, "b.png": TWO}


async def test_damage_is_told_once_and_survives_restarts_and_touches(sync: Harness) -> None:
    assert await rehash(sync) == ["Camera/a.png"]
    assert await rehash(sync) == ["Camera/a.png"]
    assert await sync.deeds("damaged") == ["damaged"]
    await sync.restart()
    os.utime(sync.path("Camera/a.png"))
    await sync.rescan()
    await sync.restart()
    await sync.rescan()
    assert await damaged(sync) == [b"Camera/a.png"]
    await untouched(sync)


async def test_only_what_is_asked_for_is_read(sync: Harness) -> None:
    assert await rehash(sync, b"b.png") == []
    assert await damaged(sync) == []
    assert await rehash(sync, b"Camera") == ["Camera/a.png"]


async def test_a_copy_of_damaged_bytes_is_a_picture_of_its_own(sync: Harness) -> None:
    await rehash(sync)
    sync.put("copy.png", ROTTEN)
    assert await sync.tied("copy.png") == await sync.asset(ROTTEN)
    await sync.rescan()
    assert await sync.status(ONE) == "active"
    assert await damaged(sync) == [b"Camera/a.png"]


async def test_damage_ends_when_the_right_bytes_return(sync: Harness) -> None:
    await rehash(sync)
    await sync.stop()
    await rot(sync, "Camera/a.png", ONE)  # the disk thought better of it: still no trace of a write
    await sync.start()
    assert await damaged(sync) == [b"Camera/a.png"]
    assert await rehash(sync) == []
    assert await damaged(sync) == []
    assert await sync.deeds("repaired") == ["repaired"]
    assert sync.requests == [UPLOAD] * 2


async def test_damage_ends_when_the_file_is_edited(sync: Harness) -> None:
    await rehash(sync)
    sync.put("Camera/a.png", THREE)
    await sync.becomes(THREE, "active")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert await damaged(sync) == []
    assert await rehash(sync) == []
    assert await sync.status(ROTTEN) is None


@pytest.mark.parametrize("side", ["folder", "immich"])
async def test_damage_ends_when_the_file_is_removed(sync: Harness, side: str) -> None:
    await rehash(sync)
    if side == "folder":
        sync.path("Camera/a.png").unlink()
    else:
        await sync.trash(await sync.asset(ONE))
    await sync.gone("Camera/a.png")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert await damaged(sync) == []
    assert sync.quarantined() == ([] if side == "folder" else [ROTTEN])


async def test_a_damaged_file_that_is_renamed_is_never_sent(sync: Harness) -> None:
    await rehash(sync)
    sync.path("Camera/a.png").rename(sync.path("renamed.png"))
    await sync.tied("renamed.png")
    await sync.rescan()
    os.utime(sync.path("renamed.png"))
    await sync.rescan()
    assert sync.requests == [UPLOAD] * 2
    assert await sync.status(ONE) == "active"
    assert await sync.status(ROTTEN) is None
    assert await damaged(sync) == [b"renamed.png"]
