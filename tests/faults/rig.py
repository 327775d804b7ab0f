"""The service as a process, a user with a folder and a library, and what both have to look like when all is well."""

import asyncio
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import aiohttp
import asyncpg

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import command, environment
from tests.contract.target import upload_parts
from tests.faults import points, seam
from tests.faults.points import ARMED, TRACE
from tests.faults.proxy import Proxy
from tests.files import files_below
from tests.forked import Forked
from tests.waiting import until

CHECKOUT = Path(__file__).parents[2]
QUICK = {
    "IMMICH_DBSYNC_MOVE_GRACE": "0.1",
    "IMMICH_DBSYNC_SETTLE_TIME": "0.05",
    "IMMICH_DBSYNC_HEARTBEAT": "1",
    "IMMICH_DBSYNC_HOLD_MIN": "100000",
    "IMMICH_DBSYNC_LOG_FORMAT": "json",
}
_TOLD = 60  # last lines of the service's log that are shown when a test fails
_OLD = 1_700_000_000
_numbers = itertools.count()


def picture(name: str) -> bytes:
    """A content of its own for every name, with the size of few others."""
    number = next(_numbers)
    return f"picture {number} {name} ".encode() + bytes(number % 1000)


def sha1(content: bytes) -> bytes:
    return hashlib.sha1(content, usedforsecurity=False).digest()


@dataclass
class Wanted:
    """What both sides have to agree on: the folder's files, and each content's status in the library."""

    files: dict[str, bytes] = field(default_factory=dict)
    library: dict[bytes, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)  # paths whose deletion waits for a person
    gone: set[bytes] = field(default_factory=set)  # contents that were deleted for good in Immich


class Rig:
    """One user, one service; what is done to either side, and what is wanted of it."""

    def __init__(self, stage: Stage, web: aiohttp.ClientSession) -> None:
        self.stage, self._web = stage, web
        self.wanted = Wanted()
        self.process: Forked | subprocess.Popen[bytes] | None = None
        self.settings: dict[str, str] = dict(QUICK)
        self.web_key = stage.key  # what the user's own requests carry
        self._taken: set[bytes] = set()  # contents whose files were to leave the folder because of Immich
        self._texts: dict[bytes, bytes] = {}  # how a content begins, by its SHA-1
        self.control = stage.home / "points"
        self.control.mkdir()

    # --- the service ---

    def environment(self) -> dict[str, str]:
        return environment(
            self.stage.environment()
            | self.settings
            | dict.fromkeys((points.FOLDER_VARIABLE, seam.FOLDER_VARIABLE), str(self.control))
            | {"PYTHONPATH": str(CHECKOUT)}
        )

    def start(self, *, with_points: bool = False, with_seam: bool = False, before: Sequence[str] = ()) -> None:
        """Start the command: as it is installed, with its crash points, or on a kernel that can be made to fail."""
        module = "tests.faults.points" if with_points else "tests.faults.seam" if with_seam else "immich_dbsync"
        env = self.environment()
        with self.stage.log.open("ab") as log:
            if before:
                program = [*before, sys.executable, "-m", module, "run"]
                self.process = subprocess.Popen(program, env=env, stdout=log, stderr=log, cwd="/")
            else:
                self.process = Forked(module, "run", env=env, stdout=log.fileno(), stderr=log.fileno())

    async def stop(self) -> int:
        """Ask it to end in good order; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 20)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def died(self, *, seconds: float = 10.0) -> bool:
        """Whether it ended by SIGKILL within that time."""
        assert self.process is not None
        process = self.process
        try:
            return await asyncio.to_thread(process.wait, seconds) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def memory(self) -> int:
        """The bytes that are resident."""
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        """The most bytes that were resident since it began."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    def log(self) -> str:
        return self.stage.log.read_text(errors="replace") if self.stage.log.exists() else ""

    async def reacts(self, *events: str, seconds: float) -> None:
        """Return when the service's log tells of something more, of one of these events where any are given; when so
        many seconds have passed, or the service has ended, at the latest.
        """

        def told() -> int:
            log = self.stage.log
            return sum(len(self.logged(each)) for each in events) if events else log.stat().st_size

        before = told()

        async def more() -> bool:
            return told() != before or (self.process is not None and self.process.poll() is not None)

        with suppress(AssertionError):
            await until(more, seconds=seconds)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Every line of the log about one kind of event."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}"))
        return [line for line in lines if line["event"] == event]

    # --- its points ---

    def arm(self, point: str, times: int) -> None:
        """Have the process end when it passes this point for that time from now on."""
        (self.control / ".armed").write_text(f"{point} x{times}")
        (self.control / ".armed").rename(self.control / ARMED)

    def disarm(self) -> None:
        (self.control / ARMED).unlink(missing_ok=True)

    def trace(self) -> list[str]:
        """Every point that was passed, in order."""
        path = self.control / TRACE
        return path.read_text().splitlines() if path.exists() else []

    # --- the folder ---

    @property
    def folder(self) -> Path:
        return self.stage.folder

    def put(self, name: str, content: bytes, *, mtime: float = _OLD) -> None:
        """A file arrives, whole, under its name at once, with an old mtime, the same for many."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(".syncthing.part.tmp")
        part.write_bytes(content)
        os.utime(part, (mtime, mtime))
        part.rename(path)

    def files(self) -> dict[str, bytes]:
        """Every file that is not hidden: path and content."""
        return files_below(self.folder, linked=False)

    def switch(self, name: str, text: str | None = "") -> None:
        """Set a switch of the seam's kernel, or take it away."""
        path = self.control / name
        if text is None:
            path.unlink(missing_ok=True)
        else:
            (self.control / ".switch").write_text(text)
            (self.control / ".switch").rename(path)

    def quarantined(self) -> list[bytes]:
        """The contents of all files in quarantine."""
        return [*files_below(self.folder / ".immich-dbsync" / "quarantine", hidden=True, linked=False).values()]

    # --- the library ---

    async def library(self) -> dict[bytes, str]:
        """The SHA-1 of every asset of the user and its status; one asset for each."""
        rows = await self.stage.connection.fetch(
            'select checksum, status::text from asset where "ownerId" = $1', self.stage.user
        )
        found = {row["checksum"]: row["status"] for row in rows}
        assert len(found) == len(rows), "a content has two assets"
        return found

    async def asset(self, content: bytes) -> UUID:
        found: UUID | None = await self.stage.connection.fetchval(
            'select id from asset where "ownerId" = $1 and checksum = $2', self.stage.user, sha1(content)
        )
        assert found is not None
        return found

    async def web(self, method: str, path: str, **options: Any) -> None:
        """What a user does in Immich's web, or a script with the API."""
        headers = {"x-api-key": self.web_key}
        async with self._web.request(
            method, f"{self.stage.immich.url}/api{path}", headers=headers, **options
        ) as answer:
            assert answer.status < 300, await answer.text()

    async def upload(self, content: bytes) -> None:
        """A picture comes by Immich's own app."""
        boundary = "b0undary"
        body = b"".join(part.encode(boundary) for part in upload_parts(content)) + f"--{boundary}--\r\n".encode()
        headers = {"x-api-key": self.web_key, "Content-Type": f"multipart/form-data; boundary={boundary}"}
        async with self._web.post(f"{self.stage.immich.url}/api/assets", data=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()

    async def trash(self, *contents: bytes, force: bool = False) -> None:
        ids = [str(await self.asset(content)) for content in contents]
        self._taken |= {*contents} & {*self.wanted.files.values()}
        await self.web("DELETE", "/assets", json={"ids": ids, "force": force})

    async def restore(self, *contents: bytes) -> None:
        ids = [str(await self.asset(content)) for content in contents]
        self._taken -= {*contents}
        await self.web("POST", "/trash/restore/assets", json={"ids": ids})

    # --- what is wanted ---

    def want(self, files: Mapping[str, bytes] | None = None, **statuses: Iterable[bytes]) -> None:
        """These files are wanted as well, and these contents with that status: active, trashed or gone."""
        for name, content in (files or {}).items():
            self._texts[sha1(content)] = content[:30]
            self.wanted.files[name] = content
            self.wanted.library[sha1(content)] = "active"
        for status, contents in statuses.items():
            for content in contents:
                self._texts[sha1(content)] = content[:30]
                if status == "gone":
                    self.wanted.library.pop(sha1(content), None)
                    self.wanted.gone.add(content)
                else:
                    self.wanted.library[sha1(content)] = status

    async def difference(self) -> str:
        """In what the world differs from what is wanted; empty where it does not."""
        try:
            return await self._difference()
        except asyncpg.UndefinedTableError:
            return "our tables are not there"

    async def _difference(self) -> str:
        files, library = self.files(), await self.library()
        if files != self.wanted.files:
            return f"files: {_differ(files, self.wanted.files)}"
        if library != self.wanted.library:
            named, wanted = ({self._named(k): v for k, v in each.items()} for each in (library, self.wanted.library))
            return f"library: {_differ(named, wanted)}"
        rows = await self.stage.connection.fetch(
            "select path, sha1, asset_id is not null as tied, hold_id is not null as held"
            " from immich_dbsync_v1.records where owner_id = $1",
            self.stage.user,
        )
        records = {os.fsdecode(row["path"]): row["sha1"] for row in rows if not row["held"] and row["tied"]}
        held = {os.fsdecode(row["path"]) for row in rows if row["held"]}
        tied = {name: sha1(content) for name, content in files.items() if name not in held}
        if held != self.wanted.held:
            return f"held: {sorted(held ^ self.wanted.held)}"
        if records != tied or len(rows) != len(tied) + len(held):
            return f"records: {_differ(records, tied)}; {len(rows)} rows"
        left: int = await self.stage.connection.fetchval(
            "select count(*) from immich_dbsync_v1.events where owner_id = $1", self.stage.user
        )
        return f"{left} events" if left else ""

    def _named(self, digest: bytes) -> str:
        return self._texts.get(digest, digest).decode(errors="backslashreplace").rstrip("\0")

    async def agrees(self, *, seconds: float = 20.0) -> None:
        """Return when the world is as it is wanted."""
        last = ""

        async def check() -> bool:
            nonlocal last
            last = await self.difference()
            return not last

        try:
            await until(check, seconds=seconds)
        except AssertionError:
            raise AssertionError(f"not within {seconds} s: {last}") from None

    async def scanned(self, *, since: object = None, seconds: float = 20.0) -> None:
        """Return when a full scan has been worked off that is later than ``since``."""

        async def check() -> bool:
            return await self.last_scan() not in {None, since}

        await until(check, seconds=seconds)

    async def summed_up(self) -> None:
        """Return when it has been told what became of the first scan."""

        async def told() -> bool:
            query = "select summary is not null from immich_dbsync_v1.owners where owner_id = $1"
            return bool(await self.stage.connection.fetchval(query, self.stage.user))

        await until(told)

    async def last_scan(self) -> object:
        try:
            return await self.stage.connection.fetchval(
                "select last_scan_at from immich_dbsync_v1.owners where owner_id = $1", self.stage.user
            )
        except asyncpg.UndefinedTableError:
            return None

    async def resync(self) -> None:
        """Have everything compared, by the command, and check that nothing comes of it."""
        done = await command("resync", env=self.environment())
        assert done.code == 0, done
        difference = await self.difference()
        assert not difference, difference

    async def nothing_is_trashed_but(self, wanted: Wanted) -> None:
        """No asset is in the trash that is not wanted there."""
        trashed = {key for key, status in (await self.library()).items() if status != "active"}
        assert trashed <= {key for key, status in wanted.library.items() if status == "trashed"}

    async def nothing_is_lost(self, contents: Iterable[bytes]) -> None:
        """Every one of these is in the folder, in quarantine or in the library, unless it was deleted for good.

        What left the folder because it was deleted in Immich is still there as a file.
        """
        files = {*self.files().values(), *self.quarantined()}
        there = {sha1(content) for content in files} | {*await self.library()}
        lost = [content for content in contents if sha1(content) not in there and content not in self.wanted.gone]
        assert not lost, lost
        destroyed = self._taken - files - self.wanted.gone
        assert not destroyed, destroyed

    def left_behind(self) -> list[str]:
        """What moves by copy left in the folder or in quarantine."""
        return [str(path) for path in self.folder.rglob(".immich-dbsync-*")]


def _differ(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> str:
    other = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    said = [f"{key!r} is {_short(found.get(key))}, not {_short(wanted.get(key))}" for key in other]
    return "; ".join(said[:5])


def _short(value: object) -> str:
    return repr(value)[:40]


@asynccontextmanager
async def by_tcp(rig: Rig) -> AsyncIterator[Proxy]:
    """The service reaches its database by TCP, so that it needs no right to the folder of PostgreSQL's socket."""
    parts = urlsplit(rig.stage.database_url)
    async with Proxy(Path(parse_qs(parts.query)["host"][0], ".s.PGSQL.5432")) as proxy:
        rig.settings["IMMICH_DBSYNC_DATABASE_URL"] = proxy.url(parts.path[1:])
        try:
            yield proxy
        finally:
            rig.kill()


async def second_user(rig: Rig) -> UUID:
    """Another user whose folder is synced, with nothing in it."""
    stage = rig.stage
    user = await create_user(stage.connection, email="grace@example.org", name="Grace")
    key = await create_api_key(stage.connection, user, PERMISSIONS, "immich-dbsync")
    stage.folder.with_name(str(user)).mkdir()
    rig.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {key}"
    return user


@asynccontextmanager
async def rigged(database_url: str, version: ImmichVersion, **settings: str) -> AsyncIterator[Rig]:
    """A user with an empty folder; the service does not run yet, and ends with the block."""
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(aiohttp.ClientSession())
        stage = await stack.enter_async_context(staged(database_url, version=version))
        rig = Rig(stage, web)
        rig.settings |= {f"IMMICH_DBSYNC_{name.upper()}": value for name, value in settings.items()}
        try:
            yield rig
        except BaseException:
            sys.stderr.write("\n".join(rig.log().splitlines()[-_TOLD:]))
            raise
        finally:
            rig.kill()
