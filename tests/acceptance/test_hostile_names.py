"""Whatever a file is called, no command prints it raw: a name may hold what a terminal obeys."""

import os
from collections.abc import AsyncIterator

import pytest

from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Ended, Service, command, put
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\nroot is fine\udc9b31m.png"
SHOWN = "x\\x1b]0;owned\\x07\\x1b[2J\\nroot is fine\\x9b31m.png"


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    async with staged(library_url, version=immich_version) as stage:
        stage.settings |= {"IMMICH_DBSYNC_SETTLE_TIME": "0.05", "IMMICH_DBSYNC_MOVE_GRACE": "0.2"}
        yield stage


async def told(stage: Stage, *words: str) -> Ended:
    """What a command said, none of it raw."""
    ended = await command(*words, env=stage.environment())
    assert all(line.isprintable() for line in (ended.out + ended.err).replace("\t", " ").splitlines()), ended
    return ended


async def until_it_is(stage: Stage, query: str, wanted: int) -> None:
    async def check() -> bool:
        return bool(await stage.connection.fetchval(query) == wanted)

    await until(check)


async def test_no_command_prints_a_name_as_it_is(stage: Stage) -> None:
    put(stage.folder, HOSTILE, picture(0))
    put(stage.folder, "c.png", picture(1))
    assert (await told(stage, "triggers", "install")).code == 0
    assert SHOWN in (await told(stage, "resync", "--dry-run")).out
    with Service(stage.environment(), stage.log):
        await until_it_is(stage, "select count(asset_id) from immich_dbsync_v1.records", 2)
        assert SHOWN in (await told(stage, "history")).out
        await stage.connection.execute(
            "update immich_dbsync_v1.records set xxh3 = decode(repeat('00', 16), 'hex') where path <> 'c.png'"
        )
        assert SHOWN in (await told(stage, "resync", "--rehash")).err
        assert SHOWN in (await told(stage, "status")).err
        (stage.folder / HOSTILE).rename(stage.folder / f"y{HOSTILE}")
        await told(stage, "resync")
        await stage.connection.execute(
            """update asset set status = 'trashed', "deletedAt" = now()
               where id = (select asset_id from immich_dbsync_v1.records where path <> 'c.png' limit 1)"""
        )
        await until_it_is(stage, "select count(*) from immich_dbsync_v1.quarantine", 1)
        assert SHOWN in (await told(stage, "quarantine", "list")).out
        assert SHOWN in (await told(stage, "quarantine", "restore", "1")).out
        for words in (["history", f"{HOSTILE}x"], ["quarantine", "list", "--path", f"{HOSTILE}x"]):
            assert (await told(stage, *words)).code == 13
    log = stage.log.read_text()
    assert "\x1b" not in log
    assert "owned" in log


async def test_what_lies_behind_a_link_is_not_suggested(stage: Stage) -> None:
    elsewhere = stage.home / "secrets"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "passwords-of-root").touch()
    put(stage.folder, "c.png", picture(1))
    os.symlink(elsewhere, stage.folder / "Camera")  # noqa: PTH211
    ended = await told(stage, "resync", "--path", "Camera/passwords-of-rot")
    assert ended.code == 13
    assert "passwords-of-root" not in ended.out + ended.err
