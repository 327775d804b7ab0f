"""``immich-dbsync status --watch`` stays and tells of each change, until Ctrl-C."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import PROGRAM, Service, command, on_terminal, put
from tests.faults.proxy import Proxy
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    async with staged(library_url, version=immich_version) as stage:
        stage.settings |= {"IMMICH_DBSYNC_SETTLE_TIME": "0.05", "IMMICH_DBSYNC_HOLD_MIN": "0"}
        stage.settings |= {"IMMICH_DBSYNC_HOLD_FRACTION": "0", "IMMICH_DBSYNC_MOVE_GRACE": "0.2"}
        put(stage.folder, "a.png", picture(1))
        yield stage


@contextmanager
def watching(stage: Stage) -> Iterator[Path]:
    """The command in a pipe, until the block ends; then it is told Ctrl-C, and ends well."""
    out = stage.home / "watched"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [*PROGRAM, "status", "--watch"], env=stage.environment(), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        yield out
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, out.read_text()
    finally:
        process.kill()
        process.wait()


async def says(out: Path, sentence: str) -> None:
    async def check() -> bool:
        return sentence in await asyncio.to_thread(out.read_text)

    await until(check, seconds=30)


async def test_each_change_is_a_line_in_a_pipe(stage: Stage) -> None:
    with Service(stage.environment(), stage.log) as service:
        await service.until_logged("owner.started")
        with watching(stage) as out:
            await says(out, "\tall in sync")
            (stage.folder / "a.png").unlink()
            await says(out, "wait for you  → immich-dbsync holds list")
            assert (await service.stop())[0] == 0
            await says(out, "no service syncs ada@example.org  → immich-dbsync run")
        told = (await asyncio.to_thread(out.read_text)).splitlines()
    assert all(first.split("\t")[1] != then.split("\t")[1] for first, then in pairwise(told))


async def test_a_folder_that_is_missing_is_said_to_be_beside_a_service_that_runs(stage: Stage) -> None:
    bob = await create_user(stage.connection, email="bob@example.org")
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {key}"
    his = stage.home / "sync" / str(bob)
    his.mkdir()
    with Service(stage.environment(), stage.log) as service:
        await until(lambda: asyncio.to_thread(lambda: len(service.logged("scan.summary")) == 2))
        with watching(stage) as out:
            await says(out, "\tall in sync")
            his.rename(stage.home / "away")
            await says(out, f"\tneeds you: bob@example.org: '{his}' is ")
            await until(lambda: asyncio.to_thread(lambda: bool(service.logged("root.unusable"))), seconds=30)
            ended = await command("status", env=stage.environment())
        told = await asyncio.to_thread(out.read_text)
    assert ended.code == 12
    assert f"! bob@example.org: '{his}' " in ended.err
    assert "no service" not in ended.out + ended.err + told
    assert told.splitlines()[-1].endswith("→ immich-dbsync doctor")


async def test_a_database_that_is_lost_is_told_and_waited_for(stage: Stage) -> None:
    url = urlsplit(stage.database_url)
    async with Proxy(Path(parse_qs(url.query)["host"][0], ".s.PGSQL.5432")) as proxy:
        with Service(stage.environment(), stage.log) as service:
            await service.until_logged("file.uploaded")
            stage.settings["IMMICH_DBSYNC_DATABASE_URL"] = proxy.url(url.path.lstrip("/"))
            with watching(stage) as out:
                await says(out, "\tall in sync")
                proxy.refusing = True
                proxy.cut()
                await says(out, "\tneeds you: ")
                proxy.refusing = False
                await until(lambda: asyncio.to_thread(lambda: out.read_text().count("\tall in sync") == 2), seconds=30)
            told = await asyncio.to_thread(out.read_text)
    assert "→ immich-dbsync doctor" in told.splitlines()[1]


async def test_on_a_terminal_all_of_it_is_shown(stage: Stage) -> None:
    with Service(stage.environment(), stage.log) as service:
        await service.until_logged("file.uploaded")
        shown = await asyncio.to_thread(
            on_terminal, "status", "--watch", env=stage.environment(), dialogue=[("all in sync", "\x03")]
        )
    assert shown.code == 0, shown
    for text in ("ada@example.org", "running", "upload", "a.png"):
        assert text in shown.out


async def test_what_can_not_be_watched(stage: Stage) -> None:
    ended = await command("status", "--watch", "--json", env=stage.environment())
    assert ended.code == 2
    nowhere = {**stage.environment(), "IMMICH_DBSYNC_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/d"}
    assert "PostgreSQL does not answer" in (await command("status", "--watch", env=nowhere)).complaint(4)
