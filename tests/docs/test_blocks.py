"""What can be told of the examples in README and docs without running them."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from types import MappingProxyType

import pytest
import yaml

from immich_dbsync.cli.common import load_settings
from immich_dbsync.settings import CONFIG_VARIABLE
from tests.acceptance.commands import environment
from tests.command_tree import tree
from tests.docs.blocks import OURS, PAGES, ROOT, Block, blocks, commands
from tests.docs.reader import INSTALLING, INTERPRETED, NOT_RUN, RUN

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = tree()
CHECKED_ELSEWHERE = {"sql": "test_examples.py", "text": "it is for reading"}


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


# --- shells ---


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_every_command_is_one_that_is_known(block: Block) -> None:
    """A new one has to be sorted: is it run, or why not?"""
    for line in block.lines():
        for words in commands(line):
            assert words[0] in {*OURS, *RUN, *INTERPRETED, *INSTALLING, *NOT_RUN}, line


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_a_shell_understands_every_block(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def _named(words: list[str]) -> list[str]:
    """The options that are named, as a program's help has them."""
    return [
        word.partition("=")[0]
        for word in words
        if (word.startswith("-") and len(word) > 1 and word[1].isalpha()) or word.startswith("--")
    ]


def _in_its_help(words: list[str]) -> None:
    """Where the program is here: that its help has each option, and the verb if it has verbs."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not here")
    told = subprocess.run([words[0], "--help"], capture_output=True, text=True, check=False).stdout
    verbs = words[1:2] if words[0] == "timedatectl" else []
    for word in (*_named(words), *verbs):
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", told), word


def _limits(words: list[str]) -> None:
    """That the kernel knows what is set."""
    for word in words[1:]:
        name, _, value = word.partition("=")
        assert Path("/proc/sys", name.replace(".", "/")).is_file()
        assert int(value) > 0


def _dry(words: list[str]) -> None:
    subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, check=True)


def _exported(words: list[str]) -> None:
    [(name, _)] = [word.split("=", 1) for word in words[1:]]
    assert name in (ROOT / "tests" / "contract" / "conftest.py").read_text(encoding="utf-8")


def _tests(words: list[str]) -> None:
    assert words[1:3] == ["-m", "pytest"]
    assert all((ROOT / word).exists() for word in words[3:] if word.startswith("tests/"))


def _compose(words: list[str]) -> None:
    assert words == ["docker", "compose", "up", "-d"]


_LOOKED_AT: MappingProxyType[str, Callable[[list[str]], None]] = MappingProxyType(
    {
        "docker": _compose,
        "journalctl": _in_its_help,
        "timedatectl": _in_its_help,
        "sysctl": _limits,
        "make": _dry,
        "export": _exported,
        ".venv/bin/python": _tests,
    }
)


def _not_run() -> list[tuple[str, list[str]]]:
    return [
        (str(block), words)
        for block in of("sh")
        for line in block.lines()
        for words in commands(line)
        if words[0] in NOT_RUN
    ]


@pytest.mark.parametrize(("where", "words"), _not_run())
def test_what_is_not_run_is_looked_at(where: str, words: list[str]) -> None:
    assert where
    _LOOKED_AT[words[0]](words)


def test_the_exceptions_are_few_and_needed() -> None:
    assert {words[0] for _, words in _not_run()} == {*NOT_RUN} == {*_LOOKED_AT}
    assert all(NOT_RUN.values())


def _invocations() -> list[tuple[str, tuple[str, ...]]]:
    return [
        (str(block), tuple(words[1:]))
        for block in of("sh")
        for line in block.lines()
        for words in commands(line)
        if words[0] in OURS
    ]


@pytest.mark.parametrize(("where", "words"), _invocations())
def test_every_command_of_ours_takes_these_words(where: str, words: tuple[str, ...]) -> None:
    name = next(" ".join(words[:n]) for n in range(len(words), -1, -1) if n == 0 or " ".join(words[:n]) in COMMANDS)
    assert name in COMMANDS, where
    COMMANDS[name].make_context(name, list(words[len(name.split()) :]))  # raises for what it does not take


def test_there_are_many() -> None:
    """Were the patterns to find nothing, all of this would pass for nothing."""
    assert len(_invocations()) > 40
    assert {block.page.name for block in of("sh")} > {"start-docker.md", "start-server.md", "start-snap.md"}


# --- files ---


def _toml(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - environment({}).keys():
        monkeypatch.delenv(name)
    file = tmp_path / "immich-dbsync.toml"
    file.write_text(block.text)
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    load_settings()
    assert tomllib.loads(block.text)


def _yaml(block: Block) -> None:
    """They are Compose files, or Prometheus' own, which name our metrics."""
    for document in yaml.safe_load_all(block.text):
        assert document.keys() & {"services", "scrape_configs", "groups"}
        for rule in (rule for group in document.get("groups", []) for rule in group["rules"]):
            named = {*re.findall(r"immich_dbsync_\w+", rule["expr"])}
            assert named
            assert all(f"`{name}`" in block.page.read_text(encoding="utf-8") for name in named)


def _ini(block: Block) -> None:
    """The unit file, which test_systemd.py has systemd look at."""
    assert block.page == ROOT / "docs" / "systemd.md"
    ConfigParser(strict=True, interpolation=None).read_string(block.text)


def _mermaid(block: Block) -> None:
    """Every node that an arrow ends at says what it is."""
    kind, *lines = block.text.splitlines()
    assert kind.split()[0] == "flowchart"
    shown = set(re.findall(r"(\w+)(?:\(\[|\[|\{\{?)\"", block.text))
    ends = set()
    for line in filter(None, map(str.strip, lines)):
        assert line.count('"') % 2 == 0, line
        bare = re.sub(r"(\(\[|\{\{|\[|\{)\".*?\"(\]\)|\}\}|\]|\})", "", line)
        ends |= {end.strip() for end in re.split(r"--(?: \".*?\" --)?>|-\.->", bare)}
    assert ends == shown
    table = re.findall(r"^\| (\d+) \|", block.page.read_text(encoding="utf-8"), re.MULTILINE)
    told = {number for each in re.findall(r"\(([\d, ]+)\)", block.text) for number in each.split(", ")}
    assert told == {*table}, "each row of the table has its place in the picture"


_READERS: MappingProxyType[str, Callable[[Block], object]] = MappingProxyType(
    {"yaml": _yaml, "ini": _ini, "mermaid": _mermaid, "json": lambda block: json.loads(block.text)}
)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_it_is_and_is_that(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.language == "toml":
        _toml(block, tmp_path, monkeypatch)
    elif block.language in _READERS:
        _READERS[block.language](block)
    else:
        assert block.language in {"sh", *CHECKED_ELSEWHERE}, "write after the three ticks what it is"
