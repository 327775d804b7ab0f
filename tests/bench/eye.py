"""Sees files come and go at once, through the kernel's inotify: exact, and without asking again and again."""

import ctypes
import os
import select
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

LEFT = 0x40  # IN_MOVED_FROM
CAME = 0x80  # IN_MOVED_TO
_OVERFLOW = 0x4000
_HEADER = struct.Struct("iIII")
_BUFFER = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)


class Eye:
    """Watches single folders for names that ``LEFT`` or ``CAME`` by rename; a context manager."""

    def __init__(self, folders: Iterable[Path | str], mask: int) -> None:
        self._fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        for folder in folders:
            if _libc.inotify_add_watch(self._fd, os.fsencode(folder), mask) < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch {folder}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def wait(self, count: int = 1, *, seconds: float = 120.0) -> float:
        """The monotonic time at which so many names had been seen; AssertionError after ``seconds``."""
        now = time.monotonic()
        deadline, seen = now + seconds, 0
        while seen < count:
            left = deadline - time.monotonic()
            assert left > 0, f"{seen} of {count} names within {seconds} s"
            if select.select([self._fd], [], [], left)[0]:
                buffer = os.read(self._fd, _BUFFER)
                now = time.monotonic()
                seen += sum(1 for _ in _names(buffer))
        return now

    def fileno(self) -> int:
        """What becomes readable when there are names."""
        return self._fd

    def names(self) -> list[bytes]:
        """The names that were seen since the last time."""
        try:
            return [*_names(os.read(self._fd, _BUFFER))]
        except BlockingIOError:
            return []


def _names(buffer: bytes) -> Iterator[bytes]:
    """The names that the kernel tells of, but for hidden ones."""
    offset = 0
    while offset < len(buffer):
        _, mask, _, length = _HEADER.unpack_from(buffer, offset)
        assert not mask & _OVERFLOW, "the kernel dropped events"
        name = buffer[offset + _HEADER.size : offset + _HEADER.size + length].rstrip(b"\0")
        offset += _HEADER.size + length
        if not name.startswith(b"."):
            yield name
