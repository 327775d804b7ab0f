"""``immich-dbsync demo``: shows the whole loop and what each step took."""

import asyncio
import shlex
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import aiohttp
from rich.console import Console
from rich.markup import escape

from immich_dbsync.demo.cluster import ClusterError
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, embedded
from immich_dbsync.demo.tables import VERSIONS, ImmichVersion
from immich_dbsync.service.keyring import add_key
from immich_dbsync.wording import did_you_mean

_PATIENCE_S = 20.0  # for each step; all take far less
_LOOK_S = 0.001  # between two looks whether a step has happened
_PICTURES = 12
_GRACE_S = 1.0  # the demo's own; the default is ten seconds

_REAL = """
For a real Immich, as root on its server; docs/start-docker.md, start-server.md and start-snap.md say it in full:

  export IMMICH_DBSYNC_DATABASE_URL=postgresql://postgres:PASSWORD@127.0.0.1:5432/immich
  export IMMICH_DBSYNC_SERVER_URL=http://127.0.0.1:2283
  export IMMICH_DBSYNC_SYNC_ROOT=/srv/immich-sync              # holds one folder per user, named by the user's id
  export IMMICH_DBSYNC_API_KEYS_FILE=/etc/immich-dbsync.keys   # made with the first key

  immich-dbsync doctor             # what is missing, and how to mend it
  immich-dbsync triggers install
  immich-dbsync users add ada@example.org
  immich-dbsync resync --dry-run   # what would be done
  immich-dbsync run
"""


class _NotSeen(Exception):
    """A step did not happen in time."""


class _Show:
    """Runs the steps one after the other and prints each as it is seen."""

    def __init__(self, stage: Stage, console: Console, session: aiohttp.ClientSession) -> None:
        self._stage = stage
        self._console = console
        self._session = session
        self.seen = 0

    async def _see(self, what: str, check: Callable[[], Awaitable[bool]], since: float, note: str = "") -> None:
        """Wait until ``check`` holds, and print what was seen and the time since ``since``."""
        with self._console.status(what):
            while not await check():
                if time.monotonic() - since > _PATIENCE_S:
                    self._console.print(f"[red]✗[/] {what}: not seen within {_PATIENCE_S:.0f} s")
                    raise _NotSeen(what)
                process = self._stage.process
                if process is not None and process.poll() is not None:
                    self._console.print(f"[red]✗[/] {what}: the service ended with {process.returncode}")
                    raise _NotSeen(what)
                await asyncio.sleep(_LOOK_S)
        took = time.monotonic() - since
        shown = f"{took * 1000:.0f} ms" if took < 1 else f"{took:.2f} s"
        self._console.print(f"[green]✓[/] {what:<58} [bold]{shown:>8}[/]  [dim]{escape(note)}[/]")
        self.seen += 1

    async def run(self) -> None:
        """Every step, in order."""
        camera = self._stage.folder / "Camera" / "2026"
        camera.mkdir(parents=True)
        files = [camera / f"IMG_{number:04}.png" for number in range(_PICTURES)]
        for number, file in enumerate(files):
            file.write_bytes(picture(number))
        since = time.monotonic()
        self._stage.start()
        await self._see(
            f"{_PICTURES} pictures in the folder are in Immich",
            self._count("active", _PICTURES),
            since,
            "with its start",
        )
        await self._deleted_in_immich(files[0])
        await self._deleted_in_folder(files[1])
        await self._moved(files[2])

    async def _deleted_in_immich(self, file: Path) -> None:
        asset = await self._asset(file)
        before = file.read_bytes(), file.stat().st_mtime_ns
        since = time.monotonic()
        await self._ask("DELETE", "/api/assets", asset)
        await self._see("deleted in Immich: the file is gone", self._gone(file), since, "to quarantine, not destroyed")

        async def back() -> bool:
            return file.exists() and (file.read_bytes(), file.stat().st_mtime_ns) == before

        since = time.monotonic()
        await self._ask("POST", "/api/trash/restore/assets", asset)
        await self._see("restored in Immich: the file is back", back, since, "same bytes, time and place")

    async def _deleted_in_folder(self, file: Path) -> None:
        asset = await self._asset(file)
        file.unlink()
        since = time.monotonic()
        await self._see(
            "deleted in the folder: its asset is in the trash",
            lambda: self._is(asset, "trashed"),
            since,
            f"{_GRACE_S:.0f} s of it: is it only being moved?",
        )

    async def _moved(self, file: Path) -> None:
        asset = await self._asset(file)
        requests = len(self._stage.immich.requests)
        target = self._stage.folder / "Best of" / "sunset.png"
        target.parent.mkdir()
        file.rename(target)
        since = time.monotonic()
        old, new = (str(path.relative_to(self._stage.folder)).encode() for path in (file, target))

        async def followed() -> bool:
            rows = await self._stage.connection.fetch(
                "select path, asset_id from immich_dbsync_v1.records where path = any($1)", [old, new]
            )
            return [tuple(row) for row in rows] == [(new, asset)]

        await self._see("moved in the folder: Immich is asked for nothing", followed, since, "known by inode")
        if len(self._stage.immich.requests) != requests or not await self._is(asset, "active"):
            raise _NotSeen("a move without a request")

    # --- looking ---

    def _count(self, status: str, wanted: int) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            found: int = await self._stage.connection.fetchval(
                "select count(*) from asset where status::text = $1", status
            )
            return found == wanted

        return check

    @staticmethod
    def _gone(file: Path) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return not file.exists()

        return check

    async def _is(self, asset: UUID, status: str) -> bool:
        found: str = await self._stage.connection.fetchval("select status::text from asset where id = $1", asset)
        return found == status

    async def _asset(self, file: Path) -> UUID:
        path = str(file.relative_to(self._stage.folder)).encode()

        async def tied() -> UUID | None:
            asset: UUID | None = await self._stage.connection.fetchval(
                "select asset_id from immich_dbsync_v1.records where path = $1", path
            )
            return asset

        async with asyncio.timeout(_PATIENCE_S):
            while (asset := await tied()) is None:
                await asyncio.sleep(_LOOK_S)
        return asset

    async def _ask(self, method: str, path: str, asset: UUID) -> None:
        async with self._session.request(method, self._stage.immich.url + path, json={"ids": [str(asset)]}) as response:
            response.raise_for_status()


async def _run(console: Console, version: ImmichVersion, *, keep: bool) -> int:
    begun = time.monotonic()
    # Files are written and looked at within moments here; a phone's pictures come slower.
    settings = {"IMMICH_DBSYNC_MOVE_GRACE": str(_GRACE_S), "IMMICH_DBSYNC_SETTLE_TIME": "0.1"}
    async with embedded(version=version, settings=settings) as stage:
        # In a file, so that `users add` and `users remove` can be tried as well.
        add_key(stage.home / "keys", stage.key, "ada@example.org")
        stage.settings |= {"IMMICH_DBSYNC_API_KEYS": "", "IMMICH_DBSYNC_API_KEYS_FILE": str(stage.home / "keys")}
        started = time.monotonic() - begun
        console.print(f"[dim]PostgreSQL and a stand-in for Immich {version} started in {started:.1f} s[/]\n")
        async with aiohttp.ClientSession(headers={"x-api-key": stage.key}) as session:
            show = _Show(stage, console, session)
            try:
                await show.run()
            except _NotSeen:
                console.print("\nThe service's last lines:\n" + escape(stage.log.read_text()[-3000:]))
                return 1
        took = time.monotonic() - begun
        console.print(f"\n[bold green]All {show.seen} steps were seen[/], in {took:.1f} s.")
        console.print(_REAL, highlight=False)
        if keep:
            await _keep(console, stage)
    return 0


async def _keep(console: Console, stage: Stage) -> None:
    """Leave all running until Ctrl-C."""
    url, key = stage.immich.url, stage.key
    asset = await stage.connection.fetchval("""select id from asset where status = 'active' limit 1""")
    exports = "\n".join(f"  export {name}={shlex.quote(value)}" for name, value in stage.variables().items())
    console.print("[bold]All of it goes on running; Ctrl-C ends it and removes it.[/]\n")
    console.print(
        f"  folder    {stage.folder}\n"
        f"  Immich    {url} (a stand-in: it has an API, but no web pages)\n"
        f"  API key   {key}\n"
        f"  database  {stage.database_url}\n"
        f"  log       {stage.log}\n\n"
        "Copy a picture into the folder, delete one, move one; or delete one in Immich:\n\n"
        f"  curl -X DELETE {url}/api/assets -H 'x-api-key: {key}' -H 'content-type: application/json' "
        f'-d \'{{"ids": ["{asset}"]}}\'\n\n'
        "With these in another terminal every other command works on it: status --watch, history (with --json it has\n"
        "the ids of other assets), resync --dry-run, quarantine list.\n\n"
        f"{exports}\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()


def run(*, keep: bool, version: str) -> int:
    """Run the demo; 0 only if every step was seen to happen."""
    console = Console(soft_wrap=True)
    known = {name: name for name in VERSIONS}
    if version not in known:
        near = did_you_mean(version, VERSIONS)
        console.print(
            f"There is no stand-in for Immich {version}; there is {' and '.join(VERSIONS)}.{near}", markup=False
        )
        return 2
    try:
        return asyncio.run(_run(console, known[version], keep=keep))
    except ClusterError as error:
        console.print(f"immich-dbsync: {error}", markup=False)
        return 4
    except KeyboardInterrupt:
        return 130
