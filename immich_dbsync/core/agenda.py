"""What is to be looked at, and when: hints folded by path, with the clock passed in."""

import heapq
from collections.abc import Iterable, Iterator

from immich_dbsync.model import RelPath


class Agenda:
    """Paths and the time from which they are due. Adding a path again keeps the earlier time."""

    def __init__(self) -> None:
        self._due: dict[RelPath, float] = {}
        self._heap: list[tuple[float, RelPath]] = []

    def __len__(self) -> int:
        return len(self._due)

    def add(self, paths: Iterable[RelPath], due: float) -> None:
        """Have these paths looked at from ``due`` on (seconds of the caller's clock)."""
        for path in paths:
            known = self._due.get(path)
            if known is None or due < known:
                self._due[path] = due
                heapq.heappush(self._heap, (due, path))

    def next_due(self) -> float | None:
        """When the first path is due; None for an empty agenda."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # an earlier time has taken its place
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[RelPath]:
        """The paths that are due, in no order; they stay."""
        return (path for path, due in self._due.items() if due <= now)

    def take(self, now: float, limit: int) -> list[RelPath]:
        """Take out up to ``limit`` paths that are due, the longest due first."""
        taken: list[RelPath] = []
        while len(taken) < limit and (due := self.next_due()) is not None and due <= now:
            _, path = heapq.heappop(self._heap)
            del self._due[path]
            taken.append(path)
        return taken
