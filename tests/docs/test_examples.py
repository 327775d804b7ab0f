"""The examples of README and docs are run: each page is followed from its first block to its last."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from immich_dbsync.demo.people import create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage
from tests.acceptance.commands import PROGRAM, command, environment, installed, put
from tests.docs.blocks import OURS, PAGES, ROOT, Block, blocks, commands
from tests.docs.reader import INSTALLING, INTERPRETED, NOT_RUN, SOMEBODY, Reader
from tests.waiting import until

DOCS = ROOT / "docs"
SNAP = DOCS / "snap.md"
_END_S = 120.0
STARTS = [DOCS / name for name in ("start-docker.md", "start-server.md", "start-snap.md")]


def _does_something(block: Block) -> bool:
    if block.language == "sql":
        return True
    lines = block.lines() if block.language == "sh" else []
    return any(words[0] not in {*NOT_RUN, *INSTALLING, *INTERPRETED} for line in lines for words in commands(line))


UNINSTALLING, MOVING = DOCS / "uninstalling.md", DOCS / "moving.md"
STORIES = {*STARTS, UNINSTALLING, MOVING}  # to be followed from one block to the next
COMMANDS = DOCS / "commands.md"  # one example of each, in no order: test_every_command.py runs them
OTHERS = [page for page in PAGES if page not in {*STORIES, COMMANDS} and any(map(_does_something, blocks(page)))]


@pytest.mark.parametrize("page", STARTS, ids=lambda page: page.stem)
async def test_a_page_for_beginners_ends_with_a_picture_in_immich(page: Path, stage: Stage) -> None:
    """From nothing, by what the page says alone."""
    with Reader(stage) as reader:
        root = reader.world / "srv/immich-sync"
        if page.name == "start-snap.md":
            root = in_snap(reader)
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
        for rights in (block for block in blocks(SNAP) if page.name == "start-snap.md" and "setfacl" in block.text):
            await reader.do(rights)
        # Else Syncthing could not write there.
        assert (root / str(stage.user) / "Camera").stat().st_uid == (SOMEBODY if os.geteuid() == 0 else os.getuid())


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
async def test_what_a_page_says_can_be_done(page: Path, stage: Stage) -> None:
    """On a server where all is well, and is so again before each block."""
    with Reader(stage) as reader:
        for block in blocks(page):
            await reader.settle_in()
            if block.language in {"sh", "sql"}:
                await reader.do(block)


def in_snap(reader: Reader, snap: str = "immich-dbsync") -> Path:
    """What its configure hook makes and its launcher sets; the sync root."""
    common = reader.world / "var/snap" / snap / "common"
    (common / "dbsync").mkdir()
    reader.settings["IMMICH_DBSYNC_SYNC_ROOT"] = str(common / "sync")
    reader.settings["IMMICH_DBSYNC_API_KEYS_FILE"] = str(common / "dbsync" / "api-keys")
    return common / "sync"


@pytest.mark.parametrize("inside", [False, True], ids=["a server", "Immich Distribution"])
async def test_who_uninstalls_finds_no_trace_afterwards(inside: bool, stage: Stage) -> None:
    text = UNINSTALLING.read_text(encoding="utf-8")
    apart = text.count("\n", 0, text.index("\n### In Immich Distribution\n"))
    with Reader(stage) as reader:
        if inside:
            in_snap(reader, "immich-distribution")
        else:
            await stage.connection.execute("create role dbsync")
        await reader.settle_in()
        for block in blocks(UNINSTALLING):
            if (inside and "users remove" in block.text) or inside == (block.line > apart):
                await reader.do(block)
        left = """
            select nspname from pg_namespace where nspname like 'immich_dbsync%'
            union all select tgname from pg_trigger where tgname like 'immich_dbsync%'
            union all select rolname from pg_roles where rolname = 'dbsync'
            union all select name from api_key
        """
        assert await stage.connection.fetch(left) == []
        where = reader.world / ("var/snap/immich-distribution" if inside else "")
        assert not [
            path for path in where.rglob("*") if "dbsync" in path.name and "var/snap/immich-dbsync" not in str(path)
        ]


async def test_who_moves_from_the_old_feature_leaves_nothing_of_it(stage: Stage) -> None:
    await stage.connection.execute(
        """create table assets_delete_audits (id uuid);
           create table assets_filesync_lookup (id uuid);
           create function log_assets_delete_audits() returns trigger language plpgsql as 'begin return null; end';
           create trigger trigger_assets_delete_audits after delete on asset
             for each row execute function log_assets_delete_audits()"""
    )
    with Reader(stage) as reader:
        root = in_snap(reader)
        reader.settings["IMMICH_DBSYNC_DATABASE_URL"] = stage.database_url
        reader.settings["IMMICH_DBSYNC_SERVER_URL"] = str(stage.immich.url)
        old = reader.world / "var/snap/immich-distribution/common/sync" / str(stage.user)
        put(old, "Phone/IMG_0001.png", picture(0))
        for block in blocks(MOVING):
            await reader.do(block)
            if "doctor" in block.text:
                assert reader.last is not None
                assert "older sync tool" in reader.last.out
                assert all(name in reader.last.out for name in ("assets_filesync_lookup", "log_assets_delete_audits"))
        ended = await command("triggers", "verify", "--json", env=reader.environment())
        assert ended.json["warnings"] == []
        await reader.synced(1, below="Phone")
        assert (root / str(stage.user) / "Phone" / "IMG_0001.png").exists()
        assert not old.exists()


def test_the_demo_shows_what_the_readme_does() -> None:
    """The same steps, whatever time they took."""
    step = re.compile(r"✓ (.+?) {2,}[\d.]+ m?s {2}(.+)")
    ended = installed("demo", env=environment({}))
    assert ended.code == 0, ended
    shown = step.findall(ended.out)
    assert len(shown) == 5
    assert shown == step.findall((ROOT / "README.md").read_text(encoding="utf-8"))


@contextmanager
def kept(out: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """The demo that stays, until the block ends; it writes to ``out``."""
    with out.open("wb") as file:
        process = subprocess.Popen([*PROGRAM, "demo", "--keep"], env=environment({}), stdout=file, stderr=file)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(_END_S) == 0
    finally:
        process.terminate()
        process.wait(_END_S)


async def test_what_the_demo_keeps_can_be_played_with(tmp_path: Path) -> None:
    """From the README alone to a first picture of one's own."""
    out = tmp_path / "out"
    with kept(out) as process:

        async def told() -> dict[str, str]:
            assert process.poll() is None, out.read_text()
            found = dict(re.findall(r"^  (folder|database) +(\S+)$", out.read_text(), re.MULTILINE))
            return found if len(found) == 2 else {}

        places = await until(told, seconds=60)
        connection = await asyncpg.connect(places["database"])
        try:
            put(Path(places["folder"]), "Mine/first.png", picture(100))

            async def arrived() -> bool:
                name = """select exists (select from asset where "originalFileName" = 'first.png')"""
                return bool(await connection.fetchval(name))

            await until(arrived, seconds=20)
            await _try_other_commands(out.read_text(), connection)
        finally:
            await connection.close()


async def _try_other_commands(said: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What it prints for another terminal works there."""
    lines = said.partition("With these in another terminal")[2].splitlines()
    exports = [shlex.split(line)[1] for line in lines if line.startswith("  export ")]
    env = environment(dict(each.split("=", 1) for each in exports))
    ended = await command("status", "--json", env=env)
    assert [(owner["email"], owner["running"]) for owner in ended.json["owners"]] == [("ada@example.org", True)]
    await create_user(connection, email="bob@example.org")
    ended = await command("users", "add", "bob@example.org", env=env)
    assert "The service syncs it now." in ended.out
    [asset] = re.findall(r'"ids": \["([0-9a-f-]{36})"\]', said)
    assert asset in (await command("history", "--json", env=env)).out


def test_the_pages_are_those() -> None:
    """Were nothing found on them, their tests would pass for nothing."""
    named = {page.stem for page in OTHERS}
    assert {"database", "everyday", "security", "troubleshooting"} <= named
    ours = [
        words
        for page in (*STORIES, *OTHERS)
        for block in blocks(page)
        if block.language == "sh"
        for line in block.lines()
        for words in commands(line)
        if words[0] in OURS
    ]
    assert len(ours) > 60
