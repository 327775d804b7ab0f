import os
from uuid import UUID

import pytest

from tests.contract.target import Answer, Person, Target, picture
from tests.contract.watch import Watch
from tests.waiting import until


async def live_photo(person: Person) -> tuple[UUID, UUID]:
    """A still and its video."""
    video = await person.asset(os.urandom(64), "a.mov")
    return await person.asset(picture(), livePhotoVideoId=str(video)), video


async def audits(target: Target, *assets: UUID) -> list[UUID]:
    rows = await target.database.fetch('select "ownerId" from asset_audit where "assetId" = any($1::uuid[])', assets)
    return [row["ownerId"] for row in rows]


async def test_every_update_moves_updated_at_and_update_id(target: Target, person: Person) -> None:
    asset = (await person.assets_by_sql(1))[0]
    seen = [await target.existing(asset)]
    for act in (person.delete, person.restore, person.delete):
        await act(asset)
        seen.append(await target.existing(asset))
    assert sorted(row["updatedAt"] for row in seen) == [row["updatedAt"] for row in seen]
    assert len({row["updatedAt"] for row in seen}) == len({row["updateId"] for row in seen}) == 4


async def test_jobs_update_the_row_several_times_after_an_upload(person: Person, watch: Watch) -> None:
    asset = await person.asset()

    async def updates() -> bool:
        return len(await watch.of(asset)) >= 2

    await until(updates)
    for note in await watch.of(asset):
        assert (note["op"], note["before"], note["after"]) == ("update asset", "active", "active")


async def test_trash_and_restore_are_one_update_each(person: Person, watch: Watch) -> None:
    assets = await person.assets_by_sql(2)
    await person.delete(*assets)
    await person.restore(*assets)
    for asset in assets:
        notes = [(note["op"], note["before"], note["after"]) for note in await watch.of(asset)]
        assert notes == [("update asset", "active", "trashed"), ("update asset", "trashed", "active")]


@pytest.mark.parametrize("how", ["force", "force from the trash", "empty"])
async def test_deleting_for_good_is_an_update_and_then_a_delete(
    target: Target, person: Person, watch: Watch, how: str
) -> None:
    asset = (await person.assets_by_sql(1))[0]
    if how != "force":
        await person.delete(asset)
        await watch.forget()
    if how == "empty":
        await person.request("POST", "/trash/empty")
    else:
        await person.delete(asset, force=True)
    await target.gone(asset)
    before = "active" if how == "force" else "trashed"
    notes = [(note["op"], note["before"], note["after"]) for note in await watch.of(asset)]
    assert notes == [("update asset", before, "deleted"), ("delete asset", "deleted", None)]


async def test_rows_go_one_statement_each(target: Target, person: Person, watch: Watch) -> None:
    assets = await person.assets_by_sql(200)
    assert await person.delete(*assets, force=True) == Answer(204, "")
    await target.gone(*assets)
    deletes = [note for note in await watch.of(*assets) if note["op"] == "delete asset"]
    assert [note["rows"] for note in deletes] == [1] * 200


async def test_a_deletion_job_does_not_look_at_the_status_again(target: Target, person: Person) -> None:
    target.slow_jobs(0.3)
    assets = await person.assets_by_sql(60)
    await person.delete(*assets, force=True)
    restored = await target.database.execute(
        """update asset set status = 'active', "deletedAt" = null where id = $1""", assets[-1]
    )
    assert restored == "UPDATE 1"
    await target.gone(*assets)


async def test_a_live_photos_video_is_hidden(target: Target, person: Person) -> None:
    still, video = await live_photo(person)
    assert (await target.existing(still))["livePhotoVideoId"] == video
    row = await target.existing(video)
    assert (row["visibility"], row["status"], row["type"]) == ("hidden", "active", "VIDEO")
    assert (await target.existing(still))["visibility"] == "timeline"


async def test_trashing_a_live_photo_changes_the_stills_row_only(target: Target, person: Person) -> None:
    still, video = await live_photo(person)
    await person.delete(still)
    assert (await target.existing(still))["status"] == "trashed"
    row = await target.existing(video)
    assert (row["status"], row["deletedAt"], row["visibility"]) == ("active", None, "hidden")
    await person.restore(still)
    assert (await target.existing(still))["livePhotoVideoId"] == video


async def test_deleting_a_live_photo_deletes_the_still_and_then_the_video_from_active(
    target: Target, person: Person, watch: Watch
) -> None:
    still, video = await live_photo(person)
    await person.delete(still, force=True)
    await target.gone(still, video)
    deletes = [note for note in await watch.of(still, video) if note["op"] == "delete asset"]
    assert [(note["id"], note["before"], note["visibility"]) for note in deletes] == [
        (still, "deleted", "timeline"),
        (video, "active", "hidden"),
    ]


async def test_a_video_that_another_still_uses_stays(target: Target, person: Person) -> None:
    still, video = await live_photo(person)
    other = await person.asset(picture(), livePhotoVideoId=str(video))
    later, its_video = await live_photo(person)
    await person.delete(still, force=True)
    await target.gone(still)
    # By the time that a later one is gone with its video, this video's turn would have come.
    await person.delete(later, force=True)
    await target.gone(later, its_video)
    assert (await target.existing(video))["status"] == "active"
    await person.delete(other, force=True)
    await target.gone(other, video)


async def test_a_live_photo_wants_a_video_of_the_same_owner(target: Target, person: Person) -> None:
    foreign = await (await target.person()).asset(os.urandom(64), "a.mov")
    answer = await person.upload(picture(), livePhotoVideoId=str(foreign))
    target.assert_refused(answer, 400, "Live photo video does not belong to the user")
    still = await person.asset()
    answer = await person.upload(picture(), livePhotoVideoId=str(still))
    target.assert_refused(answer, 400, "Live photo video must be a video")
    assert (await target.existing(foreign))["visibility"] == "timeline"


async def test_deleting_a_user_takes_their_assets_in_one_statement_from_active(
    target: Target, person: Person, watch: Watch
) -> None:
    assets = await person.assets_by_sql(3)
    gone = await person.destroyed()
    other = await target.person()
    kept = await other.asset()
    await target.delete_user(person)
    await until(person.is_gone)

    deletes = [note for note in await watch.of(*assets) if note["op"] == "delete asset"]
    assert [(note["before"], note["rows"]) for note in deletes] == [("active", 3)] * 3
    removing = [note for note in await watch.of(person.id) if note["after"] == "removing"]
    assert len(removing) == 1
    assert removing[0]["n"] < deletes[0]["n"]

    async def unaudited() -> bool:
        return await audits(target, *assets, gone) == []

    await until(unaudited)
    assert (await target.existing(kept))["status"] == "active"


async def test_a_deleted_users_key_works_no_longer(target: Target, person: Person) -> None:
    await target.delete_user(person)
    await until(person.is_gone)
    target.assert_refused(await person.request("GET", "/users/me"), 401, "Invalid API key")


async def test_every_asset_deleted_has_one_row_in_the_audit(target: Target, person: Person) -> None:
    assets = await person.assets_by_sql(3)
    await person.delete(*assets)
    assert await audits(target, *assets) == []
    await person.delete(*assets, force=True)
    await target.gone(*assets)
    assert await audits(target, *assets) == [person.id] * 3


async def test_archiving_is_visibility_and_no_deletion(target: Target, person: Person) -> None:
    row = await target.existing(await person.asset(visibility="archive"))
    assert (row["visibility"], row["status"], row["deletedAt"]) == ("archive", "active", None)
    assert await person.delete(row["id"]) == Answer(204, "")


async def test_the_locked_folder_is_visibility_and_closed_to_api_keys(target: Target, person: Person) -> None:
    row = await target.existing(await person.asset(visibility="locked"))
    assert (row["visibility"], row["status"], row["deletedAt"]) == ("locked", "active", None)
    target.assert_refused(await person.delete(row["id"]), 400, "Not found or no asset.delete access")
