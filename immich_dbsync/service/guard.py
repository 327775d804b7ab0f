"""Counts an owner's deletions and says when a person should look first. The limits are in core/guards.py."""

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta

import structlog

from immich_dbsync.core.actions import Why
from immich_dbsync.core.guards import WINDOW_S, Limits, large_folders
from immich_dbsync.model import AssetId, Direction, OwnerId, RelPath
from immich_dbsync.store.holds import Holds
from immich_dbsync.store.records import Store

log = structlog.get_logger()

_AHEAD = 1000  # synced files counted beyond what bears on the answer, so that the next answers need no count
_COUNTED_S = 10.0  # for which a count is believed: what left the records other than by a deletion is not subtracted
_ACTIONS = {Direction.FOLDER: "trash", Direction.IMMICH: "quarantine"}
"""What the history calls a deletion that went this way."""


@dataclass(frozen=True, slots=True)
class _Past:
    """A deletion of this pass: when, and whether it was put on hold instead of being carried out."""

    at: float
    path: RelPath
    held: bool


class Guard:
    """One owner's deletions of the last minute, and what is too much."""

    def __init__(
        self,
        owner: OwnerId,
        holds: Holds,
        limits: dict[Direction, Limits],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner, self.holds = owner, holds
        self._limits, self._clock = limits, clock
        self._past: dict[Direction, deque[_Past]] = {direction: deque() for direction in Direction}
        self._synced, self._counted_at = 0, float("-inf")  # at least so many files are synced

    async def remember(self, store: Store) -> None:
        """Take up what an instance before this one did in the last minute."""
        now = await store.now()
        for direction, action in _ACTIONS.items():
            for path, at in reversed(await self.holds.recent(self.owner, action, now - timedelta(seconds=WINDOW_S))):
                self._past[direction].append(_Past(self._clock() - (now - at).total_seconds(), path, held=False))

    def note(self, direction: Direction, paths: Collection[RelPath], *, held: bool = False) -> None:
        """These deletions were carried out, or put on hold."""
        self._past[direction].extend(_Past(self._clock(), path, held) for path in paths)
        if not held:
            self._synced -= len(paths)

    def few(self, direction: Direction, count: int) -> bool:
        """Whether so many more deletions can't be too many, so that nobody has to be asked."""
        return len(self._recent(direction)) + count <= self._limits[direction].minimum

    async def judge(self, direction: Direction, paths: Collection[RelPath]) -> Why | None:
        """Why these deletions are to wait for a person; None when they may be carried out."""
        past = await self._still(direction)
        total = {*paths, *(each.path for each in past)}
        if await self._too_many(direction, len(total), past):
            return Why.TOO_MANY
        if direction is Direction.FOLDER and (large := large_folders(total)):
            return Why.EMPTIED if await self.holds.emptied(self.owner, large, total) else None
        return None

    async def judge_lost(self, assets: Collection[AssetId] | None) -> bool:
        """Put on hold what these assets (None: all) took with them in Immich, where it is too much; whether it was.

        Judged as a whole, before the first file is looked at.
        """
        past = await self._still(Direction.IMMICH)
        lost = await self.holds.lost(self.owner, assets)
        if not lost or not await self._too_many(Direction.IMMICH, lost + len(past), past):
            return False
        hold = await self.open(Direction.IMMICH, Why.TOO_MANY)
        await self.holds.add_lost(self.owner, hold, assets)
        log.warning("hold.opened", owner=str(self.owner), hold=hold, direction="immich", files=lost)
        return True

    async def _too_many(self, direction: Direction, total: int, past: Collection[_Past]) -> bool:
        """Whether so many deletions, those of this pass among them, are too many for what the owner has."""
        limits = self._limits[direction]
        if total <= limits.minimum:
            return False
        carried_out = sum(not each.held for each in past)  # has no record any more, and was synced before
        most = max(limits.enough(total) - carried_out, 0)
        return limits.exceeded(total, await self._at_least(most) + carried_out)

    async def _at_least(self, most: int) -> int:
        """How many files the owner has synced, as far as more than ``most`` make no difference."""
        now = self._clock()
        if self._synced < most or now - self._counted_at > _COUNTED_S:
            self._synced, self._counted_at = await self.holds.synced(self.owner, most + _AHEAD), now
        return self._synced

    async def open(self, direction: Direction, why: Why) -> int:
        """The hold that deletions of this pass belong to."""
        since = await self.holds.now() - timedelta(seconds=WINDOW_S)
        return await self.holds.open(self.owner, direction, why.value, since)

    async def _still(self, direction: Direction) -> deque[_Past]:
        """The deletions of this pass but for those that were held and are none any more: the files are back, say."""
        past = self._recent(direction)
        if held := {each.path for each in past if each.held}:
            ended = held - await self.holds.held_of(self.owner, held)
            past = deque(each for each in past if not (each.held and each.path in ended))
            self._past[direction] = past
        return past

    def _recent(self, direction: Direction) -> deque[_Past]:
        past, begin = self._past[direction], self._clock() - WINDOW_S
        while past and past[0].at < begin:
            past.popleft()
        return past
