"""Counts an owner's deletions and says when a person should look first. The limits are in core/guards.py."""

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _Pass:
    """The deletions of the last minute that went one way, oldest first; ``held``: how many of them are on hold."""

    past: deque[_Past] = field(default_factory=deque)
    held: int = 0

    def __len__(self) -> int:
        return len(self.past)

    def carried_out(self) -> int:
        """How many have no record any more, and were synced before."""
        return len(self.past) - self.held

    def add(self, past: _Past) -> None:
        self.past.append(past)
        self.held += past.held

    def forget(self, begin: float) -> None:
        """Those before are of another pass."""
        while self.past and self.past[0].at < begin:
            self.held -= self.past.popleft().held

    def leave_out(self, ended: Collection[RelPath]) -> None:
        """Those at these paths were held, and are no deletions any more."""
        self.past = deque(each for each in self.past if not (each.held and each.path in ended))
        self.held = sum(each.held for each in self.past)


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
        self._passes = {direction: _Pass() for direction in Direction}
        self._synced, self._counted_at = 0, float("-inf")  # at least so many files are synced
        # Events of which all that is lost was judged as a whole. Not all up to a number: a transaction that began
        # before others, and got its numbers then, may end after them.
        self.judged: frozenset[int] = frozenset()

    async def remember(self, store: Store) -> None:
        """Take up what an instance before this one did in the last minute."""
        now = await store.now()
        for direction, action in _ACTIONS.items():
            for path, at in reversed(await self.holds.recent(self.owner, action, now - timedelta(seconds=WINDOW_S))):
                self._passes[direction].add(_Past(self._clock() - (now - at).total_seconds(), path, held=False))

    def note(self, direction: Direction, paths: Collection[RelPath], *, held: bool = False) -> None:
        """These deletions were carried out, or put on hold."""
        now, this = self._clock(), self._passes[direction]
        for path in paths:
            this.add(_Past(now, path, held))
        if not held:
            self._synced -= len(paths)

    def few(self, direction: Direction, count: int) -> bool:
        """Whether so many more deletions can't be too many, so that nobody has to be asked."""
        return len(self._recent(direction)) + count <= self._limits[direction].minimum

    async def judge(self, direction: Direction, paths: Collection[RelPath]) -> Why | None:
        """Why these deletions are to wait for a person; None when they may be carried out."""
        this = await self._still(direction)
        if direction is Direction.IMMICH and not await self._too_many(direction, len(paths) + len(this), this):
            return None  # nor are they, should some be counted twice
        total = {*paths, *(each.path for each in this.past)}
        if await self._too_many(direction, len(total), this):
            return Why.TOO_MANY
        if direction is Direction.FOLDER and (large := large_folders(total)):
            return Why.EMPTIED if await self.holds.emptied(self.owner, large, total) else None
        return None

    async def judge_lost(self, assets: Collection[AssetId] | None, *, told: bool = False) -> bool:
        """Put on hold what these assets (None: all) took with them in Immich, where it is too much; whether it was.

        Judged as a whole, before the first file is looked at. ``told``: of all only those of which an event tells are
        counted; others are none, or have been judged before.
        """
        this = await self._still(Direction.IMMICH)
        if told:
            lost, self.judged = await self.holds.lost_by_events(self.owner)
        else:
            lost = await self.holds.lost(self.owner, assets)
        if not lost or not await self._too_many(Direction.IMMICH, lost + len(this), this):
            return False
        hold = await self.open(Direction.IMMICH, Why.TOO_MANY)
        await self.holds.add_lost(self.owner, hold, assets)
        log.warning("hold.opened", owner=str(self.owner), hold=hold, direction="immich", files=lost)
        return True

    async def _too_many(self, direction: Direction, total: int, this: _Pass) -> bool:
        """Whether so many deletions, those of this pass among them, are too many for what the owner has."""
        limits, carried_out = self._limits[direction], this.carried_out()
        if total <= limits.minimum:
            return False
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

    async def _still(self, direction: Direction) -> _Pass:
        """The deletions of this pass but for those that were held and are none any more: the files are back, say."""
        this = self._recent(direction)
        if this.held:
            held = {each.path for each in this.past if each.held}
            this.leave_out(held - await self.holds.held_of(self.owner, held))
        return this

    def _recent(self, direction: Direction) -> _Pass:
        this = self._passes[direction]
        this.forget(self._clock() - WINDOW_S)
        return this
