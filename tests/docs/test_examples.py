"""The examples of README and docs are run: each page is followed from its first block to its last."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from immich_dbsync.demo.stage import Stage, staged
from tests.acceptance.commands import command, environment, installed
from tests.databases import Servers
from tests.docs.blocks import OURS, PAGES, ROOT, Block, blocks, commands
from tests.docs.reader import INTERPRETED, NOT_RUN, Reader

DOCS = ROOT / "docs"
STARTS = [DOCS / name for name in ("start-docker.md", "start-server.md", "start-snap.md")]


def _does_something(block: Block) -> bool:
    if block.language == "sql":
        return True
    lines = block.lines() if block.language == "sh" else []
    return any(words[0] not in {*NOT_RUN, *INTERPRETED} for line in lines for words in commands(line))


OTHERS = [page for page in PAGES if page not in STARTS and any(map(_does_something, blocks(page)))]


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    with servers.database() as name:
        yield servers.cluster().url(name)


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    async with staged(database, version="3.1.0") as stage:
        await stage.connection.execute("delete from api_key")
        yield stage
        if await stage.connection.fetchval("select 1 from pg_roles where rolname = 'dbsync'"):
            await stage.connection.execute("drop owned by dbsync; drop role dbsync")


@pytest.mark.parametrize("page", STARTS, ids=lambda page: page.stem)
async def test_a_page_for_beginners_ends_with_a_picture_in_immich(page: Path, stage: Stage) -> None:
    """From nothing, by what the page says alone."""
    with Reader(stage) as reader:
        if page.name == "start-snap.md":  # what its configure hook makes, and its launcher sets
            common = reader.world / "var/snap/immich-dbsync/common"
            (common / "sync").mkdir(parents=True)
            reader.settings["IMMICH_DBSYNC_SYNC_ROOT"] = str(common / "sync")
            reader.settings["IMMICH_DBSYNC_API_KEYS_FILE"] = str(common / "api-keys")
        for block in blocks(page):
            if block.language == "text":
                assert reader.last is not None
                assert reader.last.out.split("\n")[0].split() == block.text.split("\n")[0].split(), block
            await reader.do(block)
            if "picture.jpg" in block.text:
                await reader.synced(1)
        ended = await command("status", "--json", env=reader.environment())
        assert ended.code == 0, ended
        assert [(owner["email"], owner["synced"], owner["running"]) for owner in ended.json["owners"]] == [
            ("ada@example.org", 1, True)
        ]
        assert await stage.connection.fetchval("select count(*) from asset where status = 'active'") == 1
        assert reader.last is not None
        assert "Nothing needs to be mended." in reader.last.out


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
async def test_what_a_page_says_can_be_done(page: Path, stage: Stage) -> None:
    """On a server where all is well, and is so again before each block; but who uninstalls goes from step to step."""
    with Reader(stage) as reader:
        await reader.settle_in()
        if page.name == "uninstalling.md":
            await stage.connection.execute("create role dbsync")
        for block in blocks(page):
            if page.name != "uninstalling.md":
                await reader.settle_in()
            if block.language in {"sh", "sql"}:
                await reader.do(block)
        if page.name == "uninstalling.md":
            ours = "select count(*) from pg_namespace where nspname like 'immich_dbsync%'"
            assert await stage.connection.fetchval(ours) == 0
            assert await stage.connection.fetchval("select count(*) from api_key") == 0
            assert not [path for path in reader.world.rglob("*dbsync*") if path.name != "grants.sql"]


def test_the_demo_shows_what_the_readme_does() -> None:
    """The same steps, whatever time they took."""
    step = re.compile(r"✓ (.+?) {2,}[\d.]+ m?s {2}(.+)")
    ended = installed("demo", env=environment({}))
    assert ended.code == 0, ended
    shown = step.findall(ended.out)
    assert len(shown) == 5
    assert shown == step.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_pages_are_those() -> None:
    """Were nothing found on them, their tests would pass for nothing."""
    named = {page.stem for page in OTHERS}
    assert {"database", "everyday", "moving", "security", "troubleshooting", "uninstalling"} <= named
    ours = [
        words
        for page in (*STARTS, *OTHERS)
        for block in blocks(page)
        if block.language == "sh"
        for line in block.lines()
        for words in commands(line)
        if words[0] in OURS
    ]
    assert len(ours) > 60
