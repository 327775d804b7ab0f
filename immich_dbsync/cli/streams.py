"""Standard input, output and error as every command needs them, whatever they were given as."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from immich_dbsync.errors import OutputLost

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

READER_GONE = 141
"""The exit code where nobody reads the output any more: what a shell says of a program that SIGPIPE ended."""

_STAND_INS = {"✓": "+", "✗": "x", "•": "*", "●": "*", "→": "->", "…": "..."}
_ERRORS = "immich-dbsync"  # the name under which Python knows _stand_in


class _Output(io.FileIO):
    """Standard output. Its errors have kinds of their own: an OSError would be taken for one of a file or a socket."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self._give_up()
            raise SystemExit(READER_GONE) from None
        except OSError as error:
            self._give_up()
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OutputLost(f"Standard output can't be written to: {reason}.") from None

    def _give_up(self) -> None:
        """Let what is still in buffers go nowhere."""
        _open_null(os.O_WRONLY, self.fileno())


class _Error(io.FileIO):
    """Standard error. Where nothing can be said, that can't be said either; it is no reason to stop a service."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def checked() -> Iterator[None]:
    """Have standard output written to its end, or leave with one line and an exit code that say that it can't be.

    What a terminal can't show is escaped. Streams that are closed are opened, so that no file or socket gets their
    numbers: reading finds the end, and writing to the output fails.
    """
    codecs.register_error(_ERRORS, _stand_in)
    if sys.stdin is None:
        _open_null(os.O_RDONLY, 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as the process
    if sys.stdout is None:
        _open_null(os.O_RDONLY, 1)
    if sys.stderr is None:
        _open_null(os.O_WRONLY, 2)
    sys.stdout = _text(_Output(1, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Error(2, "wb", closefd=False), sys.stderr)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        sys.stderr.write(f"immich-dbsync: {lost}\n")
        sys.exit(lost.exit_code)


def _text(raw: io.FileIO, like: TextIO | None) -> TextIO:
    encoding = "utf-8" if like is None else like.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, _ERRORS, line_buffering=raw.isatty() or raw.fileno() == 2)


def _open_null(flags: int, number: int) -> None:
    null = os.open(os.devnull, flags)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """For characters that a terminal can't show: ours have a stand-in, others are escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end
