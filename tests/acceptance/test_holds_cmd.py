"""``immich-dbsync holds``: deletions that wait for a person, decided on the command line."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from immich_dbsync.demo.stage import Stage, staged
from tests.acceptance.commands import Service, command, put
from tests.databases import Servers
from tests.waiting import until

QUICK = {"IMMICH_DBSYNC_MOVE_GRACE": "1.0", "IMMICH_DBSYNC_SETTLE_TIME": "0.05"}
FILES = 30


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    with servers.database() as name:
        yield servers.cluster().url(name)


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    async with staged(database, version="3.1.0", settings=dict(QUICK)) as stage:
        yield stage


async def emptied(service: Service, stage: Stage) -> None:
    """A synced folder whose files are all deleted, and a hold of that."""
    for number in range(FILES):
        put(stage.folder, f"Camera/{number:02}.jpg", b"%d" % number)
    await service.until_synced(stage, FILES)
    for path in (stage.folder / "Camera").iterdir():
        path.unlink()
    await service.until_logged("hold.opened", seconds=30)


async def counted(stage: Stage, status: str, count: int) -> None:
    async def check() -> bool:
        found: int = await stage.connection.fetchval("select count(*) from asset where status::text = $1", status)
        return found == count

    await until(check, seconds=20)


async def test_a_hold_is_listed_shown_and_approved(stage: Stage) -> None:
    env = stage.environment()
    with Service(env, stage.home / "log") as service:
        await emptied(service, stage)
        ended = await command("status", env=env)
        assert ended.code == 12
        assert "1 hold waits for you" in ended.err

        ended = await command("holds", "list", env=env)
        assert ended.code == 0
        number, user, files, decision, what, _ = ended.out.rstrip("\n").split("\t")
        assert (number, user, files, decision) == ("1", "ada@example.org", str(FILES), "waiting")
        assert what == "deleted from the folder; to be moved to Immich's trash"
        [hold] = (await command("holds", "list", "--json", env=env)).json["holds"]
        assert (hold["id"], hold["files"], hold["direction"]) == (1, FILES, "folder")

        ended = await command("holds", "show", "1", env=env)
        assert f"and {FILES - 20} more" in ended.out
        assert "Camera/00.jpg" in ended.out
        ended = await command("holds", "show", "1", "--all", env=env)
        assert ended.out.count("Camera/") == FILES
        assert len((await command("holds", "show", "1", "--json", env=env)).json["files"]) == FILES

        # Nobody is there to be asked, so nothing is decided.
        ended = await command("holds", "approve", "1", env=env)
        assert ended.code == 14
        assert "--yes" in ended.err
        await counted(stage, "active", FILES)
        ended = await command("holds", "approve", "1", "--yes", env=env)
        assert ended.code == 0
        assert "Hold 1 is approved." in ended.out
        await counted(stage, "trashed", FILES)

        async def over() -> bool:
            ended = await command("holds", "list", env=env)
            return ended.out == "" and ended.err == "Nothing waits for a person.\n"

        await until(over, seconds=20)
        assert (await command("status", env=env)).code == 0


async def test_a_rejected_hold_keeps_the_assets(stage: Stage) -> None:
    env = stage.environment()
    with Service(env, stage.home / "log") as service:
        await emptied(service, stage)
        await service.stop()
    # Decided while no service runs; the next one carries it out.
    ended = await command("holds", "reject", "1", "--yes", "--json", env=env)
    assert ended.code == 0
    assert (ended.json["hold"]["id"], ended.json["hold"]["decision"]) == (1, "rejected")
    assert datetime.fromisoformat(ended.json["hold"]["decided_at"]) <= datetime.now(UTC)
    ended = await command("holds", "approve", "1", "--yes", env=env)
    assert "Hold 1 was rejected before." in ended.complaint(13)
    with Service(env, stage.home / "log") as service:
        await service.until_logged("hold.closed", seconds=20)
    await counted(stage, "active", FILES)
    assert await stage.connection.fetchval("select count(*) from immich_dbsync_v1.records") == 0


async def test_a_hold_that_is_not_there_is_said_not_to_be(stage: Stage) -> None:
    env = stage.environment()
    await command("triggers", "install", env=env)
    for verb in ("show", "approve", "reject"):
        assert (await command("holds", verb, "7", env=env)).complaint(13) == "There is no hold 7. There are: none."


async def test_without_our_schema_it_says_what_to_do(stage: Stage) -> None:
    assert "triggers install" in (await command("holds", "list", env=stage.environment())).complaint(6)
