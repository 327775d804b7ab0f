"""Every row of the decision table, through the real engine. The table is in docs/decisions.md."""

import os
import shutil
from uuid import UUID

import pytest

from immich_dbsync.core.actions import Why
from immich_dbsync.demo.people import delete_user
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.service import hashing
from tests.integration.harness import Harness, harness, picture

ONE, TWO, THREE = picture(1), picture(2), picture(3)
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")
RESTORE = ("POST", "/api/trash/restore/assets")
COPY = ("PUT", "/api/assets/copy")


async def test_row_01_a_new_file_is_uploaded_verified_and_recorded(sync: Harness) -> None:
    sync.put("Camera/before.png", ONE)
    await sync.start()
    sync.put("Camera/after.png", TWO)
    assert await sync.tied("Camera/after.png") == await sync.asset(TWO)
    assert await sync.tied("Camera/before.png") == await sync.asset(ONE)
    await sync.idle()
    assert sync.requests == [UPLOAD, UPLOAD]
    assert await sync.deeds() == ["upload", "upload"]


async def test_row_01_a_file_written_in_place_is_uploaded_once_and_whole(sync: Harness) -> None:
    await sync.start()
    with sync.path("a.png").open("wb") as file:
        for start in range(0, len(ONE), 100):
            file.write(ONE[start : start + 100])
            file.flush()
    assert await sync.tied("a.png") == await sync.asset(ONE)
    await sync.rescan()
    assert sync.requests.count(UPLOAD) == 1


async def test_row_02_a_file_that_immich_has_is_adopted_without_a_request(sync: Harness) -> None:
    asset = await sync.upload(ONE)
    sync.put("a.png", ONE)
    await sync.start()
    assert await sync.tied("a.png") == asset
    other = await sync.upload(TWO)
    sync.put("b.png", TWO)
    assert await sync.tied("b.png") == other
    assert sync.requests == [UPLOAD] * 2  # our own, in the web


async def test_row_03_a_file_that_came_after_its_asset_was_trashed_restores_it(sync: Harness) -> None:
    asset = await sync.upload(ONE)
    await sync.trash(asset)
    await sync.start()
    sync.put("a.png", ONE)
    await sync.becomes(ONE, "active")
    assert await sync.tied("a.png") == asset
    assert sync.requests == [UPLOAD, TRASH, RESTORE]
    await sync.idle()
    assert sync.files() == {"a.png": ONE}


async def test_row_03_a_deleted_file_that_comes_back_restores_its_asset(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    aside = sync.path(".trashed-1-a.png")
    sync.path("a.png").rename(aside)
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    aside.rename(sync.path("a.png"))
    await sync.becomes(ONE, "active")
    assert await sync.tied("a.png") == await sync.asset(ONE)
    await sync.idle()
    assert sync.files() == {"a.png": ONE}
    assert sync.requests == [UPLOAD, TRASH, RESTORE]


async def test_row_03_a_folder_that_was_moved_out_comes_back_with_old_times(sync: Harness) -> None:
    sync.put("Camera/a.png", ONE)
    sync.put("Camera/b.png", TWO)
    await sync.start()
    aside = sync.stage.home / "aside"
    sync.path("Camera").rename(aside)
    await sync.becomes(ONE, "trashed")
    await sync.becomes(TWO, "trashed")
    await sync.idle()
    aside.rename(sync.path("Camera"))
    await sync.becomes(ONE, "active")
    await sync.becomes(TWO, "active")
    await sync.idle()
    assert sync.files() == {"Camera/a.png": ONE, "Camera/b.png": TWO}


async def test_row_04_a_file_from_before_its_asset_was_trashed_goes_to_quarantine(sync: Harness) -> None:
    await sync.start()
    await sync.stop()
    sync.put("a.png", ONE)
    await sync.trash(await sync.upload(ONE))
    await sync.start()
    await sync.gone("a.png")
    assert sync.quarantined() == [ONE]
    assert await sync.status(ONE) == "trashed"


async def test_row_04_at_first_sight_becomes_a_hold_with_the_list(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.trash(await sync.upload(ONE))
    await sync.start()
    hold = await sync.held(1)
    assert hold.reason == Why.FIRST_SIGHT.value
    await sync.rescan()
    os.utime(sync.path("a.png"))  # touched, so that it is looked at again
    await sync.rescan()
    await sync.restart()
    await sync.rescan()
    assert sync.files() == {"a.png": ONE, "b.png": TWO}
    assert await sync.status(ONE) == "trashed"
    assert RESTORE not in sync.requests
    await sync.approve(hold)
    await sync.gone("a.png")
    assert sync.quarantined() == [ONE]
    await sync.idle()
    assert await sync.holds() == []


async def test_row_04_at_first_sight_also_when_the_files_time_lies_in_the_future(sync: Harness) -> None:
    sync.put("a.png", ONE, mtime_ns=4_000_000_000 * 10**9)
    await sync.trash(await sync.upload(ONE))
    await sync.start()
    await sync.rescan()
    assert sync.files() == {"a.png": ONE}


async def test_row_04_at_first_sight_ends_when_its_asset_is_restored(sync: Harness) -> None:
    sync.put("a.png", ONE)
    asset = await sync.upload(ONE)
    await sync.trash(asset)
    await sync.start()
    await sync.held(1)
    await sync.restore(asset)
    await sync.idle()
    await sync.rescan()
    assert await sync.tied("a.png") == asset
    assert await sync.holds() == []


async def test_row_05_waits_until_the_row_is_gone(sync: Harness) -> None:
    sync.immich.job_delay_s = 1.0
    await sync.start()
    asset = await sync.upload(ONE)
    await sync.trash(asset, force=True)
    sync.put("a.png", ONE)
    assert await sync.tied("a.png") != asset
    # One that had been sent sooner would have been answered with the asset that was going.
    assert sync.requests == [UPLOAD, TRASH, UPLOAD]
    assert sync.files() == {"a.png": ONE}


async def test_row_06_unchanged_files_cost_no_request_and_no_read(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a.png", ONE)
    sync.put("Camera/b.png", TWO)
    await sync.start()
    before = list(sync.requests)
    monkeypatch.setattr(hashing, "hash_file", None)
    await sync.rescan()
    await sync.restart()
    assert sync.requests == before


async def test_row_06_a_touched_file_costs_no_request(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    before = list(sync.requests)
    os.utime(sync.path("a.png"))
    sync.path("a.png").chmod(0o600)
    await sync.rescan()
    sync.put("a.png", ONE)  # the same bytes in another inode
    await sync.rescan()
    assert sync.requests == before
    assert await sync.status(ONE) == "active"


@pytest.mark.parametrize("how", ["trash", "force", "empty"])
@pytest.mark.parametrize("running", [True, False])
async def test_row_07_a_deleted_assets_file_goes_to_quarantine(sync: Harness, how: str, *, running: bool) -> None:
    sync.put("Camera/a.png", ONE)
    sync.put("Camera/b.png", TWO)
    await sync.start()
    asset = await sync.asset(ONE)
    if not running:
        await sync.stop()
    await sync.trash(asset, force=how == "force")
    if how == "empty":
        await sync.empty_trash()
    await sync.immich.idle()
    if not running:
        await sync.start()
    await sync.gone("Camera/a.png")
    await sync.idle()
    assert sync.files() == {"Camera/b.png": TWO}
    assert sync.quarantined() == [ONE]
    assert list(await sync.records()) == [b"Camera/b.png"]
    assert sync.requests.count(UPLOAD) == 2


async def test_row_07_a_file_that_was_touched_meanwhile_goes_all_the_same(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    await sync.stop()
    os.utime(sync.path("a.png"))
    await sync.trash(await sync.asset(ONE), force=True)
    await sync.immich.idle()
    await sync.start()
    await sync.gone("a.png")
    assert sync.quarantined() == [ONE]


async def test_row_07_all_copies_go(sync: Harness) -> None:
    for name in ("a.png", "b.png", "Camera/c.png"):
        sync.put(name, ONE)
    await sync.start()
    assert sync.requests == [UPLOAD]
    await sync.trash(await sync.asset(ONE))
    for name in ("a.png", "b.png", "Camera/c.png"):
        await sync.gone(name)
    await sync.idle()
    assert sync.quarantined() == [ONE] * 3


async def test_row_08_a_row_that_is_gone_without_evidence_has_the_file_uploaded_again(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    old = await sync.asset(ONE)
    await sync.stop()
    await sync.connection.execute("set session_replication_role = replica")  # as a restored backup: no trigger fires
    await sync.connection.execute("delete from asset_exif")
    await sync.connection.execute("delete from asset")
    await sync.connection.execute("set session_replication_role = origin")
    await sync.start()
    await sync.becomes(ONE, "active")
    assert await sync.tied("a.png") == await sync.asset(ONE) != old
    assert sync.files() == {"a.png": ONE}
    assert sync.quarantined() == []


async def put_into_album(sync: Harness, asset: UUID) -> UUID:
    album: UUID = await sync.connection.fetchval(
        """insert into album ("ownerId", "albumName") values ($1, 'Best of') returning id""", sync.user
    )
    await sync.connection.execute('insert into album_asset ("albumId", "assetId") values ($1, $2)', album, asset)
    return album


async def albums_of(sync: Harness, asset: UUID) -> list[UUID]:
    rows = await sync.connection.fetch('select "albumId" from album_asset where "assetId" = $1', asset)
    return [row["albumId"] for row in rows]


@pytest.mark.parametrize("running", [True, False])
async def test_row_09_an_edited_file_replaces_its_asset(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    old = await sync.asset(ONE)
    album = await put_into_album(sync, old)
    await sync.connection.execute('update asset set "isFavorite" = true where id = $1', old)
    if not running:
        await sync.stop()
    sync.put("a.png", TWO)
    if not running:
        await sync.start()
    await sync.becomes(ONE, "trashed")
    await sync.becomes(TWO, "active")
    new = await sync.asset(TWO)
    await sync.idle()
    assert await sync.tied("a.png") == new
    assert await albums_of(sync, new) == [album]
    assert await sync.connection.fetchval('select "isFavorite" from asset where id = $1', new)
    assert sync.requests == [UPLOAD, UPLOAD, COPY, TRASH]
    assert await sync.deeds() == ["upload", "replace"]
    await sync.rescan()
    assert sync.files() == {"a.png": TWO}
    assert sync.quarantined() == []


async def test_row_09_the_old_asset_stays_while_another_path_holds_its_content(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)
    await sync.start()
    sync.put("a.png", TWO)
    await sync.becomes(TWO, "active")
    await sync.idle()
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert await sync.tied("b.png") == await sync.asset(ONE)
    assert await sync.status(ONE) == "active"
    assert TRASH not in sync.requests


async def test_row_09_of_copies_edited_one_after_the_other_the_last_one_counts(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)
    await sync.start()
    sync.put("a.png", TWO)
    sync.put("b.png", THREE)
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert await sync.tied("b.png") == await sync.asset(THREE)
    assert sync.requests.count(TRASH) == 1


async def test_row_09_an_edit_that_is_undone_brings_the_old_asset_back(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    old = await sync.asset(ONE)
    sync.put("a.png", TWO)
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    sync.put("a.png", ONE)
    await sync.becomes(TWO, "trashed")
    await sync.idle()
    assert await sync.tied("a.png") == old
    assert await sync.status(ONE) == "active"
    assert sync.files() == {"a.png": ONE}


async def test_row_09_to_a_content_that_was_trashed_puts_nothing_back_besides(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.trash(await sync.asset(TWO))
    await sync.gone("b.png")
    sync.immich.faults.lose_answer_next = 1
    sync.put("a.png", TWO)
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert sync.files() == {"a.png": TWO}


async def test_row_09_to_a_content_that_immich_has_needs_no_upload(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    await sync.upload(TWO)
    before = sync.requests.count(UPLOAD)
    sync.put("a.png", TWO)
    await sync.becomes(ONE, "trashed")
    assert sync.requests.count(UPLOAD) == before


async def test_row_09_without_the_permission_the_old_asset_stays_and_is_told_once(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.connection.execute("update api_key set permissions = '{asset.upload,asset.delete}'")
    await sync.start()
    sync.put("a.png", THREE)
    await sync.becomes(THREE, "active")
    await sync.idle()
    sync.put("b.png", picture(4))
    await sync.becomes(picture(4), "active")
    await sync.idle()
    assert await sync.status(ONE) == await sync.status(TWO) == "active"
    assert await sync.tied("a.png") == await sync.asset(THREE)
    assert sync.requests.count(COPY) == 1
    assert TRASH not in sync.requests
    assert "asset.copy" in (await sync.problem() or "")
    await sync.rescan()
    assert sync.files() == {"a.png": THREE, "b.png": picture(4)}


@pytest.mark.parametrize("force", [False, True])
async def test_row_10_a_change_beats_a_delete(sync: Harness, *, force: bool) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    await sync.stop()
    sync.put("a.png", TWO)
    await sync.trash(await sync.asset(ONE), force=force)
    await sync.immich.idle()
    await sync.start()
    await sync.becomes(TWO, "active")
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert await sync.status(ONE) == (None if force else "trashed")
    assert sync.files() == {"a.png": TWO}
    assert sync.quarantined() == []


@pytest.mark.parametrize("running", [True, False])
async def test_row_11_a_deleted_files_asset_goes_to_the_trash(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    if not running:
        await sync.stop()
    sync.path("a.png").unlink()
    if not running:
        await sync.start()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert await sync.status(TWO) == "active"
    assert list(await sync.records()) == [b"b.png"]
    assert sync.requests.count(TRASH) == 1


async def test_row_11_a_deleted_folders_assets_go_to_the_trash(sync: Harness) -> None:
    for number in range(9):
        sync.put(f"Camera/2026/{number}.png", picture(number))
    await sync.start()
    shutil.rmtree(sync.path("Camera"))
    for number in range(9):
        await sync.becomes(picture(number), "trashed")
    await sync.idle()
    assert await sync.records() == {}


async def test_row_12_of_two_copies_the_last_one_counts(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)
    await sync.start()
    assert sync.requests == [UPLOAD]
    sync.path("a.png").unlink()
    await sync.recorded(["b.png"])
    await sync.rescan()
    assert await sync.status(ONE) == "active"
    assert sync.requests == [UPLOAD]
    sync.path("b.png").unlink()
    await sync.becomes(ONE, "trashed")
    assert sync.requests == [UPLOAD, TRASH]


async def test_row_12_both_copies_deleted_at_once_are_one_request(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", ONE)
    await sync.start()
    sync.path("a.png").unlink()
    sync.path("b.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.requests == [UPLOAD, TRASH]


@pytest.mark.parametrize(
    ("old", "new"), [("a.png", "b.png"), ("b.png", "a.png"), ("Camera/a.png", "Best of/b.png"), ("x/a.png", "a.png")]
)
async def test_row_12_a_move_costs_no_request(sync: Harness, old: str, new: str) -> None:
    sync.put(old, ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    sync.path(new).parent.mkdir(exist_ok=True)
    sync.path(old).rename(sync.path(new))
    await sync.recorded([new])
    await sync.rescan()
    assert await sync.tied(new) == asset
    assert sync.requests == [UPLOAD]
    assert await sync.status(ONE) == "active"


@pytest.mark.parametrize("running", [True, False])
async def test_row_12_a_move_of_a_folder_costs_no_request(sync: Harness, *, running: bool) -> None:
    for number in range(10):
        sync.put(f"Camera/2026/{number}.png", picture(number))
    await sync.start()
    before = list(sync.requests)
    if not running:
        await sync.stop()
    sync.path("Camera").rename(sync.path("Zoo"))
    if not running:
        await sync.start()
    await sync.recorded([f"Zoo/2026/{number}.png" for number in range(10)])
    await sync.rescan()
    assert sync.requests == before
    assert set((await sync.records()).values()) == {await sync.asset(picture(number)) for number in range(10)}


async def test_row_12_a_move_by_copying_costs_no_request(sync: Harness) -> None:
    sync.put("Camera/a.png", ONE)
    await sync.start()
    sync.put("Best of/a.png", ONE)
    sync.path("Camera/a.png").unlink()
    await sync.recorded(["Best of/a.png"])
    await sync.rescan()
    assert sync.requests == [UPLOAD]
    assert await sync.status(ONE) == "active"


@pytest.mark.parametrize("running", [True, False])
async def test_row_12_swapped_names_cost_no_request(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    before = list(sync.requests)
    if not running:
        await sync.stop()
    sync.path("a.png").rename(sync.path(".aside"))
    sync.path("b.png").rename(sync.path("a.png"))
    sync.path(".aside").rename(sync.path("b.png"))
    if not running:
        await sync.start()
    await sync.rescan()
    assert sync.requests == before
    assert await sync.status(ONE) == await sync.status(TWO) == "active"
    assert sync.files() == {"a.png": TWO, "b.png": ONE}


async def test_row_13_an_old_asset_stays_when_its_file_is_deleted(sync: Harness) -> None:
    sync.change(delete_threshold=30)
    sync.put("old.png", ONE)
    sync.put("young.png", TWO)
    await sync.start()
    await sync.connection.execute(
        """update asset set "createdAt" = now() - interval '31 days' where id = $1""", await sync.asset(ONE)
    )
    sync.path("old.png").unlink()
    sync.path("young.png").unlink()
    await sync.becomes(TWO, "trashed")
    await sync.idle()
    assert await sync.status(ONE) == "active"
    assert await sync.records() == {}
    assert sync.requests.count(TRASH) == 1


@pytest.mark.parametrize("protection", ["favourites", "albums"])
async def test_row_13_a_protected_asset_stays_when_its_file_is_deleted(sync: Harness, protection: str) -> None:
    sync.change(protect=frozenset({protection}))
    sync.put("kept.png", ONE)
    sync.put("other.png", TWO)
    sync.put("more.png", THREE)
    await sync.start()
    kept = await sync.asset(ONE)
    if protection == "albums":
        await put_into_album(sync, kept)
    else:
        await sync.connection.execute('update asset set "isFavorite" = true where id = $1', kept)
    sync.path("kept.png").unlink()
    sync.path("other.png").unlink()
    await sync.becomes(TWO, "trashed")
    await sync.idle()
    assert await sync.status(ONE) == "active"
    assert await sync.records() == {b"more.png": await sync.asset(THREE)}
    assert "release" in await sync.deeds()


@pytest.mark.parametrize("force", [False, True])
async def test_row_14_gone_on_both_sides_ends_the_record(sync: Harness, *, force: bool) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    await sync.stop()
    sync.path("a.png").unlink()
    await sync.trash(await sync.asset(ONE), force=force)
    await sync.immich.idle()
    before = list(sync.requests)
    await sync.start()
    await sync.recorded([])
    assert sync.requests == before


@pytest.mark.parametrize("running", [True, False])
async def test_row_15_a_restored_assets_files_come_back_as_they_were(sync: Harness, *, running: bool) -> None:
    names = ["a.png", "Camera/2026/b.png", "Camera/c.png"]
    for name in names:
        sync.put(name, ONE)
    sync.put("Camera/2026/other.png", TWO)
    await sync.start()
    times = {name: sync.path(name).stat().st_mtime_ns for name in names}
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    for name in names:
        await sync.gone(name)
    await sync.idle()
    if not running:
        await sync.stop()
    await sync.restore(asset)
    if not running:
        await sync.start()
    for name in names:
        await sync.there(name, ONE)
    await sync.idle()
    assert {name: sync.path(name).stat().st_mtime_ns for name in names} == times
    assert sync.quarantined() == []
    assert await sync.records() == {
        **{name.encode(): asset for name in names},
        b"Camera/2026/other.png": await sync.asset(TWO),
    }
    await sync.rescan()
    assert sync.requests == [UPLOAD, UPLOAD, TRASH, RESTORE]


async def test_row_15_to_an_occupied_path_it_comes_back_beside_it(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a.png")
    sync.put("a.png", TWO)
    await sync.tied("a.png")
    await sync.restore(asset)
    await sync.there("a (restored).png", ONE)
    await sync.idle()
    assert sync.files() == {"a.png": TWO, "a (restored).png": ONE}
    assert await sync.status(ONE) == await sync.status(TWO) == "active"


async def test_row_15_while_another_file_is_arriving_at_its_path(
    library_url: str, immich_version: ImmichVersion
) -> None:
    async with harness(library_url, immich_version, settle_time=1.0) as sync:
        sync.put("a.png", ONE)
        await sync.start()
        asset = await sync.asset(ONE)
        await sync.trash(asset)
        await sync.gone("a.png")
        await sync.idle()
        sync.path("a.png").write_bytes(TWO)  # not settled for a second
        await sync.restore(asset)
        await sync.there("a (restored).png", ONE)
        assert await sync.tied("a.png") == await sync.asset(TWO)


async def test_row_15_after_the_picture_was_put_back_by_hand_nothing_comes_back_twice(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    sync.put("b.png", ONE)
    await sync.becomes(ONE, "active")
    await sync.rescan()
    assert sync.files() == {"b.png": ONE}


async def test_row_15_still_works_after_files_were_taken_out_of_quarantine_by_hand(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    (taken,) = (sync.folder / ".immich-dbsync" / "quarantine").rglob("a.png")
    taken.rename(sync.path("a.png"))
    await sync.becomes(ONE, "active")
    await sync.tied("a.png")
    await sync.idle()
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    await sync.restore(asset)
    await sync.there("a.png", ONE)


async def test_row_16_is_purged_once_it_is_gone_for_good_and_the_retention_is_over(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.trash(await sync.asset(ONE))
    await sync.trash(await sync.asset(TWO))
    await sync.gone("b.png")
    await sync.idle()
    await sync.connection.execute(
        "update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '31 days' where path = 'a.png'"
    )
    await sync.rescan()
    assert sync.quarantined() == sorted([ONE, TWO])  # their assets may yet be restored
    await sync.empty_trash()
    await sync.idle()
    await sync.rescan()
    assert sync.quarantined() == [TWO]  # its retention is not over
    assert (await sync.deeds()).count("purge") == 1
    place = sync.folder / ".immich-dbsync" / "quarantine"
    assert not list(place.rglob("a.png"))


@pytest.mark.parametrize("setting", ["for ever", "a row without evidence"])
async def test_row_16_nothing_is_purged_without_both(sync: Harness, setting: str) -> None:
    if setting == "for ever":
        sync.change(quarantine_retention=0)
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    if setting == "for ever":
        await sync.empty_trash()
    else:  # a restored backup, say
        await sync.connection.execute("set session_replication_role = replica")
        await sync.connection.execute("delete from asset where id = $1", asset)
        await sync.connection.execute("set session_replication_role = origin")
    await sync.connection.execute("update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '99 days'")
    await sync.rescan()
    await sync.restart()
    assert sync.quarantined() == [ONE]


async def test_row_17_files_of_a_deleted_user_stay(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("Camera/b.png", TWO)
    await sync.start()
    await delete_user(sync.connection, sync.user)
    await sync.becomes(ONE, None)
    await sync.rescan()
    sync.put("c.png", THREE)
    await sync.rescan()
    assert sync.files() == {"a.png": ONE, "Camera/b.png": TWO, "c.png": THREE}
    assert sync.quarantined() == []
    assert sync.requests == [UPLOAD] * 2


async def test_row_17_a_user_marked_as_deleted_loses_nothing(sync: Harness) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.connection.execute(
        """update "user" set status = 'deleted', "deletedAt" = now() where id = $1""", sync.user
    )
    asset = await sync.asset(ONE)
    await sync.connection.execute("""update asset set status = 'trashed', "deletedAt" = now() where id = $1""", asset)
    sync.path("b.png").unlink()
    await sync.rescan()
    assert sync.files() == {"a.png": ONE}
    assert await sync.status(TWO) == "active"


async def test_nested_new_folders_with_files_at_once(sync: Harness) -> None:
    await sync.start()
    for number in range(5):
        sync.put(f"a/b/c/d{number}/e/f.png", picture(number))
    for number in range(5):
        await sync.tied(f"a/b/c/d{number}/e/f.png")


async def test_hidden_folders_and_what_is_no_media_are_left_alone(sync: Harness) -> None:
    for name in (".stversions/a.png", ".hidden.png", "Camera/.b/c.png", ".syncthing.d.png.tmp", "e.png.part", "f.txt"):
        sync.put(name, ONE)
    sync.put("empty.png", b"")
    sync.put("g.png.xmp", b"<xmp/>")
    await sync.start()
    sync.put(".trash/h.png", TWO)
    sync.put("i.pdf", TWO)
    await sync.rescan()
    assert sync.requests == []
    assert await sync.records() == {}


async def test_any_name_that_linux_allows(sync: Harness) -> None:
    names = [b"\xff\xfe.png", b"n" * 251 + b".png", "Grüße aus Köln.png".encode(), b'a"b\n\r\t\\.png', b"\xe9/\xff.png"]
    for number, name in enumerate(names):
        sync.put(name, picture(number))
    await sync.start()
    late = b"late \xff.png"
    sync.put(late, picture(99))
    assert await sync.tied(late) == await sync.asset(picture(99))
    for number, name in enumerate(names):
        assert await sync.tied(name) == await sync.asset(picture(number))
        await sync.trash(await sync.asset(picture(number)))
        await sync.gone(name)
    await sync.idle()
    await sync.restore(*[await sync.asset(picture(number)) for number in range(len(names))])
    for number, name in enumerate(names):
        await sync.there(name, picture(number))
    sync.path(late).unlink()
    await sync.becomes(picture(99), "trashed")


async def test_assets_of_external_libraries_are_never_touched(sync: Harness) -> None:
    library = await sync.connection.fetchval(
        """insert into library ("exclusionPatterns", "importPaths", name, "ownerId") values ('{}', '{}', 'l', $1)
           returning id""",
        sync.user,
    )
    other = await sync.upload(ONE)
    await sync.connection.execute('update asset set "libraryId" = $1 where id = $2', library, other)
    sync.put("a.png", ONE)
    await sync.start()
    own = await sync.tied("a.png")
    assert own != other
    await sync.trash(other)
    await sync.rescan()
    assert sync.files() == {"a.png": ONE}
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    await sync.restore(other)
    await sync.rescan()
    assert sync.files() == {}


async def test_the_same_file_after_a_deletion_for_good_is_uploaded_anew(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    old = await sync.asset(ONE)
    await sync.trash(old, force=True)
    await sync.gone("a.png")
    await sync.immich.idle()
    await sync.idle()
    sync.put("a.png", ONE)
    await sync.becomes(ONE, "active")
    assert await sync.tied("a.png") == await sync.asset(ONE) != old
    await sync.idle()
    assert sync.files() == {"a.png": ONE}


async def test_a_locked_asset_in_a_batch_does_not_keep_the_others(sync: Harness) -> None:
    for number in range(8):
        sync.put(f"{number}.png", picture(number))
    await sync.start()
    await sync.connection.execute("update asset set visibility = 'locked' where id = $1", await sync.asset(picture(3)))
    for number in range(8):
        sync.path(f"{number}.png").unlink()
    for number in {*range(8)} - {3}:
        await sync.becomes(picture(number), "trashed")
    assert await sync.status(picture(3)) == "active"
    # The batch, and the halves down to the one; then a second at least until it is tried again.
    assert sync.requests.count(TRASH) <= 2 * 7
    await sync.recorded(["3.png"])


async def test_echoes_of_our_own_requests_cause_nothing(sync: Harness) -> None:
    for number in range(6):
        sync.put(f"{number}.png", picture(number))
    await sync.start()
    aside = sync.stage.home / "aside"
    aside.mkdir()
    for number in range(6):
        sync.path(f"{number}.png").rename(aside / f"{number}.png")
    for number in range(6):
        await sync.becomes(picture(number), "trashed")
    await sync.idle()
    for number in range(6):
        (aside / f"{number}.png").rename(sync.path(f"{number}.png"))
    for number in range(6):
        await sync.becomes(picture(number), "active")
        await sync.tied(f"{number}.png")
    await sync.idle()
    assert await sync.deeds("trash") == ["trash"] * 6
    assert await sync.deeds("restore") == ["restore"] * 6
    assert await sync.deeds("quarantine") == await sync.deeds("put back") == []
    assert sync.requests.count(UPLOAD) == 6
    assert sync.requests.count(TRASH) <= 6
    assert sync.requests.count(RESTORE) <= 6


async def test_a_web_deletion_soon_after_our_own_one_was_undone_counts(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    sync.put("a.png", ONE)
    await sync.becomes(ONE, "active")
    await sync.idle()
    await sync.trash(await sync.asset(ONE))
    await sync.gone("a.png")
    await sync.idle()
    assert await sync.status(ONE) == "trashed"
    assert sync.quarantined() == [ONE]


async def test_what_is_hashed_is_hashed_once(sync: Harness) -> None:
    for number in range(5):
        sync.put(f"{number}.png", picture(number))
    await sync.start()
    await sync.rescan()
    assert sorted(sync.reads.sha1) == [b"%d.png" % number for number in range(5)]
