"""Roots that are not as they were, and owners who are not there: nothing is deleted meanwhile, in either direction."""

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from immich_dbsync.core.actions import Why
from immich_dbsync.demo.people import delete_user
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.errors import KeyRefused
from immich_dbsync.model import Policy
from immich_dbsync.service import observe, rounds
from tests.integration.harness import Harness, harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE, FOUR = (picture(number) for number in range(1, 5))
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")


@pytest.fixture
async def sync(
    library_url: str, immich_version: ImmichVersion, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    monkeypatch.setattr(rounds, "_HEALTH_S", 0.1)
    monkeypatch.setattr(observe, "_HEALTH_S", 0.0)
    async with harness(library_url, immich_version) as made:
        yield made


def _missing(folder: Path) -> Callable[[], None]:
    aside = folder.with_name("aside")
    folder.rename(aside)

    def mend() -> None:
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.unlink(missing_ok=True)
        aside.rename(folder)

    return mend


def _a_file(folder: Path) -> Callable[[], None]:
    mend = _missing(folder)
    folder.write_bytes(b"not a folder")
    return mend


def _another_folder(folder: Path) -> Callable[[], None]:
    """An empty mount point, say."""
    mend = _missing(folder)
    folder.mkdir()
    return mend


def _without_marker(folder: Path) -> Callable[[], None]:
    marker = folder / ".immich-dbsync" / "root-id"
    text = marker.read_text()
    marker.unlink()
    return lambda: _write(marker, text)


def _anothers_marker(folder: Path) -> Callable[[], None]:
    marker = folder / ".immich-dbsync" / "root-id"
    text = marker.read_text()
    marker.write_text(f"{uuid4()}\n")
    return lambda: _write(marker, text)


def _no_marker_at_all(folder: Path) -> Callable[[], None]:
    marker = folder / ".immich-dbsync" / "root-id"
    text = marker.read_text()
    marker.write_text("rubbish")
    return lambda: _write(marker, text)


def _without_stfolder(folder: Path) -> Callable[[], None]:
    (folder / "Camera" / ".stfolder").rmdir()
    return (folder / "Camera" / ".stfolder").mkdir


def _write(marker: Path, text: str) -> None:
    marker.write_text(text)


# How it is broken, and what is told.
WAYS = {
    "missing": (_missing, "create it, or mount it"),
    "a file": (_a_file, "not a folder"),
    "replaced": (_another_folder, "put back the right folder"),
    "marker missing": (_without_marker, "write that id into the file"),
    "marker another's": (_anothers_marker, "write that id into the file"),
    "marker rubbish": (_no_marker_at_all, ".immich-dbsync"),
    "stfolder lost": (_without_stfolder, "make the empty folder .stfolder again"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_deleted_while_a_root_is_not_healthy_and_all_is_made_up_for(sync: Harness, way: str) -> None:
    spoil, advice = WAYS[way]
    for number, content in enumerate((ONE, TWO, THREE)):
        sync.put(f"Camera/{number}.png", content)
    sync.path("Camera/.stfolder").mkdir()
    await sync.start()
    lost = await sync.asset(TWO)
    mend = spoil(sync.folder)
    place = sync.folder if (sync.folder / "Camera").is_dir() else sync.folder.with_name("aside")
    (place / "Camera" / "0.png").unlink()
    await sync.trash(lost)

    async def told() -> str | None:
        found = await sync.problem()
        return found if found and advice in found else None

    assert await until(told)
    events = "select count(*) from immich_dbsync_v1.events"

    async def nothing_done() -> None:
        assert await sync.status(ONE) == "active"
        assert (place / "Camera" / "1.png").read_bytes() == TWO
        assert not list((place / ".immich-dbsync").rglob("1.png"))
        assert sync.requests == [UPLOAD] * 3 + [TRASH]  # the latter in the web
        assert await sync.connection.fetchval(events) > 0

    if way == "stfolder lost":
        sync.owner().scan()

        async def looked() -> bool:
            return Why.UNHEALTHY in sync.owner().dispatch.left.values() and not sync.owner().looking()

        await until(looked)
    await nothing_done()
    await sync.stop()
    await sync.connection.execute("update immich_dbsync_v1.owners set problems = '{}'")
    if way in {"missing", "a file"}:  # the only root there is
        await sync.start(wait=False)
        assert advice in str(await sync.ended())
    else:
        await sync.start(wait=False)
        assert await until(told)
    await nothing_done()
    mend()
    if sync.running():
        await sync.gone("Camera/1.png")
    else:
        await sync.start()
    await sync.becomes(ONE, "trashed")
    await sync.recorded(["Camera/2.png"])
    await sync.idle()
    assert sync.files() == {"Camera/2.png": THREE}
    assert sync.quarantined() == [TWO]
    assert await sync.problem() is None
    assert await sync.holds() == []


async def test_a_folder_that_comes_to_be_shared_while_the_service_runs_has_to_stay_so(sync: Harness) -> None:
    sync.put("Camera/a.png", ONE)
    await sync.start()
    marker = sync.path("Camera/.stfolder")
    marker.mkdir()
    known = "select stfolders = $1 from immich_dbsync_v1.owners"

    async def learnt() -> bool:
        return bool(await sync.connection.fetchval(known, [b"Camera"]))

    await until(learnt)
    marker.rmdir()

    async def told() -> bool:
        return f"{marker} is gone" in (await sync.problem() or "")

    await until(told)
    sync.path("Camera/a.png").unlink()

    async def left() -> bool:
        return Why.UNHEALTHY in sync.owner().dispatch.left.values() and not sync.owner().looking()

    await until(left)
    assert await sync.status(ONE) == "active"
    marker.mkdir()
    await sync.becomes(ONE, "trashed")


async def test_changed_settings_still_count_after_a_scan_of_an_unhealthy_root(sync: Harness) -> None:
    sync.change(policy=Policy.ARCHIVE)
    sync.put("Camera/a.png", ONE)
    sync.path("Camera/.stfolder").mkdir()
    await sync.start()
    await sync.stop()
    sync.path("Camera/a.png").unlink()
    mend = _without_stfolder(sync.folder)
    sync.change(policy=Policy.MIRROR)
    await sync.start()  # a whole scan, of which nothing can be concluded
    mend()
    assert (await sync.held(1)).reason == Why.SETTINGS_CHANGED.value
    await sync.idle()
    assert await sync.status(ONE) == "active"


# --- owners who are not there ---


async def test_what_was_left_in_an_unhealthy_root_and_is_gone_is_left_no_more(sync: Harness) -> None:
    sync.path(".stfolder").mkdir()
    await sync.start()
    await sync.stop()
    sync.put("b.png", TWO)
    await sync.trash(await sync.upload(TWO))
    sync.path(".stfolder").rmdir()
    await sync.start(wait=False)

    async def left() -> bool:
        return await sync.left() == {Why.UNHEALTHY.value: 1}

    async def nothing_left() -> bool:
        return not await sync.left()

    await until(left)
    sync.path("b.png").unlink()
    await until(nothing_left)


async def test_a_user_who_is_deleted_and_comes_back_finds_all_as_it_was_and_then_made_up_for(sync: Harness) -> None:
    for number, content in enumerate((ONE, TWO, THREE)):
        sync.put(f"{number}.png", content)
    await sync.start()
    lost = await sync.asset(TWO)
    await sync.connection.execute(
        """update "user" set status = 'deleted', "deletedAt" = now() where id = $1""", sync.user
    )
    await sync.connection.execute("""update asset set status = 'trashed', "deletedAt" = now() where id = $1""", lost)
    sync.path("0.png").unlink()
    sync.put("new.png", FOUR)
    await sync.rescan()
    assert "deleted" in (await sync.problem() or "")
    assert sync.files() == {"1.png": TWO, "2.png": THREE, "new.png": FOUR}
    assert await sync.status(ONE) == "active"
    assert sync.requests == [UPLOAD] * 3
    await sync.connection.execute(
        """update "user" set status = 'active', "deletedAt" = null where id = $1""", sync.user
    )
    await sync.gone("1.png")
    await sync.becomes(ONE, "trashed")
    await sync.tied("new.png")
    await sync.idle()
    assert await sync.problem() is None
    assert sync.quarantined() == [TWO]


@pytest.mark.parametrize("running", [True, False])
async def test_a_user_who_is_being_removed_keeps_their_files(sync: Harness, *, running: bool) -> None:
    bob = await sync.add_person("bob@example.org")
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    bob.put("a.png", ONE)
    await sync.start()
    await bob.tied("a.png")
    if not running:
        await sync.stop()
    await sync.connection.execute(
        """update "user" set status = 'removing', "deletedAt" = now() where id = $1""", sync.user
    )
    await sync.connection.execute("delete from asset where id = $1", await sync.asset(ONE))
    sync.path("b.png").unlink()
    if running:
        await sync.rescan()
    else:
        await sync.start(wait=False)
    bob.path("a.png").unlink()
    await bob.becomes(ONE, "trashed")
    assert sync.files() == {"a.png": ONE}
    assert await sync.status(TWO) == "active"
    await delete_user(sync.connection, sync.user)
    if running:
        await sync.rescan()
    assert sync.files() == {"a.png": ONE}
    assert sync.quarantined() == []
    assert sync.requests == [UPLOAD] * 3 + [TRASH]  # the latter is Bob's


async def test_while_a_key_is_revoked_nothing_is_deleted_and_a_new_one_makes_up_for_it(sync: Harness) -> None:
    for number, content in enumerate((ONE, TWO)):
        sync.put(f"{number}.png", content)
    await sync.start()
    keys = await sync.connection.fetch('delete from api_key where "userId" = $1 returning permissions, key', sync.user)
    sync.path("0.png").unlink()

    async def refused() -> bool:
        return "Make a new key" in (await sync.problem() or "")

    await until(refused)
    assert await sync.status(ONE) == "active"
    assert b"0.png" in await sync.records()
    await sync.stop()
    await sync.start(wait=False)
    assert isinstance(await sync.ended(), KeyRefused)
    assert sync.files() == {"1.png": TWO}
    assert await sync.status(ONE) == await sync.status(TWO) == "active"
    await sync.connection.execute(
        """insert into api_key (name, key, "userId", permissions) values ('new', $1, $2, $3)""",
        keys[0]["key"],
        sync.user,
        keys[0]["permissions"],
    )
    await sync.start()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.files() == {"1.png": TWO}
    assert await sync.status(TWO) == "active"
