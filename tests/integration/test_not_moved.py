"""Files that can't be moved where they should go: said so by ``status``, and moved once they can be."""

import errno
import os
from collections.abc import AsyncIterator

import pytest

from immich_dbsync.core.actions import Why
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.disk import moving
from tests.integration.harness import Harness, harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)


@pytest.fixture
async def sync(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    async with harness(library_url, immich_version) as made:
        yield made


async def unmoved(sync: Harness, count: int) -> None:
    async def told() -> bool:
        return (await sync.left()).get(Why.NOT_MOVED.value, 0) == count

    await until(told)


async def test_status_tells_of_files_that_cannot_be_taken_out(sync: Harness) -> None:
    for number, content in enumerate((ONE, TWO)):
        sync.put(f"Camera/{number}.png", content)
    await sync.start()
    quarantine = sync.path(".immich-dbsync/quarantine")
    quarantine.write_bytes(b"in the way")
    await sync.trash(await sync.asset(ONE), await sync.asset(TWO))
    await unmoved(sync, 2)
    assert sync.files() == {"Camera/0.png": ONE, "Camera/1.png": TWO}
    quarantine.unlink()
    await sync.gone("Camera/0.png")
    await sync.gone("Camera/1.png")
    await unmoved(sync, 0)


async def test_status_tells_of_files_that_cannot_come_back(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.put("Camera/0.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("Camera/0.png")
    await sync.idle()

    def full(*where: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where[1])

    with monkeypatch.context() as patch:
        patch.setattr(moving, "rename_at", full)
        await sync.restore(asset)
        await unmoved(sync, 1)
    await sync.there("Camera/0.png", ONE)
    await unmoved(sync, 0)
