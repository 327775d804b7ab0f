"""Keeps requests back while the server is down as a whole, when one probe stands in for all, or refuses a key."""

import asyncio
import random
from contextlib import suppress

import structlog

from immich_dbsync.core.backoff import Backoff
from immich_dbsync.immich.api import ApiError, Server, Unavailable
from immich_dbsync.settings import Settings

log = structlog.get_logger()

PROBE = Backoff(first=0.5, most=30.0)
"""Between two probes of a server that is down, in seconds."""


async def unreachable(settings: Settings) -> str | None:
    """Why Immich's server can't be used now, in a sentence; None where it can."""
    async with Server(str(settings.server_url)) as server:
        try:
            await server.ping()
        except ApiError as error:
            return str(error)
    return None


class Pause:
    """Keeps work back that somebody has to mend something for: for so many seconds, or until ``end``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._over = asyncio.Event()
        self._over.set()
        self._until = 0.0

    def begin(self) -> None:
        """Pause from now on."""
        self._until = asyncio.get_running_loop().time() + self.seconds
        self._over.clear()

    def on(self) -> bool:
        """Whether there is one now."""
        return not self._over.is_set()

    def end(self) -> None:
        """Try again now: somebody says that it is mended."""
        self._over.set()

    async def wait(self) -> None:
        """Return when there is no pause."""
        if not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._over.wait()
            self._over.set()


class Gate:
    """Open while the server answers. ``report`` a failed request; ``wait`` before the next one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open = asyncio.Event()
        self._open.set()
        self._suspected = asyncio.Event()
        self._not_before = 0.0  # by the loop's clock
        self.reason: str | None = None

    async def wait(self) -> None:
        """Return when the server answers, as far as is known."""
        await self._open.wait()

    def report(self, error: Unavailable) -> None:
        """A request failed: find out whether the server is down or only this request went wrong.

        Where it said when to come again, nothing is sent before.
        """
        self.reason = str(error)
        if error.retry_after is not None:
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + error.retry_after)
        self._open.clear()
        self._suspected.set()

    async def probe_forever(self) -> None:
        """Probe at the start and whenever a request failed, until the server answers."""
        self._open.clear()
        self._suspected.set()
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            await self._until_it_answers()
            self._open.set()

    async def _until_it_answers(self) -> None:
        attempt = 0
        await asyncio.sleep(max(0.0, self._not_before - asyncio.get_running_loop().time()))
        while True:
            try:
                await self._server.ping()
            except ApiError as error:
                if attempt == 0:
                    log.warning(
                        "server.unavailable", reason=str(error), advice="waiting; check the server URL if it stays"
                    )
                self.reason = str(error)
                await asyncio.sleep(PROBE.wait(attempt, random.random()))  # noqa: S311  # jitter, no secret
                attempt += 1
            else:
                if attempt:
                    log.info("server.available")
                self.reason = None
                return
