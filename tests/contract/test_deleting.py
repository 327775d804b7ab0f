from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.contract.target import Answer, Person, Target

NO_ACCESS = "Not found or no asset.delete access"


async def test_delete_trashes_at_once(target: Target, person: Person) -> None:
    asset = await person.asset()
    before = await target.database.fetchval("select clock_timestamp()")
    answer = await person.delete(asset)
    assert answer == Answer(204, "")
    row = await target.existing(asset)
    assert row["status"] == "trashed"
    assert abs(row["deletedAt"] - before) < timedelta(seconds=5)


async def test_several_are_trashed_with_one_moment(target: Target, person: Person) -> None:
    assets = [await person.asset() for _ in range(3)]
    assert (await person.delete(*assets)).status == 204
    rows = [await target.existing(asset) for asset in assets]
    assert {row["status"] for row in rows} == {"trashed"}
    assert len({row["deletedAt"] for row in rows}) == 1


async def test_deleting_what_is_trashed_moves_its_moment_forward(target: Target, person: Person) -> None:
    asset = await person.trashed()
    first = await target.existing(asset)
    assert await person.delete(asset) == Answer(204, "")
    second = await target.existing(asset)
    assert second["status"] == "trashed"
    assert second["deletedAt"] > first["deletedAt"]


async def test_deleting_what_is_at_deleted_takes_it_back_to_trashed(target: Target, person: Person) -> None:
    asset = await person.at_deleted()
    assert await person.delete(asset) == Answer(204, "")
    assert (await target.existing(asset))["status"] == "trashed"


@pytest.mark.parametrize("whose", ["another owner's", "unknown"])
@pytest.mark.parametrize("force", [False, True])
async def test_one_id_that_is_not_theirs_refuses_the_whole_batch(
    target: Target, person: Person, whose: str, force: bool
) -> None:
    asset = await person.asset()
    foreign = await (await target.person()).asset() if whose == "another owner's" else uuid4()
    target.assert_refused(await person.delete(foreign, force=force), 400, NO_ACCESS)
    target.assert_refused(await person.delete(asset, foreign, force=force), 400, NO_ACCESS)
    assert (await target.existing(asset))["status"] == "active"
    if whose == "another owner's":
        assert (await target.existing(foreign))["status"] == "active"


async def test_no_ids_are_fine_and_do_nothing(target: Target, person: Person) -> None:
    asset = await person.asset()
    assert await person.delete() == Answer(204, "")
    assert (await target.existing(asset))["status"] == "active"
    assert (await person.restore()).json == {"count": 0}


@pytest.mark.parametrize("ids", [["nonsense"], "nonsense", None])
async def test_ids_that_are_none_do_not_validate(target: Target, person: Person, ids: object) -> None:
    target.assert_refused(await person.request("DELETE", "/assets", json={"ids": ids}), 400)
    target.assert_refused(await person.request("POST", "/trash/restore/assets", json={"ids": ids}), 400)


async def test_force_deletes_at_once_and_the_row_goes_a_moment_later(target: Target, person: Person) -> None:
    target.slow_jobs(0.2)
    assets = await person.assets_by_sql(40)
    assert await person.delete(*assets, force=True) == Answer(204, "")
    # On a real server the first rows may be gone by now; the last is not.
    row = await target.existing(assets[-1])
    assert row["status"] == "deleted"
    assert row["deletedAt"] is not None
    await target.gone(*assets)


async def test_force_takes_what_is_in_the_trash_too(target: Target, person: Person) -> None:
    asset = await person.trashed()
    assert await person.delete(asset, force=True) == Answer(204, "")
    await target.gone(asset)


async def test_restore_makes_active_and_forgets_the_moment(target: Target, person: Person) -> None:
    assets = [await person.trashed(), await person.trashed()]
    answer = await person.restore(*assets)
    assert answer.status == 200
    assert answer.json == {"count": 2}
    for asset in assets:
        row = await target.existing(asset)
        assert row["status"] == "active"
        assert row["deletedAt"] is None


async def test_restore_counts_what_was_sent_whatever_it_did(target: Target, person: Person) -> None:
    active, trashed, leaving = await person.asset(), await person.trashed(), await person.at_deleted()
    moment = (await target.existing(leaving))["deletedAt"]
    answer = await person.restore(active, trashed, leaving)
    assert answer.status == 200
    assert answer.json == {"count": 3}
    assert (await target.existing(active))["status"] == "active"
    assert (await target.existing(trashed))["status"] == "active"
    row = await target.existing(leaving)
    assert row["status"] == "deleted"
    assert row["deletedAt"] == moment


async def test_restore_refuses_the_whole_batch_for_one_foreign_id(target: Target, person: Person) -> None:
    asset = await person.trashed()
    foreign = await (await target.person()).trashed()
    target.assert_refused(await person.restore(asset, foreign), 400, NO_ACCESS)
    assert (await target.existing(asset))["status"] == "trashed"
    assert (await target.existing(foreign))["status"] == "trashed"


async def test_restore_of_all_restores_what_is_theirs(target: Target, person: Person) -> None:
    trashed, leaving = await person.trashed(), await person.at_deleted()
    foreign = await (await target.person()).trashed()
    answer = await person.request("POST", "/trash/restore")
    assert answer.status == 200
    assert answer.json == {"count": 1}
    statuses = [(await target.existing(asset))["status"] for asset in (trashed, leaving, foreign)]
    assert statuses == ["active", "deleted", "trashed"]


async def test_empty_takes_all_that_they_have_in_the_trash(target: Target, person: Person) -> None:
    target.slow_jobs(0.2)
    kept, trashed = await person.asset(), await person.assets_by_sql(40)
    await person.delete(*trashed)
    foreign = await (await target.person()).trashed()
    answer = await person.request("POST", "/trash/empty")
    assert answer.status == 200
    assert answer.json == {"count": 40}
    # On a real server the first rows may be gone by now; the last is not.
    assert (await target.existing(trashed[-1]))["status"] == "deleted"
    await target.gone(*trashed)
    assert (await target.existing(kept))["status"] == "active"
    assert (await target.existing(foreign))["status"] == "trashed"
    assert (await person.request("POST", "/trash/empty")).json == {"count": 0}


async def test_what_is_gone_is_answered_with_400(target: Target, person: Person) -> None:
    gone: UUID = await person.destroyed()
    target.assert_refused(await person.request("GET", f"/assets/{gone}"), 400, "Not found or no asset.read access")
    target.assert_refused(await person.delete(gone), 400, NO_ACCESS)
    target.assert_refused(await person.restore(gone), 400, NO_ACCESS)
