"""Rows of text, laid out so that nothing of them is cut, however narrow the terminal is."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

_GAP = 2  # between columns
_WORD = 20  # a longer word, as a path, may be folded to lines of this width
_LINES = 3  # and to no more lines than these


def laid_out(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[RenderableType]:
    """A table where it fits into ``width``, folded if need be; else each row as lines of column and value."""
    widths = _widths([columns, *rows], width)
    if widths is None:
        yield from _records(columns, rows)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, room in zip(columns, widths, strict=True):
        table.add_column(Text(column), width=room, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    yield table


def _widths(lines: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Of each column: what its longest cell needs, or less for the widest; None where a word would not fit."""
    cells = [*zip(*lines, strict=True)]
    widths = [min(width, max(map(cell_len, column))) for column in cells]
    least = [max(_least(word) for cell in column for word in cell.split() or [""]) for column in cells]
    room = width - _GAP * (len(cells) - 1)
    while sum(widths) > room:
        wide = [number for number, each in enumerate(widths) if each > least[number]]
        if not wide:
            return None
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _least(word: str) -> int:
    length = cell_len(word)
    return min(length, max(_WORD, -(-length // _LINES)))


def _records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Text]:
    named = max(map(cell_len, columns)) + _GAP
    for number, row in enumerate(rows):
        if number:
            yield Text()
        for column, value in zip(columns, row, strict=True):
            yield Text.assemble((column.ljust(named), "bold"), value)
