"""An HTTP server before Immich's, as a reverse proxy is, that answers some requests otherwise."""

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from immich_dbsync.demo.faults import reset
from tests.waiting import within

_HOP_BY_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "te", "upgrade"})
_LARGEST = 1 << 30  # bytes of a body

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Front:
    """Listens on loopback; a context manager. ``refusing`` resets every request, pings too.

    ``spoil`` has the next requests of a kind answered otherwise; ``seen`` is every request but pings: the loop's time,
    method and path.
    """

    def __init__(self, target: str, *, context: ssl.SSLContext | None = None) -> None:
        self._target, self._ssl = target, context
        self._spoilt: list[tuple[str, str, Answer]] = []
        self.refusing = False
        self.over = asyncio.Event()  # nothing is answered slowly any more
        self.seen: list[tuple[float, str, str]] = []

    def spoil(self, method: str, path: str, answer: Answer, *, times: int = 1) -> None:
        """Have the next so many requests of this method and path answered so."""
        self._spoilt += [(method, path, answer)] * times

    def calm(self) -> None:
        """Answer everything as Immich does."""
        self._spoilt.clear()

    @property
    def left(self) -> int:
        """How many requests are still to be spoilt."""
        return len(self._spoilt)

    async def pass_on(self, request: web.Request) -> web.Response:
        """Immich's own answer."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        body = await request.read()
        async with self._session.request(
            request.method, self._target + request.path_qs, headers=headers, data=io.BytesIO(body) if body else None
        ) as answer:
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._ssl).start()
        scheme = "http" if self._ssl is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            return reset(request)
        if request.path != "/api/server/ping":
            self.seen.append((asyncio.get_running_loop().time(), request.method, request.path))
            for each in self._spoilt:
                method, path, answer = each
                if (request.method, request.path) == (method, path):
                    self._spoilt.remove(each)
                    return await answer(request)
        return await self.pass_on(request)


def answers(status: int, text: str = "", *, content_type: str = "application/json", **headers: str) -> Answer:
    """This answer, once the request has been read; ``_`` in a header's name stands for ``-``."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, content_type=content_type, headers=named)

    return answer


async def resets_in_the_middle(request: web.Request) -> web.StreamResponse:
    """The connection is reset once a part of the body was read."""
    await request.content.readany()
    return reset(request)


def loses_the_answer(front: Front) -> Answer:
    """Immich does what is asked, and nobody hears of it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await front.pass_on(request)
        return reset(request)

    return answer


def dribbles(front: Front, pause_s: float) -> Answer:
    """The answer comes, a few bytes at a time."""

    async def answer(request: web.Request) -> web.StreamResponse:
        passed = await front.pass_on(request)
        body = passed.body if isinstance(passed.body, bytes) else b""
        slow = web.StreamResponse(status=passed.status, headers={"Content-Type": "application/json"})
        await slow.prepare(request)
        for start in range(0, len(body), 16):
            await slow.write(body[start : start + 16])
            await within(front.over, pause_s)
        return slow

    return answer
