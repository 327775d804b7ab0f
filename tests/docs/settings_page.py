"""docs/settings.md, made from the settings class. ``make docs`` writes it, and a test compares."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from textwrap import fill
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from immich_dbsync.settings import DEFAULT_CONFIG, PREFIX, Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

_GROUPS = {
    "database_url": "Immich's database",
    "server_url": "Immich's server",
    "sync_root": "The folders",
    "delete_threshold": "Deletions",
    "uploads": "The service",
}
"""Headings, each by the first setting below it; a new setting belongs to the group it stands in."""

_HEAD = f"""# Settings

This page is generated from `immich_dbsync/settings.py` by `make docs`.

A setting is looked for in the environment, then in the settings file; otherwise it has its default. The file is
`{DEFAULT_CONFIG}` where it exists, or what `{PREFIX}CONFIG` names. It is TOML, and a setting has its short name in it,
as in these five that every set-up needs:

```toml
database_url = "postgresql://postgres:PASSWORD@127.0.0.1:5432/immich"
server_url = "http://127.0.0.1:2283"
sync_root = "/srv/immich-sync"
api_keys_file = "/etc/immich-dbsync.keys"
delete_threshold = 30
```

It holds a password, so let nobody else read it: `chmod 600`. A mistyped name is an error, in the file and in the
environment. A variable that is set to nothing counts as not set. Immich's own variables are looked for too, after ours;
in the environment they go before the file as well. Settings are read when a command begins, so restart the service
after a change; only the file of API keys is read again when it changes.

What is in force, and where each setting comes from, with secrets masked:

```sh
immich-dbsync config show
```

In a snap settings are options, checked when they are set, and the service starts anew by itself: see
[In a snap](snap.md).
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        if name in _GROUPS:
            yield f"## {_GROUPS[name]}\n"
        yield _section(name, field)


def _section(name: str, field: FieldInfo) -> str:
    assert field.description, f"{name} has no description"
    ours, immichs = names(field)
    cells = {
        "variable": f"`{ours}`",
        "Immich's own": ", ".join(f"`{each}`" for each in immichs),
        "option of the snap": "" if name.startswith("db_") else f"`dbsync.{name.replace('_', '-')}`",
        "default": default(field),
        "values": values(field),
    }
    cells = {head: cell for head, cell in cells.items() if cell}
    rows = (cells, ["---"] * len(cells), cells.values())
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    text = f"### {name if not name.startswith('db_') else ours}\n\n{fill(field.description, 120)}\n\n{table}\n"
    for example in field.examples or ():
        text += f"\n```toml\n{toml(name, example)}\n```\n"
    return text


def names(field: FieldInfo) -> tuple[str, list[str]]:
    """The variable of a setting, and Immich's own names for it."""
    choices = field.validation_alias
    assert isinstance(choices, AliasChoices)
    first, *others = [name for name in choices.choices if isinstance(name, str) and name.isupper()]
    return first, others


def default(field: FieldInfo) -> str:
    """A setting's default in words."""
    value = field.default
    if value is None or value in ((), {}, frozenset()):
        return "none"
    assert not isinstance(value, SecretStr)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def values(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    return _type(field.annotation) or _bounds(field)


def _type(annotation: Any) -> str:
    arguments = get_args(annotation)
    match get_origin(annotation):
        case None if isinstance(annotation, type) and issubclass(annotation, StrEnum):
            return _choice(list(annotation), "or")
        case None:
            return {str: "text", SecretStr: "text", Path: "a path", bool: "`true` or `false`"}.get(annotation, "")
        case origin if origin is Literal:
            return _choice(arguments, "or")
        case origin if origin in (Union, UnionType):
            return _type(next(each for each in arguments if each is not type(None)))
        case origin if origin is frozenset:
            return _choice(get_args(arguments[0]), "and")
        case origin if origin is tuple:
            return "texts"
        case origin if origin is dict:
            return f"for each folder {_type(arguments[1])}"
    return ""


def _choice(of: "list[Any] | tuple[Any, ...]", word: str) -> str:
    *others, last = [f"`{each}`" for each in of]
    return f"{', '.join(others)} {word} {last}" if others else last


def _bounds(field: FieldInfo) -> str:
    least = next((str(each.ge) for each in field.metadata if isinstance(each, Ge)), None)
    above = next((str(each.gt) for each in field.metadata if isinstance(each, Gt)), None)
    most = next((str(each.le) for each in field.metadata if isinstance(each, Le)), None)
    kinds: dict[Any, str] = {int: "whole number", int | None: "whole number", float: "number"}
    kind = kinds.get(field.annotation, "a URL")
    if least is not None and most is not None:
        return f"{kind}, {least} to {most}"
    if least is not None:
        return f"{kind}, {least} or more"
    return f"{kind}, more than {above}" if above is not None else kind


def toml(name: str, example: object) -> str:
    """A setting as the file has it."""
    if isinstance(example, Mapping):
        return "\n".join([f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(each)}" for key, each in example.items())])
    return f"{name} = {json.dumps(example)}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
