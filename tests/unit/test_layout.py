"""However narrow a terminal is, nothing of a table is cut."""

import io
from collections import Counter

import pytest
from rich.console import Console

from immich_dbsync.cli.layout import laid_out

COLUMNS = ("user", "done", "path", "why it was done")
ROWS = [
    ("ada@example.org", "upload", "Camera/2026/IMG_20261129_174402_0001.jpg", "new in the folder"),
    ("bob@example.org", "quarantine", "写真/[b]not bold[/b].jpg", "its asset is in Immich's trash"),
]


def shown(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(*laid_out(COLUMNS, ROWS, width), sep="\n", soft_wrap=True)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def letters(text: str) -> Counter[str]:
    return Counter(text) - Counter({" ": len(text)})


def test_a_table_where_it_fits() -> None:
    lines = shown(120)
    assert len(lines) == 1 + len(ROWS)
    assert all(cell in line for line, row in zip(lines[1:], ROWS, strict=True) for cell in row)


@pytest.mark.parametrize("width", range(70, 120, 7))
def test_a_table_that_is_folded(width: int) -> None:
    lines = shown(width)
    assert letters("".join(lines)) == letters("".join(map("".join, [COLUMNS, *ROWS])))
    assert "ada@example.org" in lines[1]  # short words stay whole
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [10, 40, 50])
def test_lines_of_key_and_value_where_it_does_not_fit(width: int) -> None:
    lines = shown(width)
    assert lines[:5] == [f"{name:<17}{value}" for name, value in zip(COLUMNS, ROWS[0], strict=True)] + [""]
    assert len(lines) == 4 + 1 + 4
