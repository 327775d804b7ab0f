"""*Came after*: a file whose asset is in the trash comes, or comes back. Also by the names of Android's own trash."""

import os
import time
from collections.abc import Sequence

import pytest

from immich_dbsync.immich.api import Server
from immich_dbsync.model import AssetId
from immich_dbsync.service import rounds
from tests.integration.harness import Harness, picture, until

ONE, TWO = picture(1), picture(2)
TRASHED = ".trashed-1766750000-"  # until when Android keeps it
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")
RESTORE = ("POST", "/api/trash/restore/assets")


def rename(sync: Harness, old: str, new: str) -> None:
    sync.path(old).rename(sync.path(new))


async def a_tick(sync: Harness) -> None:
    """Return when what is written from now on has a later ctime: those move with the kernel's tick."""
    now, probe = time.time_ns(), sync.stage.home / "probe"
    probe.touch()

    async def check() -> bool:
        os.utime(probe)
        return probe.stat().st_ctime_ns > now

    await until(check)


@pytest.mark.parametrize("stopped", ["there", "back", "both"])
async def test_android_trash_across_a_restart_is_row_11_and_back_is_row_3(sync: Harness, stopped: str) -> None:
    """While the service runs it is in test_rows.py."""
    sync.put("DCIM/IMG.jpg", ONE)
    sync.put("DCIM/IMG_2.jpg", TWO)
    await sync.start()
    asset = await sync.asset(ONE)
    if stopped != "back":
        await sync.stop()
    rename(sync, "DCIM/IMG.jpg", f"DCIM/{TRASHED}IMG.jpg")
    if stopped != "back":
        await sync.start()
    await sync.becomes(ONE, "trashed")
    await sync.recorded(["DCIM/IMG_2.jpg"])
    await sync.idle()
    if stopped != "there":
        await sync.stop()
    rename(sync, f"DCIM/{TRASHED}IMG.jpg", "DCIM/IMG.jpg")
    if stopped != "there":
        await sync.start()
    await sync.becomes(ONE, "active")
    assert await sync.tied("DCIM/IMG.jpg") == asset
    await sync.rescan()
    assert sync.requests == [UPLOAD, UPLOAD, TRASH, RESTORE]
    assert sync.files() == {"DCIM/IMG.jpg": ONE, "DCIM/IMG_2.jpg": TWO}
    assert await sync.deeds() == ["upload", "upload", "trash", "restore"]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("how", ["file by file", "the folder itself"])
async def test_android_trash_of_a_whole_folder_is_row_11_and_back_is_row_3(
    sync: Harness, how: str, *, running: bool
) -> None:
    """A folder's own name says so for all that is in it, whose ctimes stay as they were."""
    contents = {f"DCIM/{number}.jpg": picture(number) for number in range(4)}
    for name, content in contents.items():
        sync.put(name, content)
    await sync.start()
    if how == "file by file":
        moves = [(name, name.replace("DCIM/", "DCIM/" + TRASHED)) for name in contents]
    else:
        moves = [("DCIM", TRASHED + "DCIM")]
    if not running:
        await sync.stop()
    for old, new in moves:
        rename(sync, old, new)
    if not running:
        await sync.start()
    for content in contents.values():
        await sync.becomes(content, "trashed")
    await sync.idle()
    assert await sync.records() == {}
    if not running:
        await sync.stop()
    for old, new in moves:
        rename(sync, new, old)
    if not running:
        await sync.start()
    for name, content in contents.items():
        await sync.becomes(content, "active")
        assert await sync.tied(name) == await sync.asset(content)
    await sync.idle()
    assert sync.files() == contents
    assert sync.requests.count(UPLOAD) == 4
    assert await sync.deeds("restore") == ["restore"] * 4


async def test_android_trash_and_back_within_the_grace_costs_nothing(sync: Harness) -> None:
    sync.put("IMG.jpg", ONE)
    await sync.start()
    rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
    await sync.rescan()
    assert sync.requests == [UPLOAD]
    assert sync.reads.sha1 == [b"IMG.jpg"]
    assert await sync.tied("IMG.jpg") == await sync.asset(ONE)


async def test_android_trash_and_back_under_another_name_is_row_3(sync: Harness) -> None:
    sync.put("DCIM/IMG.jpg", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    rename(sync, "DCIM/IMG.jpg", f"DCIM/{TRASHED}IMG.jpg")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    rename(sync, f"DCIM/{TRASHED}IMG.jpg", "IMG~2.jpg")
    await sync.becomes(ONE, "active")
    assert await sync.tied("IMG~2.jpg") == asset
    await sync.recorded(["IMG~2.jpg"])
    assert sync.requests == [UPLOAD, TRASH, RESTORE]


async def test_android_trash_of_one_of_two_copies_is_row_12_and_back_is_row_2(sync: Harness) -> None:
    sync.put("IMG.jpg", ONE)
    sync.put("copy.jpg", ONE)
    await sync.start()
    rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    await sync.recorded(["copy.jpg"])
    rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
    await sync.tied("IMG.jpg")
    await sync.rescan()
    assert sync.requests == [UPLOAD]


async def test_android_trash_of_an_old_picture_is_row_13_and_back_is_row_2(sync: Harness) -> None:
    sync.change(delete_threshold=30)
    sync.put("IMG.jpg", ONE)
    await sync.start()
    await sync.connection.execute("""update asset set "createdAt" = now() - interval '31 days'""")
    rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    await sync.recorded([])
    rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
    assert await sync.tied("IMG.jpg") == await sync.asset(ONE)
    await sync.rescan()
    assert sync.requests == [UPLOAD]
    assert await sync.deeds() == ["upload", "release", "adopt"]


@pytest.mark.parametrize("first", ["phone", "web"])
async def test_android_trash_of_what_the_web_trashed_meanwhile_is_row_14_and_back_is_row_3(
    sync: Harness, first: str
) -> None:
    """Whichever was first: it came back after its asset was trashed."""
    sync.put("IMG.jpg", ONE)
    sync.put("other.jpg", TWO)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.stop()
    if first == "phone":
        rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    await sync.trash(asset)
    await a_tick(sync)
    if first == "web":
        rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    await sync.start()
    await sync.recorded(["other.jpg"])
    assert await sync.status(ONE) == "trashed"
    assert sync.requests == [UPLOAD, UPLOAD, TRASH]  # the web's
    assert sync.quarantined() == []
    rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
    await sync.becomes(ONE, "active")
    assert await sync.tied("IMG.jpg") == asset
    await sync.rescan()
    assert sync.files() == {"IMG.jpg": ONE, "other.jpg": TWO}
    assert sync.requests == [UPLOAD, UPLOAD, TRASH, RESTORE]


@pytest.mark.parametrize("running", [True, False])
async def test_android_trash_whose_asset_was_restored_in_the_web_meanwhile_is_row_2_when_back(
    sync: Harness, *, running: bool
) -> None:
    """Nothing comes back by itself: the file was not in quarantine."""
    sync.put("IMG.jpg", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    if not running:
        await sync.stop()
    await sync.restore(asset)
    if running:
        await sync.rescan()
        assert sync.files() == {}
    rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
    if not running:
        await sync.start()
    assert await sync.tied("IMG.jpg") == asset
    await sync.rescan()
    assert sync.requests == [UPLOAD, TRASH, RESTORE]  # the last is the web's
    assert await sync.status(ONE) == "active"


@pytest.mark.parametrize("running", [True, False])
async def test_android_trash_whose_asset_was_deleted_for_good_meanwhile_is_row_1_when_back(
    sync: Harness, *, running: bool
) -> None:
    sync.put("IMG.jpg", ONE)
    await sync.start()
    old = await sync.asset(ONE)
    rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    if not running:
        await sync.stop()
    await sync.empty_trash()
    rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
    if not running:
        await sync.start()
    await sync.becomes(ONE, "active")
    assert await sync.tied("IMG.jpg") == await sync.asset(ONE) != old
    await sync.rescan()
    assert sync.files() == {"IMG.jpg": ONE}
    assert sync.quarantined() == []
    assert sync.requests.count(UPLOAD) == 2


async def test_android_trash_twice_over(sync: Harness) -> None:
    """Row 11 counts again after row 3."""
    sync.put("IMG.jpg", ONE)
    await sync.start()
    for _ in range(2):
        rename(sync, "IMG.jpg", f"{TRASHED}IMG.jpg")
        await sync.becomes(ONE, "trashed")
        await sync.idle()
        rename(sync, f"{TRASHED}IMG.jpg", "IMG.jpg")
        await sync.becomes(ONE, "active")
        await sync.tied("IMG.jpg")
        await sync.idle()
    assert sync.requests == [UPLOAD, TRASH, RESTORE, TRASH, RESTORE]


@pytest.mark.parametrize("came", ["before", "after"])
async def test_came_while_the_service_was_stopped(sync: Harness, came: str) -> None:
    """The ctime decides, whatever the mtime says."""
    await sync.start()
    asset = await sync.upload(ONE)
    await sync.stop()
    if came == "before":
        sync.put("a.png", ONE, mtime_ns=4_000_000_000 * 10**9)
    await sync.trash(asset)
    await a_tick(sync)
    if came == "after":
        sync.put("a.png", ONE, mtime_ns=10**9)
    await sync.start()
    await sync.rescan()
    if came == "before":
        assert sync.files() == {}
        assert sync.quarantined() == [ONE]
        assert await sync.status(ONE) == "trashed"
    else:
        assert sync.files() == {"a.png": ONE}
        assert await sync.tied("a.png") == asset
        assert await sync.status(ONE) == "active"
    assert sync.requests.count(RESTORE) == (came == "after")


@pytest.mark.parametrize("written", ["before", "after"])
async def test_came_as_the_same_bytes_in_another_file_at_its_path(sync: Harness, written: str) -> None:
    """As a sync tool sends them again."""
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.stop()
    if written == "before":
        sync.put("a.png", ONE)
    await sync.trash(asset)
    await a_tick(sync)
    if written == "after":
        sync.put("a.png", ONE)
    await sync.start()
    await sync.rescan()
    if written == "before":
        assert (sync.files(), sync.quarantined()) == ({}, [ONE])
    else:
        assert (sync.files(), sync.quarantined()) == ({"a.png": ONE}, [])
    assert await sync.status(ONE) == ("trashed" if written == "before" else "active")


@pytest.mark.parametrize("running", [True, False])
async def test_came_at_another_path_beside_the_one_in_quarantine(sync: Harness, *, running: bool) -> None:
    """Row 3 for the new path; the old file is not put back besides, for it is at hand."""
    sync.put("Camera/a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("Camera/a.png")
    await sync.idle()
    if not running:
        await sync.stop()
    sync.put("Best/a.png", ONE)
    if not running:
        await sync.start()
    await sync.becomes(ONE, "active")
    assert await sync.tied("Best/a.png") == asset
    await sync.rescan()
    assert sync.files() == {"Best/a.png": ONE, "b.png": TWO}
    assert sync.requests.count(UPLOAD) == 2


async def test_came_before_is_not_undone_by_a_touch(sync: Harness) -> None:
    """A ctime that a chmod moved, of a file that was recorded, does not make it come after."""
    sync.put("a.png", ONE)
    await sync.start()
    await sync.stop()
    await sync.trash(await sync.asset(ONE))
    sync.path("a.png").chmod(0o600)
    os.utime(sync.path("a.png"))
    await sync.start()
    await sync.rescan()
    assert sync.quarantined() == [ONE]
    assert RESTORE not in sync.requests


async def test_a_file_that_left_and_came_back_is_row_3_though_all_was_compared_during_the_request(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose asset is not in the trash yet is no request that is over."""
    sync.put("a/IMG.jpg", ONE)
    sync.put("b.jpg", TWO)
    await sync.start()

    async def trash(server: Server, key: str, assets: Sequence[AssetId]) -> None:
        await rounds.catch_up(sync.owner())
        await ask(server, key, assets)

    ask = Server.trash
    monkeypatch.setattr(Server, "trash", trash)
    aside = sync.stage.home / "aside"
    sync.path("a").rename(aside)
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    aside.rename(sync.path("a"))  # the file's ctime stays
    await sync.becomes(ONE, "active")
    assert await sync.tied("a/IMG.jpg") == await sync.asset(ONE)
    assert sync.files() == {"a/IMG.jpg": ONE, "b.jpg": TWO}
