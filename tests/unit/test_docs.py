"""What README and docs say of settings, exit codes, commands, files and make verbs is true of the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from immich_dbsync import __version__, errors
from immich_dbsync.cli import streams
from immich_dbsync.settings import Settings
from tests.command_tree import tree
from tests.docs import settings_page

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
COMMANDS = tree()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^\s*```.*?^\s*```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<![\w./=@-])(?:\S*/bin/)?immich-dbsync +([a-z][^\n`#|]*)")
_SNAP = re.compile(r"(?<![\w./-])snap [a-z].*$", re.MULTILINE)  # there our name is that of the snap
_MAKE = re.compile(r"(?<![\w-])make(?: +[A-Z]+=\S+)* +([a-z][a-z-]*)")


def _section(page: Path, heading: str) -> str:
    text = page.read_text(encoding="utf-8")
    begin = text.index(f"\n## {heading}\n")
    end = text.find("\n## ", begin + 1)
    return text[begin : end if end > 0 else None]


def _table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the section's first table, without heading and rule."""
    lines = _section(page, heading).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows[2:]


def _code(page: Path) -> Iterator[str]:
    """The page's code, by blocks and inline."""
    for found in _CODE.finditer(page.read_text(encoding="utf-8")):
        yield found.group().strip("`")


def _named_commands() -> list[tuple[str, str]]:
    found = {
        (page.name, match.group(1).strip())
        for page in PAGES
        for code in _code(page)
        for match in _COMMAND.finditer(_SNAP.sub("", code))
    }
    return sorted(found)


def _named_verbs() -> list[tuple[str, str]]:
    """Those of make, but for what a program prints: there it is the plain word."""
    return sorted(
        {
            (page.name, match.group(1))
            for page in PAGES
            for code in _code(page)
            if not code.lstrip("` \n").startswith("text\n")
            for match in _MAKE.finditer(code)
        }
    )


def _anchors(page: Path) -> set[str]:
    """The page's headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_settings_of_the_readme_are_settings_py() -> None:
    told = _table(README, "Settings")
    assert len(told) == 5
    for name, default, what in told:
        assert what
        assert default == settings_page.default(Settings.model_fields[name.strip("`")])


def test_the_exit_code_table_is_errors_py() -> None:
    leaves: dict[int, set[str]] = {}
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.DbsyncError) and error is not errors.DbsyncError:
            leaves.setdefault(error.exit_code, set()).add(error.__name__)
    table = _table(README, "Exit codes")
    told = {int(code): set(re.findall(r"`(\w+)`", names)) for code, names, _ in table}
    assert len(told) == len(table)
    nameless = {0, 1, 2, errors.NEEDS_SOMEBODY, 130, streams.READER_GONE}
    assert told == leaves | {code: set() for code in nameless}
    assert all(meaning for _, _, meaning in table)


def test_the_tables_and_triggers_told_of_are_those_of_the_schema() -> None:
    schema = (ROOT / "sql" / "schema" / "v1.sql").read_text(encoding="utf-8")
    page = ROOT / "docs" / "database.md"
    told = [row[0].strip("`") for row in _table(page, "What is created")]
    assert sorted(told) == sorted(re.findall(r"^create table immich_dbsync_v1\.(\w+)", schema, re.MULTILINE))
    triggers = re.findall(r"^create or replace trigger (\w+)", schema, re.MULTILINE)
    assert triggers
    assert set(triggers) == set(
        re.findall(r"^\| `(immich_dbsync_v1_\w+)`", _section(page, "What is created"), re.MULTILINE)
    )


def _check(line: str) -> None:
    """Follow the words down to a command or a group, then check that its options exist."""
    words = [word for word in line.split() if not word.startswith("--")]
    names = [" ".join(words[:length]) for length in range(len(words), 0, -1)]
    if any(name.startswith(line + " ") for name in COMMANDS):
        return  # a group by itself, as in "immich-dbsync triggers"
    found = next((name for name in names if name in COMMANDS), None)
    assert found is not None, f"there is no command {line!r}"
    options = {option for parameter in COMMANDS[found].params for option in parameter.opts} | {"--help"}
    assert {word for word in line.split() if word.startswith("--")} <= options


@pytest.mark.parametrize(("page", "line"), _named_commands())
def test_every_command_named_exists(page: str, line: str) -> None:
    assert page
    _check(line)


def test_every_command_is_in_the_readme() -> None:
    told = {cells[0].strip("`").removeprefix("immich-dbsync ").split(" --")[0] for cells in _table(README, "Commands")}
    assert told == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = _CODE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(prose):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_version_named_is_this_one() -> None:
    """Of a snap's file and in the README; the changelog has all of them."""
    named = {
        version
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for version in re.findall(r"immich-dbsync_([\d.]+)_|^Version ([\d.]+),", page.read_text(), re.MULTILINE)
    }
    assert {one or other for one, other in named} == {__version__}


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in _LINK.findall(README.read_text(encoding="utf-8"))}
    assert {str(page.relative_to(ROOT)) for page in PAGES} - linked == {"README.md"}


@pytest.mark.parametrize(("page", "verb"), _named_verbs())
def test_every_make_verb_named_exists(page: str, verb: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{verb}:", makefile, re.MULTILINE), f"{page} names make {verb}"


def test_the_pages_name_something() -> None:
    """Were the patterns above to find nothing, their tests would pass for nothing."""
    assert {"README.md", "database.md", "decisions.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {p.name for p in PAGES}
    commands = {line for _, line in _named_commands()}
    assert {"run", "users list", "triggers remove", "resync --dry-run"} <= commands
    assert {"demo", "test", "lint"} <= {verb for _, verb in _named_verbs()}
