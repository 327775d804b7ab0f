"""What the service takes out of a folder itself, the watch tells of as well: that is no news; what follows is."""

from pathlib import Path

import pytest

from immich_dbsync.disk.quarantine import QuarantineBatch, Quarantined
from immich_dbsync.model import RelPath, Stat, Xxh3
from immich_dbsync.store.records import Store
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE = picture(1), picture(2), picture(3)


async def _told_of(sync: Harness) -> None:
    async def told() -> bool:
        return not sync.owner().known.taken

    await until(told)
    await sync.idle()


async def test_a_file_that_was_taken_is_not_looked_at_again(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    folders = Store.folders

    async def noted(self: Store, *arguments: object) -> object:
        asked.append(arguments)
        return await folders(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "folders", noted)
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.idle()
    await sync.trash(await sync.asset(ONE))
    await sync.gone("a.png")
    await _told_of(sync)
    assert not asked


async def test_what_comes_to_the_place_of_a_taken_file_and_leaves_it_again_is_seen(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.idle()
    await sync.trash(await sync.asset(ONE))
    await sync.gone("a.png")
    sync.put("a.png", THREE)
    await sync.becomes(THREE, "active")
    await sync.tied("a.png")
    assert not sync.owner().known.taken
    sync.path("a.png").unlink()
    await sync.becomes(THREE, "trashed")


async def test_a_file_that_came_back_and_is_deleted_is_no_removal_of_ours(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.idle()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.restore(asset)
    await sync.there("a.png", ONE)
    await sync.tied("a.png")
    assert not sync.owner().known.taken
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")


async def test_a_file_that_leaves_by_itself_while_it_is_taken_is_looked_at(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch tells of it while it is taken for our doing: no other word of it comes."""
    take = QuarantineBatch.take

    def gone(batch: QuarantineBatch, path: RelPath, expected: Stat, xxh3: Xxh3) -> Quarantined:
        Path(sync.path(path)).unlink()
        return take(batch, path, expected, xxh3)

    sync.put("a.png", ONE)
    await sync.start()
    await sync.idle()
    monkeypatch.setattr(QuarantineBatch, "take", gone)
    await sync.trash(await sync.asset(ONE))

    async def forgotten() -> bool:
        return await sync.records() == {}

    await until(forgotten)
    await sync.idle()
    assert not sync.owner().known.taken
    assert sync.quarantined() == []
