"""What can be made to go wrong between a client and the stand-in."""

import asyncio
import socket
import struct
from dataclasses import asdict, dataclass, fields

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from immich_dbsync.demo.api_errors import ApiError
from immich_dbsync.demo.tables import ImmichVersion


@dataclass
class Faults:
    """Mutable switches, all off by default. A count goes down by one with each request it spoils.

    Where several are on, a reset goes before a 500, that before a cut, and a lost answer comes last. A ping is never
    spoilt.
    """

    delay_s: float = 0.0
    """Every request is answered that many seconds later."""
    fail_next: int = 0
    """That many requests are answered with 500, and nothing is done."""
    reset_next: int = 0
    """That many requests have their connection reset before any answer, and nothing is done."""
    cut_next: int = 0
    """That many uploads have their connection reset while their body is read, and nothing is stored."""
    lose_answer_next: int = 0
    """That many requests that change something are carried out, and then reset instead of being answered."""

    def take(self, name: str) -> bool:
        """Whether the switch of that name spoils this request; counts it down."""
        left: int = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True

    def change(self, switches: object) -> None:
        """Set the switches that a decoded JSON object names; raises ValueError where it is anything else."""
        known = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        if not isinstance(switches, dict) or not switches.keys() <= known.keys():
            raise ValueError(f"an object of {', '.join(known)} is wanted")
        for name, value in switches.items():
            if isinstance(value, bool) or not isinstance(value, int | known[name]) or value < 0:
                raise ValueError(f"{name} is no {known[name].__name__} of 0 or more")
        for name, value in switches.items():
            setattr(self, name, known[name](value))

    def as_json(self) -> dict[str, float]:
        """The state of every switch."""
        return asdict(self)


def reset(request: web.Request) -> web.Response:
    """Reset the client's connection: RST, so that it can't be taken for an orderly end.

    The response returned is never sent; aiohttp wants one.
    """
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


def spoil(faults: Faults, version: ImmichVersion, requests: list[tuple[str, str]]) -> Middleware:
    """The middleware that notes every API request but the ping in ``requests``, and spoils what is to be spoilt."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api/") or request.path == "/api/server/ping":
            return await handler(request)
        requests.append((request.method, request.path))
        if faults.delay_s:
            await asyncio.sleep(faults.delay_s)
        if faults.take("reset_next"):
            return reset(request)
        if faults.take("fail_next"):
            return ApiError(500, "Internal server error").response(version)
        if (request.method, request.path) == ("POST", "/api/assets") and faults.take("cut_next"):
            await request.content.readany()
            return reset(request)
        if request.method != "GET" and faults.take("lose_answer_next"):
            await handler(request)
            return reset(request)
        return await handler(request)

    return middleware
