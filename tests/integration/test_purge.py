"""Row 16: when a file leaves quarantine for good, and when it does not; more of it is in test_rows.py."""

from collections.abc import AsyncIterator

import pytest

from immich_dbsync.demo.people import delete_user
from immich_dbsync.demo.tables import ImmichVersion
from tests.integration.harness import Harness, harness, picture, until

ONE, TWO = picture(1), picture(2)


@pytest.fixture
async def sync(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    async with harness(library_url, immich_version) as made:
        made.put("a.png", ONE)
        made.put("b.png", TWO)
        await made.start()
        await made.trash(await made.asset(ONE))
        await made.gone("a.png")
        await made.idle()
        yield made


async def retention_over(sync: Harness) -> None:
    await sync.connection.execute("update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '99 days'")


async def test_not_before_the_retention_is_over(sync: Harness) -> None:
    await sync.empty_trash()
    await sync.idle()
    await sync.connection.execute(
        "update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '30 days' + interval '5 minutes'"
    )
    await sync.rescan()
    assert sync.quarantined() == [ONE]
    await sync.connection.execute(
        "update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '30 days' - interval '1 second'"
    )
    await sync.rescan()
    assert sync.quarantined() == []
    assert await sync.deeds("purge") == ["purge"]


async def test_a_restored_assets_file_is_put_back_instead(sync: Harness) -> None:
    await retention_over(sync)
    await sync.restore(await sync.asset(ONE))
    await sync.there("a.png", ONE)
    await sync.idle()
    await sync.rescan()
    assert sync.files() == {"a.png": ONE, "b.png": TWO}
    assert await sync.deeds("purge") == []


async def test_a_file_whose_picture_was_brought_back_stays_while_its_asset_does(sync: Harness) -> None:
    sync.put("again.png", ONE)
    await sync.becomes(ONE, "active")
    await sync.tied("again.png")
    await retention_over(sync)
    await sync.rescan()
    assert sync.quarantined() == [ONE]


@pytest.mark.parametrize("evidence", ["event", "audit"])
async def test_deleted_for_good_while_nobody_listened(sync: Harness, evidence: str) -> None:
    await retention_over(sync)
    await sync.stop()
    await sync.empty_trash()
    if evidence == "event":
        await sync.connection.execute("delete from asset_audit")
    else:
        await sync.connection.execute("delete from immich_dbsync_v1.events")
    await sync.start()
    await sync.rescan()
    assert sync.quarantined() == []
    assert sync.files() == {"b.png": TWO}


async def test_the_evidence_is_remembered_longer_than_immich_keeps_it(sync: Harness) -> None:
    await sync.empty_trash()
    await sync.idle()
    await sync.connection.execute("delete from asset_audit")
    await sync.restart()
    await retention_over(sync)
    await sync.rescan()
    assert sync.quarantined() == []


async def test_a_deleted_users_quarantine_stays(sync: Harness) -> None:
    await retention_over(sync)
    await delete_user(sync.connection, sync.user)
    await sync.rescan()
    assert sync.quarantined() == [ONE]
    assert sync.files() == {"b.png": TWO}


async def test_a_file_that_was_changed_in_quarantine_stays(sync: Harness) -> None:
    [file] = (sync.folder / ".immich-dbsync" / "quarantine").rglob("a.png")
    file.write_bytes(b"somebody works on it")
    await sync.empty_trash()
    await retention_over(sync)
    await sync.rescan()
    assert sync.quarantined() == [b"somebody works on it"]


async def entry(sync: Harness) -> int:
    found: int = await sync.connection.fetchval("select id from immich_dbsync_v1.quarantine")
    return found


async def test_by_hand_before_the_retention_is_over(sync: Harness) -> None:
    await sync.empty_trash()
    await sync.idle()
    assert [each.path for each in await sync.owner().purge([await entry(sync)])] == [b"a.png"]
    assert sync.quarantined() == []
    assert await sync.deeds("purge") == ["purge"]


async def test_by_hand_not_while_immich_has_the_asset(sync: Harness) -> None:
    await sync.connection.execute("update immich_dbsync_v1.quarantine set gone = true")
    assert await sync.owner().purge([await entry(sync)]) == []
    assert sync.quarantined() == [ONE]


async def test_by_hand_not_without_evidence(sync: Harness) -> None:
    await sync.stop()
    await sync.empty_trash()
    await sync.connection.execute("delete from asset_audit")
    await sync.connection.execute("delete from immich_dbsync_v1.events")
    await sync.start()
    assert await sync.owner().purge([await entry(sync)]) == []
    assert sync.quarantined() == [ONE]


async def test_by_hand_nothing_comes_back_and_nothing_goes_while_the_folder_is_not_well(sync: Harness) -> None:
    marker = sync.path("Camera/.stfolder")
    marker.mkdir(parents=True)
    known = "select stfolders = $1 from immich_dbsync_v1.owners"

    async def learnt() -> bool:
        return bool(await sync.connection.fetchval(known, [b"Camera"]))

    await until(learnt)
    await sync.stop()
    await sync.empty_trash()
    marker.rmdir()
    await sync.start(wait=False)

    async def told() -> bool:
        return bool(await sync.problem())

    await until(told)
    number = await entry(sync)
    assert await sync.owner().purge([number]) == []
    assert await sync.owner().bring_back([number]) == []
    assert sync.quarantined() == [ONE]
    assert sync.files() == {"b.png": TWO}
