"""Reads the project's .sql files and the named blocks in them.

A block begins at a line ``-- name: block_name`` and ends at the next such line or at the end of the file. What
stands before the first block is a comment on the file.
"""

import re
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
# A wheel carries the files inside the package; an editable install finds them in the checkout, beside it.
_ROOTS = (_HERE / "_sql", _HERE.parent / "sql")
_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*\n", re.MULTILINE)


@cache
def text(name: str) -> str:
    """The whole text of ``sql/<name>.sql``; raises FileNotFoundError where there is none."""
    for root in _ROOTS:
        if root.is_dir():
            return (root / f"{name}.sql").read_text(encoding="utf-8")
    raise FileNotFoundError(_ROOTS[0])


@cache
def blocks(name: str) -> dict[str, str]:
    """Each named block of ``sql/<name>.sql``: its name to its SQL, surrounding white space taken off."""
    parts = _NAME.split(text(name))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"sql/{name}.sql names a block twice")
    return {block: body.strip() for block, body in zip(names, bodies, strict=True)}


def block(name: str, block_name: str) -> str:
    """The SQL of one named block; raises KeyError where the file has no such block."""
    return blocks(name)[block_name]
