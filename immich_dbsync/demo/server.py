"""A stand-in for Immich's server: the part of its HTTP API that this project uses, over Immich-shaped tables.

It answers as 2.7.5 and 3.1.0 were seen to answer, and sends the database the statements that they send.
``tests/contract`` holds it to that; the same tests run against a real server.

As a program of its own, ``python -m immich_dbsync.demo.server --database-url URL --version 3.1.0``, it prints
``listening on http://127.0.0.1:PORT`` and ends on SIGTERM or SIGINT. It then takes its faults over HTTP, which no real
server does: ``POST /_faults`` with a JSON object of fields of ``Faults`` sets these, and ``GET /_faults`` tells all.
"""

import asyncio
import signal
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self, get_args

import asyncpg
import typer
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from immich_dbsync.demo.api_errors import ApiError
from immich_dbsync.demo.backend import Backend
from immich_dbsync.demo.faults import Faults, spoil
from immich_dbsync.demo.jobs import Jobs
from immich_dbsync.demo.people import create_api_key, create_user, delete_user
from immich_dbsync.demo.routes import Routes
from immich_dbsync.demo.tables import ImmichVersion

__all__ = ["Faults", "StandIn", "create_api_key", "create_user", "delete_user"]

_JSON_LIMIT = 16 * 1024 * 1024
_CONNECTIONS = 6
_SHUTDOWN_S = 1.0


class StandIn:
    """A running stand-in, on 127.0.0.1 only; an async context manager.

    ``media`` is the folder that takes the bytes of uploads; without one they are hashed and dropped. ``port`` 0 is
    any free one. ``job_delay_s`` lies between a request to delete for good and the first row that goes.
    """

    def __init__(
        self,
        database_url: str,
        *,
        version: ImmichVersion = "3.1.0",
        media: Path | None = None,
        port: int = 0,
        job_delay_s: float = 0.015,
    ) -> None:
        self.url = ""
        self.faults = Faults()
        self.requests: list[tuple[str, str]] = []
        self._database_url = database_url
        self._version: ImmichVersion = version
        self._media = media
        self._port = port
        self._job_delay_s = job_delay_s
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._jobs: Jobs | None = None
        self._runner: web.AppRunner | None = None

    @property
    def job_delay_s(self) -> float:
        """Seconds between a request to delete for good and the first row that goes; may be set at any time."""
        return self._job_delay_s

    @job_delay_s.setter
    def job_delay_s(self, seconds: float) -> None:
        self._job_delay_s = seconds
        if self._jobs is not None:
            self._jobs.delay_s = seconds

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(self._database_url, min_size=1, max_size=_CONNECTIONS, reset=_leave_be)
        try:
            self._jobs = Jobs(self._pool, delay_s=self._job_delay_s, media=self._media)
            await self._listen(Backend(self._pool, self._version, self._jobs, self._media))
        except BaseException:
            await self._close()
            raise
        return self

    async def _listen(self, backend: Backend) -> None:
        app = web.Application(
            middlewares=[spoil(self.faults, self._version, self.requests), _errors(self._version)],
            client_max_size=_JSON_LIMIT,
        )
        app.add_routes(Routes(backend).table())
        app.add_routes([web.get("/_faults", self._tell_faults), web.post("/_faults", self._set_faults)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._jobs is not None:
            await self._jobs.close()
        if self._pool is not None:
            await self._pool.close()

    async def idle(self) -> None:
        """Return when no deletion job is queued or running."""
        if self._jobs is not None:
            await self._jobs.idle()

    async def _tell_faults(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(self.faults.as_json())

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self.faults.change(await request.json())
        except ValueError as error:
            return web.json_response({"message": str(error)}, status=400)
        return web.json_response(self.faults.as_json())


async def _leave_be(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """No request leaves anything behind on its connection, so the usual reset would be a wasted round trip."""


def _errors(version: ImmichVersion) -> Middleware:
    """The middleware that turns what a handler raises into Immich's answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return error.response(version)
        except web.HTTPNotFound:
            return ApiError(404, f"Cannot {request.method} {request.path}").response(version)
        except web.HTTPRequestEntityTooLarge:
            return ApiError(413, "request entity too large").response(version)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return ApiError(500, "Internal server error").response(version)

    return middleware


async def _serve(stand_in: StandIn) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with stand_in:
        typer.echo(f"listening on {stand_in.url}")
        await ended.wait()


def main(
    database_url: Annotated[str, typer.Option(help="The database with Immich's tables.")],
    version: Annotated[str, typer.Option(help="The version to stand in for.")] = "3.1.0",
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 is any free one.")] = 0,
    media: Annotated[Path | None, typer.Option(help="The folder that takes the uploads' bytes.")] = None,
    job_delay: Annotated[float, typer.Option(help="Seconds before a deletion job's first row.")] = 0.015,
) -> None:
    """Stand in for Immich until SIGTERM."""
    for known in get_args(ImmichVersion):
        if version == known:
            asyncio.run(_serve(StandIn(database_url, version=known, media=media, port=port, job_delay_s=job_delay)))
            return
    raise typer.BadParameter(f"known versions: {', '.join(get_args(ImmichVersion))}")


if __name__ == "__main__":
    typer.run(main)
