"""Tells by its size alone that a file is surely new to Immich, so that it need not be read before it is sent."""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime, timedelta
from heapq import merge

from immich_dbsync.model import OwnerId
from immich_dbsync.store.records import Store

_FRESH_S = 1.0  # for which what was read is believed; what is missed then is sent, and answered as a duplicate
_REST = 20  # times as long as reading it took, at least
_AWAITED = timedelta(minutes=10)  # for which a size is waited for, as the statement has it
_MANY = 10_000  # sizes that are kept apart, at eighty bytes each
_LATE = timedelta(minutes=1)  # an asset's row may be committed so long after the time that it bears


class LibrarySizes:
    """The sizes of the assets in one owner's library: eight bytes for each, read when first asked for.

    Afterwards only what is new in the library is read.
    """

    def __init__(self, owner: OwnerId, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._owner, self._store, self._clock = owner, store, clock
        self._sizes: array[int] | None = None  # ascending
        self._later: set[int] = set()  # of what was created since
        self._awaited = False  # some asset's size
        self._kept_here: bool | None = None  # whether this Immich keeps sizes at all
        self._since: datetime | None = None
        self._good_until = float("-inf")

    async def lack(self, size: int) -> bool:
        """Whether no asset has this size (bytes); False as well where that can't be told."""
        if self._clock() >= self._good_until:
            await self._read()
        return not (self._awaited or self._sizes is None or size in self._later or _holds(self._sizes, size))

    def add(self, size: int) -> None:
        """An asset of this size (bytes) was uploaded just now."""
        self._later.add(size)

    async def _read(self) -> None:
        began = self._clock()
        if self._kept_here is None:
            self._kept_here = await self._store.knows_sizes()
        if self._kept_here:
            sizes, self._awaited, at = await self._store.library_sizes(self._owner, self._since)
            if self._sizes is None:
                self._sizes = sizes
            else:
                self._later.update(sizes)
            if len(self._later) > _MANY:
                self._sizes = array("q", merge(self._sizes, sorted(self._later)))
                self._later.clear()
            self._since = at - (_AWAITED if self._awaited else _LATE)
        now = self._clock()
        self._good_until = now + max(_FRESH_S, _REST * (now - began))


def _holds(ascending: "array[int]", size: int) -> bool:
    index = bisect_left(ascending, size)
    return index < len(ascending) and ascending[index] == size
