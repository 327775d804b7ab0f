"""docs/logging.md has every event that the program logs and no other, with level and fields."""

import ast
import re
from collections import defaultdict
from pathlib import Path

from immich_dbsync.metrics import EVENTS

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| `([a-z_.]+)` \| (\w+) \| .+ \| (.*)\|$", re.MULTILINE)

_WRITTEN = {"exc_info": "exception"}  # fields that are called otherwise in the log


def logged() -> dict[str, tuple[set[str], set[str]]]:
    """The levels and the fields of each event, as the source has them."""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in (ROOT / "immich_dbsync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                    args=[ast.Constant(value=str(event))],
                    keywords=fields,
                ):
                    found[event][0].add(level)
                    assert all(field.arg for field in fields), f"{event}: its fields are to be read off the source"
                    found[event][1].update(_WRITTEN.get(str(field.arg), str(field.arg)) for field in fields)
    return found


def test_every_event_is_there_with_its_level_and_fields() -> None:
    text = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    said = {event: ({level}, {*re.findall(r"`(\w+)`", fields)}) for event, level, fields in _ROW.findall(text)}
    assert said == logged()


def test_every_warning_and_error_is_counted_from_nought() -> None:
    assert {*EVENTS} == {event for event, (levels, _) in logged().items() if levels & {"warning", "error"}}


def test_every_call_names_its_event() -> None:
    """Else the page could not have it."""
    calls = 0
    for path in (ROOT / "immich_dbsync").rglob("*.py"):
        calls += len(re.findall(r"^\s*log\.\w+\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert calls >= len(logged())
    assert calls == sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
        for path in (ROOT / "immich_dbsync").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )
