"""What a shell is told could follow: users and numbers from the database, and never anything else."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Service, command, environment, installed, put
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ADA, BOB, EVE = "ada@example.org", "bob@example.org", "eve@example.org"


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    """Two users who are synced, of whom one is paused, and one who is not; a hold, and a file in quarantine."""
    async with staged(library_url, version=immich_version) as stage:
        stage.settings |= {"IMMICH_DBSYNC_SETTLE_TIME": "0.05", "IMMICH_DBSYNC_MOVE_GRACE": "0.2"}
        bob = await create_user(stage.connection, email=BOB)
        await create_user(stage.connection, email=EVE)
        key = await create_api_key(stage.connection, bob, PERMISSIONS)
        stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {key}"
        (stage.home / "sync" / str(bob)).mkdir()
        yield stage


def asked(words: str, *, env: dict[str, str]) -> list[str]:
    """What bash would offer at the end of this line."""
    count = len(words.split()) - (not words.endswith(" "))
    line = {"COMP_WORDS": words, "COMP_CWORD": str(count), "_IMMICH_DBSYNC_COMPLETE": "complete_bash"}
    ended = installed(env=env | line)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.split()


async def offers(stage: Stage, words: str, wanted: list[str]) -> None:
    """Return when this is offered; on a busy machine the database may not have answered in time at first."""

    async def check() -> bool:
        return await asyncio.to_thread(asked, f"immich-dbsync {words}", env=stage.environment()) == wanted

    await until(check, seconds=20)


async def test_users(stage: Stage) -> None:
    await offers(stage, "users add ", [ADA, BOB, EVE])
    await offers(stage, "users add b", [BOB])
    # Before anything is installed those with a key are known, and nobody is paused.
    await offers(stage, "users remove ", [ADA, BOB])
    await offers(stage, "users resume ", [])
    assert (await command("triggers", "install", env=stage.environment())).code == 0
    assert (await command("users", "pause", BOB, env=stage.environment())).code == 0
    await offers(stage, "users pause ", [ADA])
    await offers(stage, "users resume ", [BOB])
    for line in ("users remove ", "resync --user ", "resync --dry-run --user "):
        await offers(stage, line, [ADA, BOB])
    for line in ("history --user ", "quarantine list --user "):
        await offers(stage, line, [ADA, BOB, EVE])


async def test_numbers(stage: Stage) -> None:
    stage.settings |= {"IMMICH_DBSYNC_HOLD_MIN": "0", "IMMICH_DBSYNC_HOLD_FRACTION": "0"}
    for name in ("a.png", "b.png", "c.png"):
        put(stage.folder, name, picture(ord(name[0])))
    with Service(stage.environment(), stage.log) as service:
        await service.until_synced(stage, 3)
        await service.until_logged("scan.summary")
        await stage.connection.execute(
            "update asset set status = 'trashed', \"deletedAt\" = now() where \"originalFileName\" = 'a.png'"
        )
        (stage.folder / "b.png").unlink()

        async def both() -> bool:
            return bool(
                await stage.connection.fetchval(
                    "select (select count(*) from immich_dbsync_v1.quarantine) = 1"
                    " and (select count(*) from immich_dbsync_v1.records where hold_id is not null) = 1"
                )
            )

        await until(both, seconds=20)
    hold = str(await stage.connection.fetchval("select id from immich_dbsync_v1.holds"))
    file = str(await stage.connection.fetchval("select id from immich_dbsync_v1.quarantine"))
    for verb in ("show", "approve", "reject"):
        await offers(stage, f"holds {verb} ", [hold])
    await offers(stage, "quarantine restore ", [file])
    await offers(stage, "quarantine purge ", [])  # its asset is only in the trash
    await stage.connection.execute("delete from asset where \"originalFileName\" = 'a.png'")
    await offers(stage, "quarantine purge ", [file])
    assert (await command("holds", "approve", hold, "--yes", env=stage.environment())).code == 0
    await offers(stage, "holds approve ", [])
    await offers(stage, "holds show ", [hold])


def test_what_needs_no_database() -> None:
    env = environment({})
    assert asked("immich-dbsync demo --immich ", env=env) == ["2.7.5", "3.1.0"]
    assert "nobody" in asked("immich-dbsync users add x --folder-owner nob", env=env)
    assert asked("immich-dbsync us", env=env) == ["users"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"IMMICH_DBSYNC_DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/d"},
        {"IMMICH_DBSYNC_DATABASE_URL": "postgresql://u:s3cret@192.0.2.1/d"},  # nobody there, and no answer either
        {"IMMICH_DBSYNC_DATABASE_URL": "nonsense", "IMMICH_DBSYNC_LOG_LEVEL": "nonsense"},
        {"IMMICH_DBSYNC_NONSENSE": "1", "IMMICH_DBSYNC_CONFIG": "/nowhere"},
    ],
)
def test_whatever_is_wrong_nothing_is_said_and_soon(settings: dict[str, str]) -> None:
    began = time.monotonic()
    for line in ("users remove ", "statsu "):
        assert asked(f"immich-dbsync {line}", env=environment(settings)) == []
    assert time.monotonic() - began < 10
