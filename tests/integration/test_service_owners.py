"""Several owners at once: what one does must not matter to another."""

import shutil
from typing import Any

import asyncpg
import pytest

from immich_dbsync.demo.people import delete_user
from immich_dbsync.model import OwnerId, RelPath
from immich_dbsync.service import observe
from immich_dbsync.service.snapshot import Snapshot, snapshot
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)


async def test_two_owners_with_the_same_picture(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    sync.put("a.png", ONE)
    bob.put("a.png", ONE)
    await sync.start()
    hers, his = await sync.tied("a.png"), await bob.tied("a.png")
    assert hers != his
    await sync.trash(hers)
    await sync.gone("a.png")
    await sync.idle()
    assert bob.files() == {"a.png": ONE}
    bob.path("a.png").unlink()
    await bob.becomes(ONE, "trashed")
    await sync.restore(hers)
    await sync.there("a.png", ONE)
    await sync.idle()
    assert bob.files() == {}
    assert await bob.status(ONE) == "trashed"


@pytest.mark.parametrize("trick", ["forged", "folder", "link", "file"])
async def test_a_forged_marker_stops_nobody_else(sync: Harness, trick: str) -> None:
    bob = await sync.add_person("bob@example.org")
    state = bob.folder / ".immich-dbsync"
    if trick == "file":
        state.write_text("x")
    elif trick == "link":
        state.symlink_to("/")
    else:
        state.mkdir()
        if trick == "folder":
            (state / "root-id").mkdir()
        else:
            (state / "root-id").write_text("x" * 1000)
    sync.put("a.png", ONE)
    await sync.start(wait=False)
    await sync.tied("a.png")
    assert sync.running()
    problem = await until(bob.problem)
    assert problem


async def test_a_lost_root_stops_nobody_else(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    sync.put("a.png", ONE)
    bob.put("b.png", TWO)
    await sync.start()
    await bob.tied("b.png")
    bob.folder.rename(sync.stage.home / "aside")
    assert await until(bob.problem)
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")
    assert await bob.status(TWO) == "active"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_an_owner_deleted_in_the_middle_of_a_look_keeps_their_files(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """The user goes, with all assets, before or after the database is asked; the disk was already."""
    sync.put("a.png", ONE)
    await sync.start()
    await sync.rescan()
    asked: list[None] = []

    async def deleted() -> None:
        if not asked:
            asked.append(None)
            connection = await asyncpg.connect(sync.stage.database_url)
            await delete_user(connection, sync.user)
            await connection.close()

    async def torn(pool: "asyncpg.Pool[asyncpg.Record]", owner: OwnerId, **what: Any) -> Snapshot:
        if before:
            await deleted()
        seen = await snapshot(pool, owner, **what)
        await deleted()
        return seen

    monkeypatch.setattr(observe, "snapshot", torn)
    sync.owner().hint([RelPath(b"a.png")])
    await sync.becomes(ONE, None)
    await sync.rescan()
    assert asked
    assert sync.files() == {"a.png": ONE}


async def test_deletions_in_immich_while_the_folder_was_not_healthy_are_made_up_for(sync: Harness) -> None:
    sync.path(".stfolder").mkdir()
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.trash(await sync.asset(TWO))
    await sync.gone("b.png")
    await sync.idle()
    shutil.rmtree(sync.path(".stfolder"))
    sync.owner().parts.observer._checked_at = float("-inf")  # markers are believed for a second
    await sync.trash(await sync.asset(ONE))
    await sync.restore(await sync.asset(TWO))

    async def handled() -> bool:
        return not await sync.connection.fetchval("select count(*) from immich_dbsync_v1.events") or bool(
            sync.session and any(drain.stuck for drain in sync.session._drains.values())
        )

    await until(handled)
    assert sync.files() == {"a.png": ONE}
    sync.path(".stfolder").mkdir()
    await sync.gone("a.png", seconds=40)
    await sync.there("b.png", TWO, seconds=40)


async def test_a_folder_that_is_not_healthy_is_told(sync: Harness) -> None:
    sync.path(".stfolder").mkdir()
    sync.put("a.png", ONE)
    await sync.start()
    shutil.rmtree(sync.path(".stfolder"))
    sync.path("a.png").unlink()
    problem = await until(sync.problem, seconds=5)
    assert problem
    assert await sync.status(ONE) == "active"


async def test_a_stfolder_lost_while_the_service_was_down_counts(sync: Harness) -> None:
    sync.put("Camera/a.png", ONE)
    sync.path("Camera/.stfolder").mkdir()
    await sync.start()
    await sync.stop()
    shutil.rmtree(sync.path("Camera"))
    sync.path("Camera").mkdir()
    await sync.start(wait=False)

    async def scanned_or_trashed() -> bool:
        return await sync.status(ONE) == "trashed" or any(
            b"Camera/a.png" in owner.dispatch.left for owner in sync.syncs()
        )

    await until(scanned_or_trashed)
    assert await sync.status(ONE) == "active"


async def test_a_key_that_nobody_knows_is_looked_for_again(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    await sync.connection.execute('create table lost as select * from api_key where "userId" = $1', bob.user)
    await sync.connection.execute('delete from api_key where "userId" = $1', bob.user)
    for person in (sync, bob):
        person.put("a.png", picture(1))
    await sync.start(wait=False)
    await sync.becomes(picture(1), "active")
    assert await bob.status(picture(1)) is None
    await sync.connection.execute("insert into api_key select * from lost")
    await sync.connection.execute("drop table lost")
    await bob.becomes(picture(1), "active")
    assert len(sync.syncs()) == 2


async def test_what_postgresql_refuses_of_one_owner_ends_nobody_elses_sync(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an answer of more than a gigabyte: thousands of copies of one picture, at paths of thousands of bytes."""
    bob = await sync.add_person("bob@example.org")
    await sync.start()

    async def too_large(pool: Any, owner: OwnerId, **what: Any) -> Snapshot:
        if owner == bob.user and RelPath(b"b.png") in what.get("paths", ()):
            raise asyncpg.ProgramLimitExceededError("string buffer exceeds maximum allowed length")
        return await snapshot(pool, owner, **what)

    monkeypatch.setattr(observe, "snapshot", too_large)
    bob.put("b.png", TWO)
    assert "exceeds maximum" in str(await until(bob.problem))
    sync.put("a.png", ONE)
    await sync.tied("a.png")
    assert sync.running()
