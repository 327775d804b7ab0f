"""Directories that stay open for a moment, for many files that lie in them."""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_KEPT = 64  # descriptors at a time
# A held descriptor still leads to its directory after that was moved elsewhere; a path is trusted for this long.
_TRUSTED_S = 0.05


@dataclass(frozen=True, slots=True)
class _Held:
    """An open directory, where it really is, and since when (seconds of the clock)."""

    place: bytes
    fd: int
    since: float


class HeldFolders:
    """The directories used last. Not for use from two threads at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()

    def hold(self, key: Hashable, opened: Callable[[], tuple[bytes, int]]) -> tuple[bytes, int]:
        """Where the directory called ``key`` is, and its descriptor, which stays ours; ``opened`` opens it."""
        now = self._clock()
        if (held := self._held.get(key)) is not None:
            if now - held.since < _TRUSTED_S:
                self._held.move_to_end(key)
                return held.place, held.fd
            del self._held[key]
            os.close(held.fd)
        place, fd = opened()
        self._held[key] = _Held(place, fd, now)
        if len(self._held) > _KEPT:
            os.close(self._held.popitem(last=False)[1].fd)
        return place, fd

    def close(self) -> None:
        """Give back all descriptors."""
        while self._held:
            os.close(self._held.popitem()[1].fd)
