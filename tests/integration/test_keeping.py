"""What keeps an asset or a file although the other side lost it: age, protection, policies, exclusions; and changing
any of these.
"""

from typing import Any
from uuid import UUID

import pytest

from immich_dbsync.core.actions import Why
from immich_dbsync.model import Direction, Policy
from tests.integration.harness import GRACE_S, Harness, picture, until

ONE, TWO, THREE, FOUR = picture(1), picture(2), picture(3), picture(4)
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")
COPY = ("PUT", "/api/assets/copy")
ARCHIVE, BACKUP, MIRROR = Policy.ARCHIVE, Policy.BACKUP, Policy.MIRROR
DAY_NS = 86_400 * 10**9


async def age(sync: Harness, days: int, *assets: UUID) -> None:
    await sync.connection.execute(
        'update asset set "createdAt" = now() - make_interval(days => $1) where id = any($2)', days, assets
    )


async def make_favourite(sync: Harness, *assets: UUID) -> None:
    await sync.connection.execute('update asset set "isFavorite" = true where id = any($1)', assets)


async def put_into_album(sync: Harness, asset: UUID) -> None:
    album = await sync.connection.fetchval(
        """insert into album ("ownerId", "albumName") values ($1, 'Best of') returning id""", sync.user
    )
    await sync.connection.execute('insert into album_asset ("albumId", "assetId") values ($1, $2)', album, asset)


# --- the delete threshold ---


async def test_an_asset_exactly_as_old_as_the_threshold_stays_and_a_younger_one_goes(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.change(delete_threshold=30)
    sync.put("old.png", ONE)
    sync.put("young.png", TWO)
    await sync.start()
    for content, moment in ((ONE, "2026-01-01 12:00:00.000001Z"), (TWO, "2026-01-01 12:00:00.000002Z")):
        await sync.connection.execute(
            f"""update asset set "createdAt" = '{moment}' where id = $1""", await sync.asset(content)
        )
    created = 1_767_268_800 * 10**9 + 1000
    monkeypatch.setattr(sync.owner().parts.observer, "_wall_ns", lambda: created + 30 * DAY_NS)
    sync.path("old.png").unlink()
    sync.path("young.png").unlink()
    await sync.becomes(TWO, "trashed")
    await sync.recorded([])
    await sync.idle()
    assert await sync.status(ONE) == "active"
    assert sorted(await sync.deeds()) == ["release", "trash", "upload", "upload"]


async def test_a_threshold_of_0_days_keeps_nothing(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    await age(sync, 9999, await sync.asset(ONE))
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")


async def test_threshold_and_protection_are_for_deleted_files_only(sync: Harness) -> None:
    sync.change(delete_threshold=30, protect=frozenset({"favourites"}))
    sync.put("deleted.png", ONE)
    sync.put("edited.png", TWO)
    await sync.start()
    deleted, edited = await sync.asset(ONE), await sync.asset(TWO)
    await age(sync, 99, deleted, edited)
    await make_favourite(sync, deleted, edited)
    await sync.trash(deleted)
    await sync.gone("deleted.png")
    sync.put("edited.png", THREE)
    await sync.becomes(TWO, "trashed")
    assert sync.quarantined() == [ONE]


# --- protection ---


async def test_without_the_setting_nothing_is_protected(sync: Harness) -> None:
    sync.put("favourite.png", ONE)
    sync.put("in album.png", TWO)
    await sync.start()
    await make_favourite(sync, await sync.asset(ONE))
    await put_into_album(sync, await sync.asset(TWO))
    sync.path("favourite.png").unlink()
    sync.path("in album.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.becomes(TWO, "trashed")


async def test_favourites_and_albums_can_be_protected_together(sync: Harness) -> None:
    sync.change(protect=frozenset({"favourites", "albums"}))
    sync.put("favourite.png", ONE)
    sync.put("in album.png", TWO)
    sync.put("neither.png", THREE)
    await sync.start()
    await make_favourite(sync, await sync.asset(ONE))
    await put_into_album(sync, await sync.asset(TWO))
    for name in ("favourite.png", "in album.png", "neither.png"):
        sync.path(name).unlink()
    await sync.becomes(THREE, "trashed")
    await sync.recorded([])
    await sync.idle()
    assert await sync.status(ONE) == await sync.status(TWO) == "active"
    assert await sync.deeds("release") == ["release"] * 2


# --- policies ---


async def test_an_archive_keeps_the_assets_of_deleted_files_and_follows_immich(sync: Harness) -> None:
    sync.change(policy=ARCHIVE)
    sync.put("deleted.png", ONE)
    sync.put("trashed.png", TWO)
    await sync.start()
    trashed = await sync.asset(TWO)
    sync.path("deleted.png").unlink()
    await sync.recorded(["trashed.png"])
    await sync.trash(trashed)
    await sync.gone("trashed.png")
    await sync.idle()
    assert sync.quarantined() == [TWO]
    await sync.restore(trashed)
    await sync.there("trashed.png", TWO)
    await sync.idle()
    await sync.rescan()
    assert await sync.status(ONE) == await sync.status(TWO) == "active"
    assert sync.files() == {"trashed.png": TWO}
    assert sync.requests.count(TRASH) == 1  # in the web
    assert "release" in await sync.deeds()


async def test_an_archive_may_be_emptied_at_once(sync: Harness) -> None:
    sync.change(policies={"Camera": ARCHIVE}, hold_min=3)
    for number in range(12):
        sync.put(f"Camera/{number}.png", b"%d" % number)
    await sync.start()
    for number in range(12):
        sync.path(f"Camera/{number}.png").unlink()
    await sync.recorded([])
    await sync.idle()
    assert await sync.holds() == []
    assert {await sync.status(b"%d" % number) for number in range(12)} == {"active"}


@pytest.mark.parametrize("how", ["trash", "force"])
async def test_a_backup_only_uploads(sync: Harness, how: str) -> None:
    sync.change(policy=BACKUP)
    sync.put("deleted.png", ONE)
    sync.put("lost.png", TWO)
    await sync.start()
    await sync.trash(await sync.asset(TWO), force=how == "force")  # row 7
    await sync.immich.idle()
    sync.path("deleted.png").unlink()  # row 11
    sync.put("new.png", THREE)
    await sync.tied("new.png")
    await sync.recorded(["lost.png", "new.png"])
    await sync.rescan()
    await sync.restart()
    await sync.rescan()
    assert sync.files() == {"lost.png": TWO, "new.png": THREE}
    assert await sync.status(ONE) == "active"
    assert await sync.status(TWO) == ("trashed" if how == "trash" else None)
    assert sync.requests == [UPLOAD, UPLOAD, TRASH, UPLOAD]
    assert await sync.holds() == []


async def test_a_backup_keeps_a_file_from_before_its_asset_was_trashed(sync: Harness) -> None:
    sync.change(policy=BACKUP)
    sync.put("a.png", ONE)  # row 4, at first sight
    await sync.trash(await sync.upload(ONE))
    await sync.start()
    await sync.stop()
    sync.put("b.png", TWO)  # row 4
    await sync.trash(await sync.upload(TWO))
    await sync.start()
    await sync.rescan()
    assert sync.files() == {"a.png": ONE, "b.png": TWO}
    assert await sync.holds() == []
    assert await sync.status(ONE) == await sync.status(TWO) == "trashed"
    assert sync.requests == [UPLOAD, TRASH] * 2  # all in the web
    await sync.restore(await sync.asset(TWO))
    await sync.idle()
    sync.path("b.png").unlink()
    await sync.recorded(["a.png"])
    await sync.idle()
    assert await sync.status(TWO) == "active"


async def test_an_edit_in_a_backup_keeps_the_old_asset(sync: Harness) -> None:
    sync.change(policy=BACKUP)
    sync.put("a.png", ONE)
    await sync.start()
    sync.put("a.png", TWO)
    await sync.becomes(TWO, "active")
    await sync.idle()
    await sync.rescan()
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert await sync.status(ONE) == "active"
    assert sync.requests == [UPLOAD, UPLOAD, COPY]


async def test_a_policy_for_one_folder_is_for_that_folder_only(sync: Harness) -> None:
    sync.change(policies={"Camera": ARCHIVE, "Camera/2026": MIRROR, "Old phone": BACKUP})
    names = ["Camera/a.png", "Camera/2026/b.png", "Cameras/c.png", "Old phone/d.png", "e.png"]
    contents = [picture(number) for number in range(5)]
    for name, content in zip(names, contents, strict=True):
        sync.put(name, content)
    others = ["Camera/x.png", "Old phone/y.png", "z.png"]
    for number, name in enumerate(others):
        sync.put(name, picture(10 + number))
    await sync.start()
    for name in names:
        sync.path(name).unlink()
    await sync.trash(*[await sync.asset(picture(10 + number)) for number in range(3)])
    await sync.recorded(["Old phone/y.png"])
    await sync.idle()
    statuses = [await sync.status(content) for content in contents]
    assert statuses == ["active", "trashed", "trashed", "active", "trashed"]
    assert sync.files() == {"Old phone/y.png": picture(11)}


@pytest.mark.parametrize(
    ("old", "new", "stays"),
    [("Mirror", "Archive", True), ("Archive", "Mirror", False)],
)
async def test_a_move_to_another_policys_folder_costs_nothing_and_the_new_policy_counts(
    sync: Harness, old: str, new: str, *, stays: bool
) -> None:
    sync.change(policies={"Archive": ARCHIVE, "Backup": BACKUP})
    sync.put(f"{old}/a.png", ONE)
    sync.path(new).mkdir()
    await sync.start()
    sync.path(f"{old}/a.png").rename(sync.path(f"{new}/a.png"))
    await sync.recorded([f"{new}/a.png"])
    await sync.rescan()
    assert sync.requests == [UPLOAD]
    assert await sync.status(ONE) == "active"
    sync.path(f"{new}/a.png").unlink()
    await sync.recorded([])
    await sync.idle()
    assert await sync.status(ONE) == ("active" if stays else "trashed")


@pytest.mark.parametrize(("old", "new", "stays"), [("Mirror", "Backup", True), ("Backup", "Archive", False)])
async def test_after_a_move_immichs_deletions_reach_the_file_by_the_new_policy(
    sync: Harness, old: str, new: str, *, stays: bool
) -> None:
    sync.change(policies={"Archive": ARCHIVE, "Backup": BACKUP})
    sync.put(f"{old}/a.png", ONE)
    sync.path(new).mkdir()
    await sync.start()
    sync.path(f"{old}/a.png").rename(sync.path(f"{new}/a.png"))
    await sync.recorded([f"{new}/a.png"])
    await sync.trash(await sync.asset(ONE))
    await sync.idle()
    await sync.rescan()
    assert sync.files() == ({f"{new}/a.png": ONE} if stays else {})
    assert sync.quarantined() == ([] if stays else [ONE])


async def test_of_copies_that_go_together_one_in_an_archive_keeps_the_asset(sync: Harness) -> None:
    sync.change(policies={"Archive": ARCHIVE})
    sync.put("Archive/a.png", ONE)
    sync.put("a.png", ONE)
    await sync.start()
    sync.path("Archive/a.png").unlink()
    sync.path("a.png").unlink()
    await sync.recorded([])
    await sync.idle()
    assert await sync.status(ONE) == "active"


# --- exclusions ---


async def test_what_was_synced_and_is_excluded_now_is_left_alone_on_both_sides(sync: Harness) -> None:
    names = ["Camera/kept.png", "Camera/lost.png", "Camera/deleted.png", "Camera/edited.png"]
    contents = [ONE, TWO, THREE, FOUR]
    for name, content in zip(names, contents, strict=True):
        sync.put(name, content)
    sync.put("b.png", picture(5))
    await sync.start()
    await sync.stop()
    sync.change(exclude=("Camera",))
    await sync.start()
    await sync.trash(await sync.asset(TWO))
    sync.path("Camera/deleted.png").unlink()
    sync.put("Camera/edited.png", picture(6))
    sync.put("Camera/new.png", picture(7))
    await sync.idle()
    await sync.rescan()
    there = {"Camera/kept.png": ONE, "Camera/lost.png": TWO, "Camera/edited.png": picture(6)}
    there |= {"Camera/new.png": picture(7), "b.png": picture(5)}
    assert sync.files() == there
    assert [await sync.status(content) for content in contents] == ["active", "trashed", "active", "active"]
    assert sync.requests == [UPLOAD] * 5 + [TRASH]
    # Included again: what happened meanwhile deletes nothing by itself.
    await sync.stop()
    sync.change(exclude=())
    await sync.start()
    await sync.rescan()
    assert sync.files() == there
    assert (await sync.held(1)).direction is Direction.IMMICH
    assert await sync.status(ONE) == await sync.status(THREE) == "active"
    assert await sync.tied("Camera/new.png") == await sync.asset(picture(7))
    assert await sync.tied("Camera/edited.png") == await sync.asset(picture(6))


@pytest.mark.parametrize("glob", ["*.png", "Camera"])
async def test_excluded_and_included_again_without_more_costs_nothing(sync: Harness, glob: str) -> None:
    sync.put("Camera/b1.png", ONE)
    sync.put("b2.png", TWO)
    await sync.start()
    records, requests = await sync.records(), list(sync.requests)
    for exclude in ((glob,), ()):
        await sync.stop()
        sync.change(exclude=exclude)
        await sync.start()
        assert await sync.holds() == []
    assert await sync.records() == records
    assert sync.requests == requests
    assert sync.files() == {"Camera/b1.png": ONE, "b2.png": TWO}


# --- changes of settings ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"delete_threshold": 30}, {"delete_threshold": 0}),
        ({"protect": frozenset({"favourites"})}, {"protect": frozenset()}),
        ({"policy": ARCHIVE}, {"policy": MIRROR}),
        ({"policies": {"Camera": BACKUP}}, {"policies": {"Video": BACKUP}}),
        ({"exclude": ("Camera",)}, {"exclude": ()}),
        ({"hold_min": 25}, {"hold_min": 26}),
    ],
    ids=["threshold", "protect", "policy", "policies", "exclude", "hold_min"],
)
async def test_deletions_that_piled_up_wait_after_a_change_of_settings_and_later_ones_do_not(
    sync: Harness, before: dict[str, Any], after: dict[str, Any]
) -> None:
    for number, name in enumerate(("gone", "lost", "gone later", "lost later")):
        sync.put(f"Camera/{name}.png", picture(number))
    if "exclude" not in before:
        sync.change(**before)
    await sync.start()
    assets = [await sync.asset(picture(number)) for number in range(4)]
    await age(sync, 50, *assets)
    await make_favourite(sync, *assets)
    await sync.stop()
    if "exclude" in before:
        sync.change(**before)
        await sync.start()
        await sync.stop()
    sync.path("Camera/gone.png").unlink()
    await sync.trash(assets[1])
    before_start = sync.requests.count(TRASH)
    sync.change(**after)
    await sync.start()
    held = await sync.holds()
    assert {(hold.direction, hold.reason, hold.files) for hold in held} == {
        (direction, Why.SETTINGS_CHANGED.value, 1) for direction in Direction
    }
    assert await sync.status(picture(0)) == "active"
    assert sync.path("Camera/lost.png").exists()
    assert sync.requests.count(TRASH) == before_start
    # The scan is worked off: what is deleted from now on is meant.
    sync.path("Camera/gone later.png").unlink()
    await sync.trash(assets[3])
    await sync.gone("Camera/lost later.png")
    await sync.becomes(picture(2), "trashed")
    await sync.idle()
    assert sync.quarantined() == [picture(3)]
    assert [hold.files for hold in await sync.holds()] == [1, 1]


async def test_a_scan_that_was_not_worked_off_leaves_the_settings_changed(sync: Harness) -> None:
    sync.change(policy=ARCHIVE)
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.stop()
    sync.path("a.png").unlink()
    sync.change(policy=MIRROR, move_grace=60.0)
    await sync.start(wait=False)

    async def found_missing() -> bool:
        return any(not owner.known.scanning and owner.todo.waiting_in_grace() for owner in sync.syncs())

    await until(found_missing)
    await sync.stop()
    sync.change(move_grace=GRACE_S)
    await sync.start()
    assert (await sync.held(1)).reason == Why.SETTINGS_CHANGED.value
    await sync.restart()
    sync.path("b.png").unlink()
    await sync.becomes(TWO, "trashed")
    assert await sync.status(ONE) == "active"
