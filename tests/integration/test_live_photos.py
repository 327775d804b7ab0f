"""Live photos: the still's fate decides the file of its video too."""

from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from tests.integration.harness import Harness, harness, picture

STILL, OTHER = picture(1), picture(2)
VIDEO = b"\0\0\0\x14ftypqt  " + b"motion" * 100
BOTH = {"Camera/IMG_1.heic": STILL, "Camera/IMG_1.mov": VIDEO}
ELSE = {"Camera/other.png": OTHER}
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")
RESTORE = ("POST", "/api/trash/restore/assets")

running_or_stopped = pytest.mark.parametrize("running", [True, False])


@pytest.fixture
async def sync(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    """With a live photo and another picture in the folder and in Immich."""
    async with harness(library_url, immich_version) as made:
        for name, content in {**BOTH, **ELSE}.items():
            made.put(name, content)
        await made.start()
        await made.link_live_photo(await made.asset(STILL), await made.asset(VIDEO))
        assert made.requests == [UPLOAD] * 3
        yield made


async def hidden(sync: Harness) -> bool:
    """Whether the video's asset is active and hidden, as trashing its still leaves it."""
    found: bool = await sync.connection.fetchval(
        "select status = 'active' and visibility = 'hidden' from asset where id = $1", await sync.asset(VIDEO)
    )
    return found


async def left(sync: Harness, names: Sequence[str]) -> None:
    """Return when these files have left the folder and all is done."""
    for name in names:
        await sync.gone(name)
    await sync.idle()


async def back(sync: Harness, files: Mapping[str, bytes], asset_of: Mapping[str, UUID]) -> None:
    """Return when these files are there; nothing else is, but the other picture, and each is tied to its asset."""
    for name, content in files.items():
        await sync.there(name, content)
    await sync.idle()
    assert sync.files() == {**files, **ELSE}
    for name, asset in asset_of.items():
        assert await sync.tied(name) == asset


@running_or_stopped
async def test_live_photo_whose_still_is_trashed_leaves_and_restored_comes_back(
    sync: Harness, *, running: bool
) -> None:
    still, video = await sync.asset(STILL), await sync.asset(VIDEO)
    times = {name: sync.path(name).stat().st_mtime_ns for name in BOTH}
    if not running:
        await sync.stop()
    await sync.trash(still)
    if not running:
        await sync.start()
    await left(sync, [*BOTH])
    assert sync.files() == ELSE
    assert sync.quarantined() == sorted([STILL, VIDEO])
    assert await hidden(sync)
    await sync.rescan()
    assert sync.quarantined() == sorted([STILL, VIDEO])
    if not running:
        await sync.stop()
    await sync.restore(still)
    if not running:
        await sync.start()
    await back(sync, BOTH, {"Camera/IMG_1.heic": still, "Camera/IMG_1.mov": video})
    assert {name: sync.path(name).stat().st_mtime_ns for name in BOTH} == times
    assert sync.quarantined() == []
    await sync.rescan()
    assert sync.requests == [*[UPLOAD] * 3, TRASH, RESTORE]  # the last two are the web's


@pytest.mark.parametrize("how", ["force", "empty"])
@running_or_stopped
async def test_live_photo_whose_still_is_deleted_for_good_leaves(sync: Harness, how: str, *, running: bool) -> None:
    """Immich deletes the video from `active`."""
    still = await sync.asset(STILL)
    if not running:
        await sync.stop()
    await sync.trash(still, force=how == "force")
    if how == "empty":
        await sync.empty_trash()
    await sync.immich.idle()
    assert await sync.status(VIDEO) is None
    if not running:
        await sync.start()
    await left(sync, [*BOTH])
    await sync.rescan()
    assert sync.files() == ELSE
    assert sync.quarantined() == sorted([STILL, VIDEO])
    assert list(await sync.records()) == [b"Camera/other.png"]
    assert sync.requests.count(UPLOAD) == 3


@running_or_stopped
async def test_live_photo_whose_video_alone_leaves_the_folder_trashes_nothing(sync: Harness, *, running: bool) -> None:
    video = await sync.asset(VIDEO)
    before = list(sync.requests)
    if not running:
        await sync.stop()
    sync.path("Camera/IMG_1.mov").unlink()
    if not running:
        await sync.start()
    await sync.recorded(["Camera/IMG_1.heic", "Camera/other.png"])
    await sync.rescan()
    assert await sync.status(STILL) == "active"
    assert await hidden(sync)
    assert "release" in await sync.deeds()
    if not running:
        await sync.stop()
    sync.put("Camera/IMG_1.mov", VIDEO)
    if not running:
        await sync.start()
    await back(sync, BOTH, {"Camera/IMG_1.mov": video})
    assert sync.requests == before


@running_or_stopped
async def test_live_photo_whose_still_alone_leaves_the_folder_is_trashed_and_its_video_follows(
    sync: Harness, *, running: bool
) -> None:
    still = await sync.asset(STILL)
    if not running:
        await sync.stop()
    sync.path("Camera/IMG_1.heic").unlink()
    if not running:
        await sync.start()
    await sync.becomes(STILL, "trashed")
    await left(sync, ["Camera/IMG_1.mov"])
    assert sync.files() == ELSE
    assert sync.quarantined() == [VIDEO]
    assert await hidden(sync)
    assert sync.requests == [*[UPLOAD] * 3, TRASH]
    if not running:
        await sync.stop()
    sync.put("Camera/IMG_1.heic", STILL)
    if not running:
        await sync.start()
    await sync.becomes(STILL, "active")
    await back(sync, BOTH, {"Camera/IMG_1.heic": still, "Camera/IMG_1.mov": await sync.asset(VIDEO)})
    assert sync.requests == [*[UPLOAD] * 3, TRASH, RESTORE]


@running_or_stopped
async def test_live_photo_both_of_whose_files_leave_the_folder_has_its_still_trashed_alone(
    sync: Harness, *, running: bool
) -> None:
    still, video = await sync.asset(STILL), await sync.asset(VIDEO)
    if not running:
        await sync.stop()
    for name in BOTH:
        sync.path(name).unlink()
    if not running:
        await sync.start()
    await sync.becomes(STILL, "trashed")
    await sync.recorded(["Camera/other.png"])
    await sync.rescan()
    assert await hidden(sync)
    assert await sync.deeds("trash") == ["trash"]
    assert sync.requests == [*[UPLOAD] * 3, TRASH]
    if not running:
        await sync.stop()
    for name, content in BOTH.items():
        sync.put(name, content)
    if not running:
        await sync.start()
    await sync.becomes(STILL, "active")
    await back(sync, BOTH, {"Camera/IMG_1.heic": still, "Camera/IMG_1.mov": video})
    await sync.rescan()
    assert sync.files() == {**BOTH, **ELSE}
    assert sync.requests == [*[UPLOAD] * 3, TRASH, RESTORE]


async def test_live_photo_whose_video_comes_back_before_its_still(sync: Harness) -> None:
    """The still came back later; the video stays where it is meanwhile."""
    for name in BOTH:
        sync.path(name).unlink()
    await sync.becomes(STILL, "trashed")
    await sync.recorded(["Camera/other.png"])
    await sync.idle()
    sync.put("Camera/IMG_1.mov", VIDEO)
    await sync.rescan()
    assert sync.files() == {"Camera/IMG_1.mov": VIDEO, **ELSE}
    sync.put("Camera/IMG_1.heic", STILL)
    await sync.becomes(STILL, "active")
    await back(sync, BOTH, {"Camera/IMG_1.mov": await sync.asset(VIDEO)})


@running_or_stopped
async def test_live_photo_that_is_moved_costs_nothing(sync: Harness, *, running: bool) -> None:
    before, hashed = list(sync.requests), list(sync.reads.sha1)
    if not running:
        await sync.stop()
    sync.path("Best").mkdir()
    for name in ("IMG_1.heic", "IMG_1.mov"):
        sync.path(f"Camera/{name}").rename(sync.path(f"Best/{name}"))
    if not running:
        await sync.start()
    await sync.recorded(["Best/IMG_1.heic", "Best/IMG_1.mov", "Camera/other.png"])
    await sync.rescan()
    assert sync.requests == before
    assert sync.reads.sha1 == hashed
    still = await sync.asset(STILL)
    await sync.trash(still)
    await left(sync, ["Best/IMG_1.heic", "Best/IMG_1.mov"])
    await sync.restore(still)
    await back(sync, {"Best/IMG_1.heic": STILL, "Best/IMG_1.mov": VIDEO}, {})


@running_or_stopped
async def test_live_photo_whose_video_was_renamed_when_its_still_is_trashed(sync: Harness, *, running: bool) -> None:
    """It leaves from where it is, and comes back there."""
    still = await sync.asset(STILL)
    if not running:
        await sync.stop()
    sync.path("Camera/IMG_1.mov").rename(sync.path("moved.mov"))
    if running:
        await sync.tied("moved.mov")
    await sync.trash(still)
    if not running:
        await sync.start()
    await left(sync, ["moved.mov", "Camera/IMG_1.heic"])
    await sync.recorded(["Camera/other.png"])
    assert sync.files() == ELSE
    assert sync.quarantined() == sorted([STILL, VIDEO])
    await sync.restore(still)
    await back(sync, {"Camera/IMG_1.heic": STILL, "moved.mov": VIDEO}, {})


@running_or_stopped
async def test_live_photo_of_which_only_the_video_is_in_the_folder(sync: Harness, *, running: bool) -> None:
    """No path is tied to the still, which decides all the same."""
    sync.change(policy="archive")
    await sync.restart()
    still = await sync.asset(STILL)
    sync.path("Camera/IMG_1.heic").unlink()
    await sync.recorded(["Camera/IMG_1.mov", "Camera/other.png"])
    await sync.idle()
    assert await sync.status(STILL) == "active"
    if not running:
        await sync.stop()
    await sync.trash(still)
    if not running:
        await sync.start()
    await left(sync, ["Camera/IMG_1.mov"])
    assert sync.quarantined() == [VIDEO]
    if not running:
        await sync.stop()
    await sync.restore(still)
    if not running:
        await sync.start()
    await back(sync, {"Camera/IMG_1.mov": VIDEO}, {"Camera/IMG_1.mov": await sync.asset(VIDEO)})


async def test_live_photo_whose_video_another_still_needs_keeps_it(sync: Harness) -> None:
    second = await sync.asset(OTHER)
    await sync.link_live_photo(second, await sync.asset(VIDEO))
    await sync.trash(await sync.asset(STILL))
    await left(sync, ["Camera/IMG_1.heic"])
    await sync.rescan()
    assert sync.files() == {"Camera/IMG_1.mov": VIDEO, **ELSE}
    await sync.trash(second)
    await left(sync, ["Camera/IMG_1.mov", "Camera/other.png"])
    assert sync.quarantined() == sorted([STILL, VIDEO, OTHER])
    await sync.restore(await sync.asset(STILL), second)
    await back(sync, BOTH, {})


async def test_live_photo_with_copies_of_its_video_has_all_leave_and_come_back(sync: Harness) -> None:
    sync.put("copy.mov", VIDEO)
    await sync.tied("copy.mov")
    await sync.idle()
    still = await sync.asset(STILL)
    await sync.trash(still)
    await left(sync, [*BOTH, "copy.mov"])
    assert sync.quarantined() == sorted([STILL, VIDEO, VIDEO])
    await sync.restore(still)
    await back(sync, {**BOTH, "copy.mov": VIDEO}, {"copy.mov": await sync.asset(VIDEO)})
