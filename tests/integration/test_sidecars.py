"""Sidecars: uploaded with their picture, to quarantine with it and back with it; by itself no asset."""

import asyncio
import errno
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import pytest

from immich_dbsync.core.names import LeftAlone, NameRules
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.sidecars import left_behind
from immich_dbsync.model import RelPath
from immich_dbsync.service import carry_out
from immich_dbsync.store.records import Store
from tests.integration.harness import Harness, picture

ONE, TWO = picture(1), picture(2)
XMP, XMP_2 = b"<x:xmpmeta>one</x:xmpmeta>", b"<x:xmpmeta>two</x:xmpmeta>"
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")
RESTORE = ("POST", "/api/trash/restore/assets")

running_or_stopped = pytest.mark.parametrize("running", [True, False])
both_names = pytest.mark.parametrize("name", ["IMG.jpg.xmp", "IMG.xmp"])


class PowerCutError(Exception):
    """The end, at a chosen point."""


def power_cut(*arguments: object, **options: object) -> None:
    del arguments, options
    raise PowerCutError


async def sidecar_in_immich(sync: Harness, content: bytes) -> bytes | None:
    """What Immich stored as the sidecar of the asset with this content."""
    path: str | None = await sync.connection.fetchval(
        """select path from asset_file where "assetId" = $1 and type = 'sidecar'""", await sync.asset(content)
    )
    return await asyncio.to_thread(Path(path).read_bytes) if path is not None else None


async def taken_with_its_sidecar(sync: Harness) -> UUID:
    """A picture that was trashed in Immich; it and its sidecar are in quarantine. Its asset."""
    sync.put("IMG.jpg", ONE)
    sync.put("IMG.jpg.xmp", XMP)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("IMG.jpg.xmp")
    await sync.idle()
    return asset


@both_names
@running_or_stopped
async def test_sidecar_is_uploaded_with_its_picture(sync: Harness, name: str, *, running: bool) -> None:
    if running:
        await sync.start()
    sync.put(f"Camera/{name}", XMP)
    sync.put("Camera/IMG.jpg", ONE)
    sync.put("Camera/other.jpg", TWO)
    if not running:
        await sync.start()
    await sync.becomes(ONE, "active")
    await sync.becomes(TWO, "active")
    await sync.rescan()
    assert await sidecar_in_immich(sync, ONE) == XMP
    assert await sidecar_in_immich(sync, TWO) is None
    assert await sync.status(XMP) is None
    assert sorted(await sync.records()) == [b"Camera/IMG.jpg", b"Camera/other.jpg"]
    assert sync.requests == [UPLOAD, UPLOAD]


async def test_sidecar_of_its_own_goes_before_that_of_the_stem(sync: Harness) -> None:
    sync.put("IMG.xmp", XMP)
    sync.put("IMG.dng.xmp", XMP_2)
    sync.put("IMG.jpg", ONE)
    sync.put("IMG.dng", TWO)
    await sync.start()
    assert await sidecar_in_immich(sync, ONE) == XMP
    assert await sidecar_in_immich(sync, TWO) == XMP_2


@running_or_stopped
async def test_sidecar_by_itself_is_no_asset(sync: Harness, *, running: bool) -> None:
    sync.put("IMG.jpg", ONE)
    await sync.start()
    if not running:
        await sync.stop()
    sync.put("IMG.jpg.xmp", XMP)
    sync.put("alone.xmp", XMP_2)
    if not running:
        await sync.start()
    await sync.rescan()
    sync.put("IMG.jpg.xmp", XMP_2)
    sync.path("alone.xmp").unlink()
    await sync.rescan()
    assert sync.requests == [UPLOAD]
    assert list(await sync.records()) == [b"IMG.jpg"]
    assert await sidecar_in_immich(sync, ONE) is None
    scan = await sync.connection.fetchval("select last_scan from immich_dbsync_v1.owners")
    assert json.loads(scan)["left_alone"][LeftAlone.SIDECAR.value] == 1


@both_names
@running_or_stopped
async def test_sidecar_goes_to_quarantine_and_comes_back_with_its_picture(
    sync: Harness, name: str, *, running: bool
) -> None:
    put_at = time.time_ns() - 7 * 86_400 * 10**9
    sync.put("Camera/IMG.jpg", ONE)
    sync.put(f"Camera/{name}", XMP, mtime_ns=put_at)
    sync.put("Camera/IMG_2.jpg", TWO)
    sync.put("Camera/IMG_2.jpg.xmp", XMP_2)
    await sync.start()
    before = sync.files()
    asset = await sync.asset(ONE)
    if not running:
        await sync.stop()
    await sync.trash(asset)
    if not running:
        await sync.start()
    await sync.gone("Camera/IMG.jpg")
    await sync.gone(f"Camera/{name}")
    await sync.idle()
    assert sync.files() == {"Camera/IMG_2.jpg": TWO, "Camera/IMG_2.jpg.xmp": XMP_2}
    assert sync.quarantined() == sorted([ONE, XMP])
    if not running:
        await sync.stop()
    await sync.restore(asset)
    if not running:
        await sync.start()
    await sync.there("Camera/IMG.jpg", ONE)
    await sync.there(f"Camera/{name}", XMP)
    await sync.rescan()
    assert sync.files() == before
    assert sync.path(f"Camera/{name}").stat().st_mtime_ns == put_at
    assert sync.quarantined() == []
    assert sync.requests == [UPLOAD, UPLOAD, TRASH, RESTORE]  # the last two are the web's
    assert sorted(await sync.records()) == [b"Camera/IMG.jpg", b"Camera/IMG_2.jpg"]


async def test_sidecar_of_a_picture_that_its_owner_deleted_stays(sync: Harness) -> None:
    sync.put("IMG.jpg", ONE)
    sync.put("IMG.jpg.xmp", XMP)
    await sync.start()
    sync.path("IMG.jpg").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.rescan()
    assert sync.files() == {"IMG.jpg.xmp": XMP}
    assert sync.quarantined() == []


async def test_sidecar_and_picture_moved_together_cost_nothing(sync: Harness) -> None:
    sync.put("Camera/IMG.jpg", ONE)
    sync.put("Camera/IMG.jpg.xmp", XMP)
    await sync.start()
    asset = await sync.asset(ONE)
    sync.path("Camera").rename(sync.path("Zoo"))
    await sync.recorded(["Zoo/IMG.jpg"])
    await sync.rescan()
    assert sync.requests == [UPLOAD]
    await sync.trash(asset)
    await sync.gone("Zoo/IMG.jpg.xmp")
    await sync.idle()
    assert sync.quarantined() == sorted([ONE, XMP])


@pytest.mark.parametrize("first", ["IMG.jpg", "IMG.dng"])
@pytest.mark.parametrize("restored", ["last", "both"])
async def test_sidecar_that_two_pictures_share_stays_until_the_last_leaves(
    sync: Harness, first: str, restored: str
) -> None:
    """And comes back with that one."""
    contents = {"IMG.jpg": ONE, "IMG.dng": TWO}
    last = ({*contents} - {first}).pop()
    for name, content in contents.items():
        sync.put(name, content)
    sync.put("IMG.xmp", XMP)
    await sync.start()
    assert await sidecar_in_immich(sync, ONE) == await sidecar_in_immich(sync, TWO) == XMP
    await sync.trash(await sync.asset(contents[first]))
    await sync.gone(first)
    await sync.rescan()
    assert sync.files() == {last: contents[last], "IMG.xmp": XMP}
    await sync.trash(await sync.asset(contents[last]))
    await sync.gone("IMG.xmp")
    await sync.idle()
    assert sync.files() == {}
    assert sync.quarantined() == sorted([ONE, TWO, XMP])
    names = [last] if restored == "last" else [first, last]
    await sync.restore(*[await sync.asset(contents[name]) for name in names])
    for name in names:
        await sync.there(name, contents[name])
    await sync.there("IMG.xmp", XMP)
    await sync.rescan()
    assert sync.files() == {"IMG.xmp": XMP, **{name: contents[name] for name in names}}


@running_or_stopped
async def test_sidecar_that_two_pictures_share_leaves_when_both_leave_at_once(sync: Harness, *, running: bool) -> None:
    sync.put("IMG.jpg", ONE)
    sync.put("IMG.dng", TWO)
    sync.put("IMG.xmp", XMP)
    await sync.start()
    assets = [await sync.asset(ONE), await sync.asset(TWO)]
    if not running:
        await sync.stop()
    await sync.trash(*assets)
    if not running:
        await sync.start()
    await sync.gone("IMG.xmp")
    await sync.idle()
    assert sync.files() == {}
    assert sync.quarantined() == sorted([ONE, TWO, XMP])
    await sync.restore(*assets)
    for name, content in {"IMG.jpg": ONE, "IMG.dng": TWO, "IMG.xmp": XMP}.items():
        await sync.there(name, content)
    await sync.idle()
    assert sync.quarantined() == []


@pytest.mark.parametrize("there", [XMP, XMP_2], ids=["the same", "another"])
async def test_sidecar_whose_place_is_taken_comes_back_beside_it(sync: Harness, there: bytes) -> None:
    """Not a second time where the same one is there."""
    asset = await taken_with_its_sidecar(sync)
    sync.put("IMG.jpg.xmp", there)
    await sync.restore(asset)
    await sync.there("IMG.jpg", ONE)
    await sync.rescan()
    beside = {} if there == XMP else {"IMG.jpg (restored).xmp": XMP}
    assert sync.files() == {"IMG.jpg": ONE, "IMG.jpg.xmp": there, **beside}
    assert sync.quarantined() == ([XMP] if there == XMP else [])


def test_sidecar_of_the_stem_stays_where_the_folder_can_t_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("IMG.jpg.xmp", "IMG.xmp"):
        (tmp_path / name).write_bytes(XMP)
    rules = NameRules(frozenset({".jpg"}), frozenset({".xmp"}))
    with Root(tmp_path) as root:
        assert [*left_behind(root, [RelPath(b"IMG.jpg")], rules)] == [b"IMG.jpg.xmp", b"IMG.xmp"]
        monkeypatch.setattr(os, "scandir", fails)
        assert [*left_behind(root, [RelPath(b"IMG.jpg")], rules)] == [b"IMG.jpg.xmp"]


def test_sidecars_of_many_pictures_are_found_by_listing_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = NameRules(frozenset({".jpg"}), frozenset({".xmp"}))
    pictures = [RelPath(b"%d.jpg" % number) for number in range(100)]
    for name in ("7.jpg.xmp", "8.xmp", "200.xmp"):
        (tmp_path / name).write_bytes(XMP)
    listed: list[int] = []
    listdir = os.listdir

    def counted(fd: int) -> list[str]:
        listed.append(fd)
        return listdir(fd)

    monkeypatch.setattr(os, "listdir", counted)
    with Root(tmp_path) as root:
        assert left_behind(root, pictures, rules) == {b"7.jpg.xmp": b"7.jpg", b"8.xmp": b"8.jpg"}
        assert len(listed) == 1

        def fails(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "listdir", fails)
        assert left_behind(root, pictures, rules) == {b"7.jpg.xmp": b"7.jpg", b"8.xmp": b"8.jpg"}


@pytest.mark.newest
async def test_sidecar_that_comes_back_is_compared_with_no_larger_file(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be one of terabytes: nothing else of its owner would go on for hours."""
    asset = await taken_with_its_sidecar(sync)
    sync.put("IMG.jpg.xmp", XMP + XMP)
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("it is read"))
    await sync.restore(asset)
    await sync.there("IMG.jpg (restored).xmp", XMP)
    await sync.idle()


@pytest.mark.newest
async def test_sidecar_that_grew_since_it_was_found_stays(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one of terabytes again, exchanged for it between two looks."""

    def then_grown(root: Root, paths: Iterable[RelPath], names: NameRules) -> dict[RelPath, RelPath]:
        found = left_behind(root, paths, names)
        os.truncate(sync.path("IMG.jpg.xmp"), 1 << 40)
        monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("it is read"))
        return found

    sync.put("IMG.jpg", ONE)
    sync.put("IMG.jpg.xmp", XMP)
    await sync.start()
    monkeypatch.setattr(carry_out, "left_behind", then_grown)
    await sync.trash(await sync.asset(ONE))
    await sync.gone("IMG.jpg")
    await sync.idle()
    assert sync.path("IMG.jpg.xmp").exists()


async def test_sidecar_is_purged_with_its_picture(sync: Harness) -> None:
    sync.put("IMG.jpg", ONE)
    sync.put("IMG.jpg.xmp", XMP)
    await sync.start()
    await sync.trash(await sync.asset(ONE), force=True)
    await sync.immich.idle()
    await sync.gone("IMG.jpg.xmp")
    await sync.idle()
    await sync.rescan()
    assert sync.quarantined() == sorted([ONE, XMP])
    await sync.connection.execute("update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '31 days'")
    await sync.rescan()
    assert sync.quarantined() == []


@both_names
async def test_sidecar_left_behind_by_a_crash_is_swept(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The picture was moved, the sidecar not, and the database knows of neither."""
    sync.put("IMG.jpg", ONE)
    sync.put(name, XMP)
    await sync.start()
    asset = await sync.asset(ONE)
    with monkeypatch.context() as cut:
        cut.setattr(carry_out, "take_sidecars", power_cut)
        await sync.trash(asset)
        await ended_by_a_power_cut(sync)
    assert sync.files() == {name: XMP}
    assert sync.quarantined() == [ONE]
    await sync.start()
    await sync.gone(name)
    await sync.idle()
    assert sync.quarantined() == sorted([ONE, XMP])
    assert await sync.records() == {}
    await sync.restore(asset)
    await sync.there("IMG.jpg", ONE)
    await sync.there(name, XMP)
    await sync.idle()
    assert sync.files() == {"IMG.jpg": ONE, name: XMP}
    assert sync.requests == [UPLOAD, TRASH, RESTORE]


@both_names
async def test_sidecar_moved_before_a_crash_comes_back_with_its_picture(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Both were moved, and the database knows of neither."""
    sync.put("IMG.jpg", ONE)
    sync.put(name, XMP)
    await sync.start()
    asset = await sync.asset(ONE)
    with monkeypatch.context() as cut:
        cut.setattr(Store, "add_entries", power_cut)
        await sync.trash(asset)
        await ended_by_a_power_cut(sync)
    assert sync.files() == {}
    assert sync.quarantined() == sorted([ONE, XMP])
    await sync.start()
    await sync.restore(asset)
    await sync.there("IMG.jpg", ONE)
    await sync.there(name, XMP)
    await sync.idle()
    assert sync.quarantined() == []
    assert sync.requests == [UPLOAD, TRASH, RESTORE]


async def test_sidecar_that_is_no_regular_file_is_left_alone(sync: Harness) -> None:
    outside = sync.stage.home / "secret.xmp"
    outside.write_bytes(XMP)
    sync.put("IMG.jpg", ONE)
    sync.path("IMG.jpg.xmp").symlink_to(outside)
    await sync.start()
    assert await sidecar_in_immich(sync, ONE) is None
    await sync.trash(await sync.asset(ONE))
    await sync.gone("IMG.jpg")
    await sync.idle()
    assert sync.path("IMG.jpg.xmp").is_symlink()
    assert outside.read_bytes() == XMP
    assert sync.quarantined() == [ONE]


async def ended_by_a_power_cut(sync: Harness) -> None:
    error = await sync.ended()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PowerCutError), repr(error)
