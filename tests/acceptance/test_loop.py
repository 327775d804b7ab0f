"""The whole loop, with the installed command as a process, on every PostgreSQL and Immich version at hand."""

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import VERSIONS, ImmichVersion
from tests.databases import MAJORS, Servers
from tests.files import files_below
from tests.waiting import until

# The grace is long enough that a move is seen whole on a busy machine, and short enough to wait for.
# A third of all pictures is deleted at once: nobody is to be asked.
SETTINGS = {
    "IMMICH_DBSYNC_MOVE_GRACE": "0.5",
    "IMMICH_DBSYNC_SETTLE_TIME": "0.05",
    "IMMICH_DBSYNC_HEARTBEAT": "1",
    "IMMICH_DBSYNC_HOLD_MIN": "100",
}
PATIENCE_S = 60.0


def sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


class Loop:
    """What a user does to either side, and what both sides show."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession, seed: int) -> None:
        self.stage = stage
        self.session = session
        self.random = random.Random(seed)
        self.pictures: dict[str, bytes] = {}  # all that was ever put into the folder, by path

    def add(self, count: int, prefix: str) -> list[str]:
        """Put new pictures into nested folders, with times of their own, each whole from the first moment."""
        paths = []
        for number in range(count):
            path = f"{prefix}/{number % 3}/{number % 7}/IMG_{number:04}.jpg"
            file = self.stage.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            content = self.random.randbytes(self.random.randrange(500, 20_000))
            part = file.with_name(f".syncthing.{file.name}.tmp")
            part.write_bytes(content)
            taken = self.random.randrange(10**18, 17 * 10**17)
            os.utime(part, ns=(taken, taken))
            part.rename(file)
            self.pictures[path] = content
            paths.append(path)
        return paths

    def remove(self, paths: list[str]) -> None:
        for path in paths:
            (self.stage.folder / path).unlink()

    def on_disk(self) -> dict[str, bytes]:
        """Every file that a file sync tool would see."""
        return files_below(self.stage.folder)

    async def assets(self) -> dict[str, UUID]:
        """The asset of each path, as our records say; none before the service has made its tables."""
        if await self.stage.connection.fetchval("select to_regclass('immich_dbsync_v1.records')") is None:
            return {}
        rows = await self.stage.connection.fetch(
            "select path, asset_id from immich_dbsync_v1.records where asset_id is not null"
        )
        return {bytes(row["path"]).decode(): row["asset_id"] for row in rows}

    async def status(self) -> dict[str, int]:
        rows = await self.stage.connection.fetch("select status::text, count(*) from asset group by status")
        return {row[0]: row[1] for row in rows}

    async def ask(self, method: str, path: str, ids: list[UUID]) -> None:
        url = self.stage.immich.url + path
        async with self.session.request(method, url, json={"ids": [str(i) for i in ids]}) as response:
            assert response.status in {200, 204}

    async def trash(self, paths: list[str]) -> list[UUID]:
        assets = await self.assets()
        ids = [assets[path] for path in paths]
        await self.ask("DELETE", "/api/assets", ids)
        return ids

    async def agree(self) -> bool:
        """Whether every file's content is an active asset and every active asset's content is a file, each once."""
        rows = await self.stage.connection.fetch("select encode(checksum, 'hex') from asset where status = 'active'")
        active = sorted(row[0] for row in rows)
        held = sorted({sha1(content) for content in self.on_disk().values()})
        return active == held

    def uploads(self) -> int:
        return sum(request == ("POST", "/api/assets") for request in self.stage.immich.requests)


def alive(stage: Stage, check: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    """The check, which fails at once with the service's log when the service has ended."""

    async def checked() -> bool:
        assert stage.process is not None
        assert stage.process.poll() is None, stage.log.read_text()
        return await check()

    return checked


@contextmanager
def explained(stage: Stage) -> Iterator[None]:
    """Show the service's log beside a failure."""
    try:
        yield
    except AssertionError as error:
        error.add_note(stage.log.read_text()[-8000:] if stage.log.exists() else "no log")
        raise


# Each PostgreSQL, and each version of Immich's tables.
MATRIX = [*zip(sorted(MAJORS, reverse=True), cycle(VERSIONS[::-1]), strict=False)]


@pytest.fixture(params=MATRIX, ids=[f"pg{major}-immich{version}" for major, version in MATRIX])
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[tuple[str, ImmichVersion]]:
    """A database's URL and its Immich version, for each of these in turn."""
    major, version = request.param
    with servers.database(version, major) as name:
        yield servers.cluster(major).url(name), version


@pytest.mark.timeout(240)
async def test_both_sides_follow_each_other(
    database: tuple[str, ImmichVersion], timed: Callable[[str, float], None]
) -> None:
    url, version = database
    async with (
        staged(url, version=version, settings=SETTINGS) as stage,
        aiohttp.ClientSession(headers={"x-api-key": stage.key}) as session,
    ):
        with explained(stage):
            await play(Loop(stage, session, seed=1), timed)


async def play(loop: Loop, timed: Callable[[str, float], None]) -> None:
    stage = loop.stage

    async def when(check: Callable[[], Awaitable[bool]]) -> float:
        since = time.monotonic()
        await until(alive(stage, check), seconds=PATIENCE_S)
        return time.monotonic() - since

    # 200 pictures in nested folders arrive, each once.
    first = loop.add(200, "Camera")
    stage.start()

    async def all_tied() -> bool:
        return len(await loop.assets()) == 200

    timed("200 arrive", await when(all_tied))
    assert "psycopg" in mapped(stage)  # which made the triggers
    assert await loop.status() == {"active": 200}
    assert loop.uploads() == 200
    assert await loop.agree()

    # 50 are trashed through the API in one request, and their files are gone.
    trashed = first[:50]
    ids = await loop.trash(trashed)

    async def files_gone() -> bool:
        return not any((stage.folder / path).exists() for path in trashed)

    timed("50 trashed, files gone", await when(files_gone))
    assert set(loop.on_disk()) == set(first[50:])

    # 50 files are deleted, and their assets are trashed.
    deleted = first[50:100]
    loop.remove(deleted)

    async def assets_trashed() -> bool:
        return await loop.status() == {"active": 100, "trashed": 100}

    timed("50 deleted, assets trashed", await when(assets_trashed))

    # 20 restored assets have their files back with the same bytes, time and path.
    before = dict(zip(trashed, ids, strict=True))
    back = trashed[:20]
    await loop.ask("POST", "/api/trash/restore/assets", [before[path] for path in back])

    async def files_back() -> bool:
        return all((stage.folder / path).exists() for path in back)

    timed("20 restored, files back", await when(files_back))
    on_disk = loop.on_disk()
    assert {path: on_disk[path] for path in back} == {path: loop.pictures[path] for path in back}
    assert all(10**18 <= (stage.folder / path).stat().st_mtime_ns < 17 * 10**17 for path in back)

    async def settled() -> bool:
        return await loop.agree() and len(await loop.assets()) == 120

    await when(settled)

    # A power cut; 10 files come, 10 go and 10 assets are trashed meanwhile.
    stage.kill()
    added = loop.add(10, "Meanwhile")
    removed = first[100:110]
    loop.remove(removed)
    trashed_meanwhile = first[110:120]
    await loop.trash(trashed_meanwhile)
    stage.start()

    async def agreed() -> bool:
        return await loop.agree() and len(await loop.assets()) == 110

    timed("after SIGKILL both sides agree", await when(agreed))
    assert "psycopg" not in mapped(stage)  # they are in order, and it would be memory for nothing
    assert set(loop.on_disk()) == {*first[120:], *back, *added}
    assert await loop.status() == {"active": 110, "trashed": 100}
    assert loop.uploads() == 210
    await nothing_lost(loop)
    assert await status_of(stage) == 0
    assert stage.stop() == 0


def mapped(stage: Stage) -> str:
    """The files that the service's process has in its memory."""
    assert stage.process is not None
    return Path(f"/proc/{stage.process.pid}/maps").read_text()


async def nothing_lost(loop: Loop) -> None:
    """Every picture there ever was is on disk, in quarantine or in Immich's trash."""
    stage = loop.stage
    rows = await stage.connection.fetch("select encode(checksum, 'hex') from asset")
    kept = {row[0] for row in rows}
    quarantine = stage.folder / ".immich-dbsync" / "quarantine"
    kept |= {sha1(path.read_bytes()) for path in quarantine.rglob("*.jpg")}
    kept |= {sha1(content) for content in loop.on_disk().values()}
    assert {sha1(content) for content in loop.pictures.values()} <= kept
    assert len(list(quarantine.rglob("*.jpg"))) == 50 - 20 + 10


async def status_of(stage: Stage) -> int:
    """The exit code of `immich-dbsync status`."""
    program = Path(sys.executable).with_name("immich-dbsync")
    process = await asyncio.create_subprocess_exec(
        program, "status", "--json", env=stage.environment(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    owners = json.loads(out)["owners"]
    assert [owner["synced"] for owner in owners] == [110], owners
    assert process.returncode is not None
    return process.returncode
