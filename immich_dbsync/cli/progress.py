"""How far long work is: one line that moves, on standard error where that is a terminal, and gone at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from immich_dbsync.service.questions import Progress


class Line:
    """``tell`` what is under way; ``hide`` it while something else is printed."""

    def __init__(self, text: str) -> None:
        console = Console(stderr=True)
        self._status = console.status(escape(text), spinner="line") if console.is_terminal else None

    def tell(self, text: str) -> None:
        """Show this text from now on."""
        if self._status is not None:
            self._status.update(escape(text))
            self._status.start()

    def hide(self) -> None:
        """Show nothing until something is told again."""
        if self._status is not None:
            self._status.stop()


@contextmanager
def shown(text: str) -> Iterator[Progress]:
    """Show this text until another one is told."""
    line = Line(text)
    line.tell(text)
    try:
        yield line.tell
    finally:
        line.hide()
