"""Every command: what it prints with ``--json`` is what its page says, and its failures are one sentence and a code."""

import asyncio
import os
import pty
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from immich_dbsync.demo.people import create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import (
    PROGRAM,
    Ended,
    Service,
    command,
    environment,
    installed,
    invoked,
    on_terminal,
    put,
    to_a_full_disk,
    to_nobody,
)
from tests.command_tree import tree
from tests.docs.commands_page import SHAPES
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

LEAVES = sorted(tree())
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ARGUMENTS = {
    "holds show": ["1"],
    "holds approve": ["1", "--yes"],
    "holds reject": ["1", "--yes"],
    "quarantine restore": ["1"],
    "quarantine purge": ["1", "--yes"],
    "users add": ["ada@example.org"],
    "users remove": ["ada@example.org", "--yes"],
    "users pause": ["ada@example.org"],
    "users resume": ["ada@example.org"],
    "triggers remove": ["--yes"],
}
"""What the commands are given that need something."""

NEEDS_NOTHING = {"demo", "triggers sql"}
"""They read no settings."""

TELLING = {"doctor", "config show"}
"""What is wrong with the settings, or with what they lead to, is what they are asked for."""


def words(leaf: str) -> list[str]:
    return [*leaf.split(), *ARGUMENTS.get(leaf, [])]


# --- JSON ---


def keys(value: Any, shape: Any) -> None:
    """What is printed has the keys that are described, at every depth that is described."""
    if isinstance(shape, list):
        assert value, "nothing of it was printed, so nothing was compared"
        for each in value:
            keys(each, shape[0])
    elif isinstance(shape, dict) and value is not None:
        named = shape.keys() - {"*"}  # the star stands for keys that are not named
        assert value.keys() == named or ("*" in shape and value.keys() >= named)
        for key, below in shape.items():
            if key in value and (below or not isinstance(below, list)):
                keys(value[key], below)


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    """Four pictures: one stays, one is in quarantine for good, one for now, and one's deletion is on hold."""
    async with staged(library_url, version=immich_version) as stage:
        await create_user(stage.connection, email="bob@example.org", name="Bob")
        keys_file = stage.home / "keys"
        keys_file.write_text(f"{stage.key}\n")
        keys_file.chmod(0o600)
        stage.settings |= {
            "IMMICH_DBSYNC_API_KEYS": "",
            "IMMICH_DBSYNC_API_KEYS_FILE": str(keys_file),
            "IMMICH_DBSYNC_SETTLE_TIME": "0.05",
            "IMMICH_DBSYNC_MOVE_GRACE": "0.1",
            "IMMICH_DBSYNC_HOLD_MIN": "0",
            "IMMICH_DBSYNC_HOLD_FRACTION": "0",
        }
        for number, name in enumerate(("stays.png", "gone.png", "trashed.png", "held.png")):
            put(stage.folder, name, picture(number))
        with Service(stage.environment(), stage.log):
            await until(lambda: counts(stage, "upload", 4), seconds=20)
            trash = 'update asset set status = \'trashed\', "deletedAt" = now() where "originalFileName" = any($1)'
            await stage.connection.execute(trash, ["gone.png", "trashed.png"])
            await until(lambda: counts(stage, "quarantine", 2), seconds=20)
            (stage.folder / "held.png").unlink()
            await until(lambda: counts(stage, "hold", 1), seconds=20)
        await stage.connection.execute("delete from asset where \"originalFileName\" = 'gone.png'")
        yield stage


async def counts(stage: Stage, action: str, wanted: int) -> bool:
    there = await stage.connection.fetchval("select to_regclass('immich_dbsync_v1.history') is not null")
    query = "select count(*) from immich_dbsync_v1.history where action = $1"
    return bool(there) and bool(await stage.connection.fetchval(query, action) == wanted)


async def test_what_json_holds_is_described(stage: Stage) -> None:
    async def printed(*given: str) -> Any:
        ended = await command(*given, "--json", env=stage.environment())
        assert ended.code in {0, 12}, ended
        found = ended.json
        assert found.pop("version") == 1
        return found

    held = (await printed("holds", "list"))["holds"][0]["id"]
    files = {file["path"]: str(file["id"]) for file in (await printed("quarantine", "list"))["files"]}
    given: dict[str, list[str]] = {
        "status": [],
        "doctor": [],
        "resync --dry-run": [],
        "resync": [],
        "holds list": [],
        "holds show": [str(held)],
        "holds approve": [str(held), "--yes"],
        "quarantine list": [],
        "quarantine restore": [files["trashed.png"]],
        "quarantine purge": [files["gone.png"], "--yes"],
        "history": [],
        "users list": [],
        "users add": ["bob@example.org"],
        "users pause": ["ada@example.org"],
        "users resume": ["ada@example.org"],
        "users remove": ["bob@example.org", "--yes"],
        "config show": [],
        "triggers verify": [],
        "triggers remove": ["--yes"],
        "triggers install": [],
    }
    assert given.keys() == SHAPES.keys() - {"holds reject"}  # like approve, of a hold that waits
    put(stage.folder, "new.png", picture(9))  # for the dry run to plan something
    for leaf, more in given.items():
        found, shape = await printed(*leaf.split(), *more), dict(SHAPES[leaf])
        for key in ("left", "left_out", "problems", "planned"):
            if found.get(key) == []:  # nothing was left, or is wrong
                del found[key], shape[key]
        keys(found, shape)


PRINTING = ("status", "doctor", "holds list", "quarantine list", "history", "users list", "config show", "triggers sql")


async def test_output_that_nobody_reads_or_that_finds_no_room(stage: Stage) -> None:
    """It is an error neither of the database nor of ours: silence, as if by SIGPIPE, or one line."""
    for leaf in (*PRINTING, "--help", "holds --help"):
        ended = await asyncio.to_thread(to_nobody, *leaf.split(), env=stage.environment())
        assert (leaf, ended.code) == (leaf, 141), ended
        assert not {"Traceback", "lost", "pipe"} & {*ended.err.split()}, ended
        ended = await asyncio.to_thread(to_a_full_disk, *leaf.split(), env=stage.environment())
        complaint = "immich-dbsync: Standard output can't be written to: No space left on device."
        assert (leaf, ended.code, ended.err.splitlines()[-1]) == (leaf, 15, complaint), ended
        assert "Traceback" not in ended.err


@pytest.mark.parametrize("words", ["--help", "config show", "triggers sql"])
def test_streams_that_are_closed(words: str) -> None:
    closed = installed(*words.split(), env=environment({}), before=["sh", "-c", 'exec "$@" <&- >&-', "sh"])
    assert (closed.code, closed.out) == (15, "")
    assert closed.err == "immich-dbsync: Standard output can't be written to: it is closed.\n"
    speechless = installed(*words.split(), env=environment({}), before=["sh", "-c", 'exec "$@" <&- 2>&-', "sh"])
    assert speechless.code == (3 if words == "config show" else 0)
    assert (speechless.out != "", speechless.err) == (True, "")


async def test_a_terminal_without_utf_8(stage: Stage) -> None:
    put(stage.folder, "Überblick.png", picture(11))
    plain = {**stage.environment(), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "TERM": "xterm"}
    shown = {}
    for leaf in ("status", "doctor", "resync --dry-run", "users list", "--help"):
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, *leaf.split(), env=plain, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        shown[leaf] = await asyncio.to_thread(_all_of, ours)
        assert await process.wait() in {0, 12}, shown
        assert "Traceback" not in shown[leaf]
    assert "+" in shown["doctor"]
    assert r"\xdcberblick.png" in shown["resync --dry-run"]


def _all_of(terminal: int) -> str:
    told = b""
    with suppress(OSError):  # EIO once nobody has it open any more
        while data := os.read(terminal, 1 << 16):
            told += data
    os.close(terminal)
    return told.decode()


@pytest.mark.parametrize("columns", [80, 50])
async def test_on_a_narrow_terminal_nothing_is_cut(stage: Stage, columns: int) -> None:
    shown = {}
    for leaf in ("status", "users list", "history", "quarantine list", "holds list"):
        ended = await asyncio.to_thread(on_terminal, *leaf.split(), env=stage.environment(), columns=columns)
        assert ended.code in {0, 12}, ended
        assert "…" not in ended.out
        assert "ada@example.org" in ended.out
        shown[leaf] = "".join(_COLOURS.sub("", ended.out).split())
    assert "quarantined2" in shown["status"]  # a line of its own for each
    assert str(stage.folder) in shown["users list"]
    assert all(f"{name}.png" in shown["history"] for name in ("stays", "gone", "trashed", "held"))


# --- failures ---


def complaint(ended: Ended, *codes: int) -> None:
    """One sentence on stderr, nothing on stdout, no traceback."""
    assert ended.code in codes, ended
    assert ended.out == ""
    ended.complaint(ended.code)


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf not in NEEDS_NOTHING | TELLING])
def test_without_settings_it_says_which_are_missing(leaf: str) -> None:
    complaint(invoked(*words(leaf), settings={}), 3)


# `run` waits for one.
@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf not in NEEDS_NOTHING | {*TELLING, "run"}])
def test_without_a_database_it_says_that_none_answers(leaf: str) -> None:
    settings = {
        "IMMICH_DBSYNC_DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/d",
        "IMMICH_DBSYNC_SYNC_ROOT": "/nowhere",
        "IMMICH_DBSYNC_API_KEYS": "s3cret",
    }
    ended = invoked(*words(leaf), settings=settings)
    if leaf == "users add":  # it wants a file for the key first
        complaint(ended, 3, 4)
    else:
        complaint(ended, 4)
        assert re.search(
            r"PostgreSQL does not answer.*: Connection refused\. Is it running, is the address right", ended.err
        )
        assert "Errno" not in ended.err
    assert "s3cret" not in ended.err


@pytest.mark.parametrize("leaf", LEAVES)
def test_an_option_that_there_is_not(leaf: str) -> None:
    ended = invoked(*words(leaf), "--nonsense", settings={})
    assert (ended.code, ended.out) == (2, "")
    assert "--nonsense" in ended.err
    assert "Traceback" not in ended.err


# --- where our schema is not installed ---

WITHOUT_SCHEMA = {
    "status": 6,
    "holds list": 6,
    "holds show": 6,
    "holds approve": 6,
    "holds reject": 6,
    "quarantine list": 6,
    "quarantine restore": 6,
    "quarantine purge": 6,
    "history": 6,
    "users pause": 6,
    "users resume": 6,
    "triggers verify": 6,
}
"""The codes of those that can't do without: `resync` and `run` install it, others are not about it."""


@pytest.mark.parametrize("leaf", WITHOUT_SCHEMA)
async def test_without_our_schema_it_says_how_to_install_it(
    leaf: str, library_url: str, immich_version: ImmichVersion
) -> None:
    async with staged(library_url, version=immich_version) as stage:
        await stage.connection.execute("drop schema if exists immich_dbsync_v1 cascade")
        ended = await command(*words(leaf), env=stage.environment())
        assert ended.code == WITHOUT_SCHEMA[leaf], ended
        assert "immich-dbsync triggers install" in ended.err
        assert "Traceback" not in ended.err


# --- help ---


@pytest.mark.parametrize("leaf", ["", *LEAVES, *sorted({leaf.split()[0] for leaf in LEAVES if " " in leaf})])
def test_its_help_is_for_people(leaf: str) -> None:
    """No name of a Python type, no broken paragraph, and an example, for a group as well."""
    ended = invoked(*leaf.split(), "-h", settings={"COLUMNS": "1000"})
    assert (ended.code, ended.err) == (0, "")
    assert not re.search(r"<(?:bool|str|int|list)|\{[a-z]", ended.out)
    assert re.search(rf"Examples?:\s+immich-dbsync {leaf}", ended.out)
    [command] = [each for name, each in [*tree().items(), ("", None)] if name == leaf] or [None]
    for paragraph in (command.help or "").split("\n\n") if command is not None else ():
        assert " ".join(paragraph.split()) in ended.out


@pytest.mark.parametrize("word", ["help", "version"])
def test_a_word_for_an_option_is_told_to_be_one(word: str) -> None:
    ended = invoked(word, settings={})
    assert ended.code == 2
    assert f"Did you mean immich-dbsync --{word}?" in ended.err


@pytest.mark.parametrize("option", ["--user", "--path"])
@pytest.mark.parametrize("leaf", ["resync", "quarantine list", "quarantine restore", "history"])
def test_an_empty_name_does_not_mean_everything(leaf: str, option: str) -> None:
    if (leaf, option) == ("history", "--path"):
        return  # an argument there
    ended = invoked(*leaf.split(), option, "", settings={})
    assert (ended.code, ended.out) == (2, "")
    assert "it is empty" in ended.err


@pytest.mark.parametrize("leaf", LEAVES)
def test_its_help_has_an_example_of_it(leaf: str) -> None:
    ended = invoked(*leaf.split(), "--help", settings={"COLUMNS": "200"})
    assert (ended.code, ended.err) == (0, "")
    assert f"Example: immich-dbsync {leaf}" in ended.out


def test_the_help_of_all_names_each() -> None:
    ended = invoked("--help", settings={"COLUMNS": "200"})
    assert ended.code == 0
    for leaf in LEAVES:
        assert leaf.split()[0] in ended.out
