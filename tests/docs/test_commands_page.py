"""The page of commands is the commands, and each one's JSON is described."""

from tests.command_tree import tree
from tests.docs.commands_page import PAGE, SHAPES, page


def test_the_page_is_what_is_generated() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


def test_whatever_prints_json_is_described() -> None:
    printing = {name for name, command in tree().items() if any("--json" in each.opts for each in command.params)}
    assert {name.partition(" --")[0] for name in SHAPES} == printing
