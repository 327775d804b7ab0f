"""How the service is, over HTTP on this machine's loopback: ``/metrics`` for Prometheus, ``/healthz``, ``/readyz``."""

import asyncio
import errno
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from immich_dbsync.errors import SettingsError
from immich_dbsync.metrics import REGISTRY
from immich_dbsync.model import OwnerId
from immich_dbsync.service.session import Session
from immich_dbsync.settings import name_in_use
from immich_dbsync.store.holds import Concerns
from immich_dbsync.wording import counted

_ADDRESSES = ("127.0.0.1", "::1")
_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PORT = re.compile(r":[0-9]*\Z")
_ANSWER_S = 2.0  # for which the database is waited for; the rest is told without it
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # a machine without IPv6

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class State:
    """Where the service is: in a session, or waiting for the database, and why."""

    session: Session | None = None
    waits_for: str = ""

    def line(self) -> str:
        """In a few words, for one line."""
        if self.session is not None:
            return self.session.line()
        return f"waiting for the database: {self.waits_for}" if self.waits_for else "starting"

    def not_ready(self) -> str | None:
        """Why not everything is synced at once now; None where it is."""
        session = self.session
        if session is None:
            return self.line()
        if session.waits_for is not None:
            return f"waiting for Immich: {session.waits_for}"
        if missing := session.own() - {sync.owner for sync in session.syncs()}:
            return f"the folders of {counted(len(missing), 'user')} are not synced"
        if behind := sum(not sync.looked for sync in session.syncs()):
            return f"what happened before the start is still being looked at, of {counted(behind, 'user')}"
        unwell = sum(sync.parts.observer.unwell_now() for sync in session.syncs())
        return f"the folders of {counted(unwell, 'user')} are not well" if unwell else None


@dataclass(eq=False)
class _Gauges(Collector):
    """What is read off the service when somebody asks."""

    state: State
    concerns: dict[OwnerId, Concerns] | None = None  # None where the database did not say

    def describe(self) -> Iterable[Metric]:
        """What ``collect`` yields, for whoever registers it."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """One family for each gauge."""
        session = self.state.session
        gauge = GaugeMetricFamily("immich_dbsync_listening", "Whether deletions in Immich are heard of at once.")
        gauge.add_metric([], session is not None)
        yield gauge
        gauge = GaugeMetricFamily("immich_dbsync_server_available", "Whether Immich's server answers.")
        gauge.add_metric([], session is not None and session.waits_for is None)
        yield gauge
        gauge = GaugeMetricFamily(
            "immich_dbsync_heartbeat_age_seconds", "Since the database connection was last known to be alive."
        )
        if session is not None:
            gauge.add_metric([], session.silence())
        yield gauge
        gauge = GaugeMetricFamily("immich_dbsync_unusable_keys", "API keys that are nobody's, or a deleted user's.")
        if session is not None:
            gauge.add_metric([], session.unusable_keys())
        yield gauge
        syncs = {sync.owner: sync for sync in session.syncs()} if session is not None else {}
        queues = GaugeMetricFamily("immich_dbsync_queue_files", "Files that wait.", labels=["owner", "queue"])
        healthy = GaugeMetricFamily(
            "immich_dbsync_root_healthy", "Whether a user's folder is the right one and whole.", labels=["owner"]
        )
        holds = GaugeMetricFamily("immich_dbsync_holds", "Holds that wait for a person.", labels=["owner"])
        problems = GaugeMetricFamily(
            "immich_dbsync_owner_problems", "What keeps a user's sync waiting, as status says it.", labels=["owner"]
        )
        for owner in sorted(session.own()) if session is not None else []:
            sync = syncs.get(owner)  # none where the folder is missing or not the right one
            healthy.add_metric([str(owner)], sync is not None and not sync.parts.observer.unwell_now())
            for name, length in sync.lengths().items() if sync is not None else []:
                queues.add_metric([str(owner), name], length)
            if self.concerns is not None:
                theirs = self.concerns.get(owner, Concerns())
                holds.add_metric([str(owner)], theirs.holds)
                problems.add_metric([str(owner)], theirs.problems)
        yield from (queues, healthy, holds, problems)


@asynccontextmanager
async def exposed(port: int, state: State) -> AsyncIterator[None]:
    """Answer at this port until the block ends; not at all where it is 0.

    Raises SettingsError for a port that is taken.
    """
    if not port:
        yield
        return
    gauges = _Gauges(state)
    runner = web.AppRunner(_app(gauges), access_log=None, shutdown_timeout=_ANSWER_S)
    REGISTRY.register(gauges)
    try:
        await runner.setup()
        for address in _ADDRESSES:
            try:
                await web.TCPSite(runner, address, port).start()
            except OSError as error:
                if error.errno in _NOT_HERE and address != _ADDRESSES[0]:
                    continue
                raise SettingsError(
                    f"Port {port} of {address} can't be had for the metrics: {error.strerror}. Set"
                    f" {name_in_use('metrics_port')} to a free one, or leave it out."
                ) from error
        yield
    finally:
        REGISTRY.unregister(gauges)
        await runner.cleanup()


def _app(gauges: _Gauges) -> web.Application:
    app = web.Application(middlewares=[_only_from_here])

    async def metrics(_: web.Request) -> web.Response:
        gauges.concerns = None
        if (session := gauges.state.session) is not None:
            with suppress(Exception):  # the rest is told all the same
                async with asyncio.timeout(_ANSWER_S):
                    gauges.concerns = await session.concerns()
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"alive": True, "state": gauges.state.line()})

    async def readyz(_: web.Request) -> web.Response:
        reason = gauges.state.not_ready()
        return web.json_response({"ready": reason is None, "reason": reason}, status=200 if reason is None else 503)

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


@web.middleware
async def _only_from_here(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a web page has a browser on this machine ask: it comes with that page's name (DNS rebinding)."""
    if _PORT.sub("", request.host).lower() not in _NAMES:
        return web.Response(status=421, text="This answers to localhost alone.\n")
    return await handler(request)
