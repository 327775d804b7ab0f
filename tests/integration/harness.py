"""The real engine, in this process, on a real database, a stand-in Immich and a real folder."""

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import aiohttp
import asyncpg
from pydantic import SecretStr

from immich_dbsync.core.backoff import Backoff
from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.disk.hashing import Hashed, hash_file, xxh3_of_file
from immich_dbsync.disk.root import Root
from immich_dbsync.immich import api
from immich_dbsync.model import Decision, OwnerId, RelPath, Sha1, Xxh3
from immich_dbsync.service import drain, hashing, pools, roster, session, sizes, uploads, workers
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.pools import connected
from immich_dbsync.service.queues import Unread
from immich_dbsync.service.session import Session
from immich_dbsync.service.uploads import send_unread
from immich_dbsync.settings import Settings
from immich_dbsync.store.holds import DECIDED, HoldRow, Holds
from tests.files import files_below
from tests.waiting import until

__all__ = ["GRACE_S", "SETTLE_S", "Harness", "Person", "harness", "picture", "until"]

GRACE_S = 0.25
SETTLE_S = 0.05
_HOUR_NS = 3600 * 1_000_000_000
_STOP_S = 20.0
_COARSE = 5  # CLOCK_REALTIME_COARSE, which file systems go by (linux/time.h)
# Waits that only spare work, or are for somebody to mend something.
# And fewer connections: each is a process that has to learn the catalogue anew. Of those that outlive a test the plans
# are not made anew in each.
_SHORTER: tuple[tuple[object, str, object], ...] = (
    (pools, "_WORK", 3),
    (pools, "_LOOKS", 1),
    (pools, "PLANS_KEPT_S", 20.0),
    (workers, "_AFTERWARDS_S", 0.02),
    (sizes, "_FRESH_S", 0.02),
    (sizes, "_REST", 1),
    (drain, "STUCK", Backoff(0.1, 1.0)),
    (session, "_CONFINED", ()),  # what goes wrong in a test is to be seen
    (session, "_ROOT_RETRY_S", 0.2),
    (roster, "KEY_RETRY_S", 0.1),
)


class Reads:
    """Which files the workers computed digests of: SHA-1 and XXH3 in one read, or XXH3 alone."""

    def __init__(self) -> None:
        self.sha1: list[RelPath] = []
        self.xxh3: list[RelPath] = []

    def hash_file(self, root: Root, path: RelPath, **options: Any) -> Hashed:
        self.sha1.append(path)
        return hash_file(root, path, **options)

    async def send_unread(self, sync: OwnerSync, unread: Unread) -> bool:
        self.sha1.append(unread.path)
        return await send_unread(sync, unread)

    def xxh3_of_file(self, root: Root, path: RelPath, **options: Any) -> Xxh3:
        self.xxh3.append(path)
        return xxh3_of_file(root, path, **options)


class Person:
    """One Immich user with a folder, and what they do: in the folder, and in Immich's web."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession, user: UUID, key: str) -> None:
        self._stage = stage
        self._session = session
        self.user, self.key = user, key

    # --- the folder ---

    @property
    def folder(self) -> Path:
        return self._stage.home / "sync" / str(self.user)

    def path(self, name: str | bytes) -> Path:
        return self.folder / (os.fsdecode(name) if isinstance(name, bytes) else name)

    def put(self, name: str | bytes, content: bytes, *, mtime_ns: int | None = None) -> Path:
        """A file arrives as file sync tools have it: whole, under its name at once, with an old mtime."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / ".arriving"
        temporary.write_bytes(content)
        mtime_ns = time.time_ns() - _HOUR_NS if mtime_ns is None else mtime_ns
        os.utime(temporary, ns=(mtime_ns, mtime_ns))
        temporary.rename(path)
        return path

    def files(self) -> dict[str, bytes]:
        """Every file that is not hidden: path and content."""
        return files_below(self.folder)

    def quarantined(self) -> list[bytes]:
        """The contents of all files in quarantine."""
        return sorted(files_below(self.folder / ".immich-dbsync" / "quarantine", hidden=True).values())

    # --- the library ---

    async def status(self, content: bytes) -> str | None:
        """The status of the asset with this content; None where there is none."""
        found: str | None = await self._stage.connection.fetchval(
            'select status::text from asset where "ownerId" = $1 and checksum = $2 and "libraryId" is null',
            self.user,
            _sha1(content),
        )
        return found

    async def asset(self, content: bytes) -> UUID:
        """The id of the asset with this content."""
        found: UUID | None = await self._stage.connection.fetchval(
            'select id from asset where "ownerId" = $1 and checksum = $2 and "libraryId" is null',
            self.user,
            _sha1(content),
        )
        assert found is not None
        return found

    async def records(self) -> dict[bytes, UUID | None]:
        """Path and asset of every record."""
        with suppress(asyncpg.UndefinedTableError):  # the service is starting, and installs it
            rows = await self._stage.connection.fetch(
                "select path, asset_id from immich_dbsync_v1.records where owner_id = $1", self.user
            )
            return {row["path"]: row["asset_id"] for row in rows}
        return {}

    async def problem(self) -> str | None:
        """Why this owner's sync waits, as `status` tells it."""
        with suppress(asyncpg.UndefinedTableError):
            found: str | None = await self._stage.connection.fetchval(
                "select (select string_agg(value ->> 'text', ' ') from jsonb_each(problems))"
                " from immich_dbsync_v1.owners where owner_id = $1",
                self.user,
            )
            return found
        return None

    async def deeds(self, action: str | None = None) -> list[str]:
        """The actions of the history, in order."""
        rows = await self._stage.connection.fetch(
            "select action from immich_dbsync_v1.history where owner_id = $1 order by id", self.user
        )
        return [row["action"] for row in rows if action in {None, row["action"]}]

    async def left(self) -> dict[str, int]:
        """What is left alone now, and how many files."""
        found: str | None = await self._stage.connection.fetchval(
            "select undecided from immich_dbsync_v1.owners where owner_id = $1", self.user
        )
        return dict(json.loads(found)) if found else {}

    # --- what waits for a person ---

    async def holds(self) -> list[HoldRow]:
        """The holds that are not ended."""
        return await Holds(self._stage.connection).all(OwnerId(self.user))

    async def held(self, files: int, *, seconds: float = 10.0) -> HoldRow:
        """The one hold, once it has so many files."""

        async def check() -> tuple[bool, list[HoldRow]]:
            with suppress(asyncpg.UndefinedTableError):
                found = await self.holds()
                return [hold.files for hold in found] == [files], found
            return False, []

        await _holds(check, seconds)
        return (await self.holds())[0]

    async def decide(self, hold: HoldRow, decision: Decision) -> None:
        """What `holds approve` and `holds reject` do."""
        holds = Holds(self._stage.connection)
        assert await holds.decide(hold.id, decision) == self.user
        await holds.ask(OwnerId(self.user), DECIDED)

    async def approve(self, hold: HoldRow) -> None:
        await self.decide(hold, Decision.APPROVED)

    async def reject(self, hold: HoldRow) -> None:
        await self.decide(hold, Decision.REJECTED)

    # --- what they do in the web ---

    async def link_live_photo(self, still: UUID, video: UUID) -> None:
        """What Immich's job does once it has read both files: the video becomes the still's motion part, hidden."""
        await self._stage.connection.execute("update asset set visibility = 'hidden' where id = $1", video)
        await self._stage.connection.execute('update asset set "livePhotoVideoId" = $2 where id = $1', still, video)

    async def upload(self, content: bytes, name: str = "web.png") -> UUID:
        """Upload past us."""

        async def body() -> AsyncIterator[bytes]:
            yield content

        async with api.Server(self._stage.immich.url) as immich:
            upload = api.Upload(name.encode(), len(content), time.time_ns(), Sha1(_sha1(content)))
            return (await immich.upload(self.key, upload, body())).asset_id

    async def trash(self, *ids: UUID, force: bool = False) -> None:
        await self._ask("DELETE", "/api/assets", ids=[str(i) for i in ids], **({"force": True} if force else {}))
        asked = time.time_ns()

        async def later() -> bool:
            """By the clock of file systems, too, which stands still for milliseconds: what comes now comes after."""
            return time.clock_gettime_ns(_COARSE) > asked

        await until(later)

    async def restore(self, *ids: UUID) -> None:
        await self._ask("POST", "/api/trash/restore/assets", ids=[str(i) for i in ids])

    async def empty_trash(self) -> None:
        await self._ask("POST", "/api/trash/empty")
        await self._stage.immich.idle()

    async def _ask(self, method: str, path: str, **body: object) -> None:
        async with self._session.request(
            method, self._stage.immich.url + path, json=body or None, headers={"x-api-key": self.key}
        ) as response:
            assert response.ok, await response.text()

    # --- waiting ---

    async def becomes(self, content: bytes, status: str | None, *, seconds: float = 10.0) -> None:
        """Return when the asset with this content has this status."""

        async def check() -> tuple[bool, str | None]:
            found = await self.status(content)
            return found == status, found

        await _holds(check, seconds)

    async def tied(self, name: str | bytes, *, seconds: float = 10.0) -> UUID:
        """The asset that this path is tied to, once it is."""
        raw = name if isinstance(name, bytes) else os.fsencode(name)

        async def check() -> UUID | None:
            return (await self.records()).get(raw)

        asset = await until(check, seconds=seconds)
        assert asset is not None
        return asset

    async def recorded(self, names: Sequence[str], *, seconds: float = 10.0) -> None:
        """Return when exactly these paths are recorded."""

        async def check() -> tuple[bool, list[bytes]]:
            found = sorted(await self.records())
            return found == sorted(os.fsencode(name) for name in names), found

        await _holds(check, seconds)

    async def gone(self, name: str | bytes, *, seconds: float = 10.0) -> None:
        """Return when there is no file at this path."""

        async def check() -> bool:
            return not self.path(name).is_symlink() and not self.path(name).exists()

        await until(check, seconds=seconds)

    async def there(self, name: str | bytes, content: bytes, *, seconds: float = 10.0) -> None:
        """Return when a file with this content is at this path."""

        async def check() -> bool:
            with suppress(OSError):
                return self.path(name).read_bytes() == content
            return False

        await until(check, seconds=seconds)


class Harness(Person):
    """The service in this process, and its first user."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession, **settings: Any) -> None:
        super().__init__(stage, session, stage.user, stage.key)
        self.stage = stage
        self.immich = stage.immich
        self.connection = stage.connection
        self.people: list[Person] = [self]
        self.reads = Reads()
        self.session: Session | None = None
        self._settings: dict[str, Any] = {
            "move_grace": GRACE_S,
            "settle_time": SETTLE_S,
            "delete_threshold": 0,
            "heartbeat": 5.0,
            **settings,
        }
        self._web = session
        self._task: asyncio.Task[None] | None = None

    async def add_person(self, email: str) -> Person:
        """Another user with a folder and a key."""
        user = await create_user(self.connection, email=email, name=email)
        key = await create_api_key(self.connection, user, PERMISSIONS, "immich-dbsync")
        person = Person(self.stage, self._web, user, key)
        person.folder.mkdir(parents=True)
        self.people.append(person)
        return person

    async def set_trash(self, *, enabled: bool) -> None:
        """What Immich's administrator sets: whether there is a trash."""
        await self.connection.execute(
            """insert into system_metadata (key, value)
               values ('system-config', jsonb_build_object('trash', jsonb_build_object('enabled', $1::boolean)))
               on conflict (key) do update set value = excluded.value""",
            enabled,
        )

    def settings(self) -> Settings:
        given = {
            "database_url": SecretStr(self.stage.database_url),
            "server_url": self.stage.immich.url,
            "sync_root": self.stage.home / "sync",
            "api_keys": SecretStr(" ".join(person.key for person in self.people)),
        }
        return Settings(**{**given, **self._settings})

    def change(self, **settings: Any) -> None:
        """Other settings, from the next start on."""
        self._settings |= settings

    @property
    def requests(self) -> list[tuple[str, str]]:
        """What reached the stand-in so far."""
        return self.immich.requests

    # --- the service ---

    async def start(self, *, wait: bool = True) -> None:
        """Start a session; with ``wait`` return when its first full scan has been worked off."""
        before = await self._last_scan() if wait else None
        self._task = asyncio.create_task(self._run())
        if wait:
            await self._after_scan(before)

    async def _run(self) -> None:
        settings = self.settings()
        async with (
            api.Server(str(settings.server_url), connections=8) as immich,
            connected(settings) as (pools, listener),
        ):
            self.session = Session(settings, pools, listener, immich)
            await self.session.run(await self.session.prepare(first=True))

    async def stop(self) -> None:
        """End the session as SIGTERM or a lost connection does; what it fails with on its way out is raised."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        async with asyncio.timeout(_STOP_S):
            with suppress(asyncio.CancelledError):
                await task

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def ended(self) -> BaseException | None:
        """What the session ended with, once it has."""
        assert self._task is not None
        task, self._task = self._task, None
        async with asyncio.timeout(_STOP_S):
            await asyncio.wait([task])
        return None if task.cancelled() else task.exception()

    def owner(self, person: Person | None = None) -> OwnerSync:
        """The running sync of a person."""
        assert self.session is not None
        return self.session._syncs[OwnerId((person or self).user)]

    def syncs(self) -> list[OwnerSync]:
        """Those that run now."""
        return list(self.session._syncs.values()) if self.session is not None else []

    async def rescan(self) -> None:
        """Have everything looked at, and return when that is worked off and nothing is under way."""
        before = await self._last_scan()
        self.owner().scan()
        await self._after_scan(before)

    async def idle(self, *, seconds: float = 30.0) -> None:
        """Return when nothing is queued, waited for or under way, for any owner, and no event is left."""

        async def check() -> tuple[bool, str]:
            if busy := self._busy():
                return False, busy
            events = await self.connection.fetchval("select count(*) from immich_dbsync_v1.events")
            return not events and not self._busy(), f"{events} events"

        await _holds(check, seconds)

    def _busy(self) -> str:
        if self._task is not None and self._task.done():
            raise AssertionError("the session has ended") from self._task.exception()
        if self.session is None:
            return "no session"
        if len(self.session._syncs) < len(self.people):
            return "an owner is not synced"
        reasons: list[str] = []
        for sync in self.session._syncs.values():
            queues = sync.queues
            agenda = [f"{path!r} due" for path in sync.todo.agenda._due]
            reasons += [
                *agenda,
                *(f"{path!r} hashed" for path in queues.hashing),
                *map(repr, queues.uploading),
            ]
            asked = (
                queues.to_trash or queues.to_restore or queues.trash_wanted.is_set() or queues.restore_wanted.is_set()
            )
            reasons += ["request"] * bool(asked or queues.asking)
            reasons += ["looking"] * sync._lock.locked() + ["unclaimed"] * (sync.unclaimed or sync.claiming)
            reasons += [f"{path!r} waits" for path in sync.dispatch.before]
            reasons += ["scan"] * (sync.scan_wanted.is_set() or bool(sync.to_scan))
        return ", ".join(reasons[:5])

    async def _last_scan(self) -> object:
        with suppress(Exception):
            return await self.connection.fetchval(
                "select last_scan_at from immich_dbsync_v1.owners where owner_id = $1", self.user
            )
        return None

    async def _after_scan(self, before: object) -> None:
        async def scanned() -> bool:
            self._busy()  # raises when the session has ended
            return await self._last_scan() != before

        await until(scanned, seconds=60)
        await self.idle()


async def _holds(check: Callable[[], Any], seconds: float) -> None:
    """Wait until the first of the two that ``check`` gives is true; the second is what is told otherwise."""
    last: list[object] = [None]

    async def once() -> bool:
        good, last[0] = await check()
        return bool(good)

    try:
        await until(once, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not within {seconds} s; last seen: {last[0]!r}") from None


def _sha1(content: bytes) -> bytes:
    return hashlib.sha1(content, usedforsecurity=False).digest()


@asynccontextmanager
async def harness(database_url: str, version: ImmichVersion, **settings: Any) -> AsyncIterator[Harness]:
    """A user with an empty folder and the service, not yet started; it is stopped at the end."""
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(aiohttp.ClientSession())
        stage = await stack.enter_async_context(staged(database_url, version=version))
        sync = Harness(stage, web, **settings)
        for module, name, seconds in _SHORTER:
            stack.enter_context(patch.object(module, name, seconds))
        stack.enter_context(patch.object(hashing, "hash_file", sync.reads.hash_file))
        stack.enter_context(patch.object(uploads, "send_unread", sync.reads.send_unread))
        stack.enter_context(patch.object(hashing, "xxh3_of_file", sync.reads.xxh3_of_file))
        try:
            yield sync
        finally:
            await sync.stop()
