"""Acts on the events of one owner: what our triggers saw happen to assets.

Each owner has a drain of their own, so that one whose folder is slow keeps nobody else's deletions waiting.
"""

import asyncio
import random

from immich_dbsync.core.backoff import Backoff
from immich_dbsync.model import AssetId
from immich_dbsync.service.listener import Listener
from immich_dbsync.service.owner import OwnerSync

STUCK = Backoff(first=1.0, most=60.0)
"""Between two looks at events whose consequences could not be carried out yet, in seconds."""

_ROWS = 2000  # events taken at a time
_OVERFLOW = "overflow"
_RESTORED = "restored"


class Drain:
    """Acts on one owner's events whenever ``news`` is set, and removes those that are done with."""

    def __init__(self, sync: OwnerSync, listener: Listener) -> None:
        self._sync, self._listener = sync, listener
        self.news = asyncio.Event()
        self.stuck: set[int] = set()  # events whose consequences could not be carried out yet

    async def forever(self) -> None:
        """Act on events until cancelled, and again on what is stuck, later each time."""
        loop = asyncio.get_running_loop()
        again: float | None = None  # when what is stuck is tried again, whatever news comes until then
        attempt = 0
        while True:
            if not self.stuck:
                again, attempt = None, 0
            elif again is None:
                again = loop.time() + STUCK.wait(attempt, random.random())  # noqa: S311  # jitter, no secret
                attempt += 1
            try:
                async with asyncio.timeout_at(again):
                    await self.news.wait()
            except TimeoutError:
                self.stuck.clear()
                again = None
            self.news.clear()
            await self.once()

    async def once(self) -> None:
        """Act on every event that is not stuck. Raises RootLost, with the events left to whoever finds the root."""
        sync = self._sync
        store, owner = sync.store, sync.owner
        while True:
            events, acted_on = await sync.look_at_events([*self.stuck], _ROWS)
            if not events:
                return
            if any(event.kind == _OVERFLOW for event in events):  # of nobody: older events were dropped
                self._listener.missed.set()
                self._listener.news.set()
            theirs = [event for event in events if event.kind != _OVERFLOW]
            stuck: set[AssetId] = acted_on or set()
            if restored := [event.id for event in theirs if event.kind == _RESTORED]:
                await store.restored(owner, restored)
            if theirs and acted_on is None:
                assets = {event.asset_id for event in theirs}
                stuck = await sync.changed_in_immich(assets, [event.id for event in theirs], more=len(events) == _ROWS)
            self.stuck.update(event.id for event in theirs if event.asset_id in stuck)
            await store.drop_events([event.id for event in events if event.id not in self.stuck])
