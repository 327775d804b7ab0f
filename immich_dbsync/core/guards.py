"""When so much is deleted at once that a person should look first. Small predicates; who counts is elsewhere."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from immich_dbsync.model import RelPath

WINDOW_S = 60.0
"""Deletions this close together are one pass, in seconds."""

FOLDER_MIN = 10
"""A folder with fewer synced files may be emptied without asking."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deletions of one pass are too many when they are more than ``minimum`` and more than ``fraction`` of all."""

    minimum: int
    fraction: float

    def exceeded(self, deletions: int, synced: int) -> bool:
        """Whether so many deletions are too many for an owner with so many synced files (before the deletions)."""
        return deletions > self.minimum and deletions > self.fraction * synced

    def enough(self, deletions: int) -> int:
        """With how many synced files so many deletions are surely not too many, so that nobody need count further."""
        return math.ceil(deletions / self.fraction) + 1 if self.fraction else deletions


FROM_FOLDER = Limits(25, 0.2)
"""For files deleted from the folder; the defaults of the settings ``hold_min`` and ``hold_fraction``."""

FROM_IMMICH = Limits(100, 0.5)
"""For assets deleted in Immich, where somebody chose each of them."""


def large_folders(deleted: Iterable[RelPath]) -> list[bytes]:
    """Every folder, the root (``b""``) among them, with ``FOLDER_MIN`` deletions at or below it, in byte order."""
    counts: Counter[bytes] = Counter(path.rpartition(b"/")[0] for path in deleted)
    # Each folder once, the longest first, so that all below it has been counted: paths may be thousands of names deep.
    waiting = [(-len(folder), folder) for folder in counts]
    heapify(waiting)
    while waiting:
        _, folder = heappop(waiting)
        if folder:
            above = folder.rpartition(b"/")[0]
            if above not in counts:
                heappush(waiting, (-len(above), above))
            counts[above] += counts[folder]
    return sorted(folder for folder, count in counts.items() if count >= FOLDER_MIN)
