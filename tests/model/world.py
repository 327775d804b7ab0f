"""The real engine with a real folder, a real database and the stand-in Immich, for the model to play on.

One world serves many examples; each has a user of its own. The engine runs only while the world is asked something,
so that the folder and the library change between any two of its steps. Times are near zero; nothing else is replaced
but the ways by which news reach the engine, where they can be held back, repeated, reordered and lost.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from unittest.mock import patch

import aiohttp

from immich_dbsync.core import guards
from immich_dbsync.core.backoff import Backoff
from immich_dbsync.core.guards import Limits
from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.disk import hashing
from immich_dbsync.disk.watch import Hints, Watch
from immich_dbsync.model import Decision, OwnerId
from immich_dbsync.service import drain, gate, pools, rounds, rules, todo, workers
from immich_dbsync.service.listener import Listener
from immich_dbsync.store.holds import DECIDED, Holds
from tests import kept
from tests.files import files_below
from tests.integration.harness import Harness
from tests.model.oracle import Seen
from tests.waiting import until, within

_QUICK = Backoff(0.01, 0.1)
_SOONER: tuple[tuple[object, str, object], ...] = (
    (hashing, "FRESH_NS", 30_000_000),  # some ticks of this machine's clock
    (pools, "PLANS_KEPT_S", 20.0),
    (workers, "_AFTERWARDS_S", 0.01),
    (workers, "_PASS_S", 0.005),
    (rounds, "_ROOM_S", 0.002),
    (todo, "_TWIN_S", 0.02),
    (todo, "_SLOW_S", 0.1),
    (todo, "RETRY", _QUICK),
    (gate, "PROBE", _QUICK),
    (drain, "STUCK", _QUICK),
)
_QUIET_S = 20.0
_QUESTION_S = 0.0003
_IN_LIBRARY = """
select 'library', checksum, status::text, null::bytea from asset where "ownerId" = $1 and status <> 'deleted'
"""
# And the paths of what a hold has, waiting or not yet carried out, and how often a deletion of an asset that is there
# was put on hold.
_LOOK = f"""{_IN_LIBRARY}
union all
select 'held', sha1, null, path from immich_dbsync_v1.records where owner_id = $1 and hold_id is not null
union all
select 'hold', a.checksum, count(*)::text, null
from immich_dbsync_v1.history h join asset a on a.id = h.asset_id
where h.owner_id = $1 and h.action = 'hold' group by a.checksum
"""


@dataclass
class Post:
    """Brings the news to the engine: hints from the folder and notifications from the database."""

    holding: bool = False
    held: list[Callable[[], None]] = field(default_factory=list)

    def send(self, deliver: Callable[[], None]) -> None:
        """Deliver now, or keep it."""
        if self.holding:
            self.held.append(deliver)
        else:
            deliver()

    def deliver(self, *, reverse: bool, times: int) -> None:
        """Deliver all that is held, ``times`` over, the latest first with ``reverse``; 0 times loses it."""
        held, self.held = self.held, []
        for deliver in (reversed(held) if reverse else held) if times else ():
            for _ in range(times):
                deliver()


@contextmanager
def _through(post: Post) -> Iterator[None]:
    """Have watches and listeners send their news by this post."""

    class Posted(Watch):
        async def _run(self) -> AsyncGenerator[Hints, None]:
            arrived: asyncio.Queue[Hints | None] = asyncio.Queue()

            async def collect() -> None:
                async for hints in super(Posted, self)._run():
                    if hints.rescan:  # not news: that the watch began, or lost something itself, can't be lost
                        arrived.put_nowait(hints)
                    else:
                        post.send(lambda hints=hints: arrived.put_nowait(hints))  # type: ignore[misc]
                arrived.put_nowait(None)

            task = asyncio.create_task(collect())
            try:
                while (hints := await arrived.get()) is not None:
                    yield hints
                task.result()
            finally:
                task.cancel()
                await asyncio.wait([task])

    heard = Listener._heard

    def _heard(self: Listener, *said: object) -> None:
        post.send(lambda: heard(self, *said))

    with patch.object(rounds, "Watch", Posted), patch.object(Listener, "_heard", _heard):
        yield


class World:
    """One example's user, their folder and library, and the engine."""

    def __init__(self, stage: Stage, web: aiohttp.ClientSession, post: Post) -> None:
        self._stage, self._web, self.post = stage, web, post
        self._engine: Harness | None = None
        self._limits = ExitStack()

    @property
    def engine(self) -> Harness:
        assert self._engine is not None
        return self._engine

    # --- examples ---

    async def begin(self, *, hold_min: int, immich_min: int, folder_min: int) -> None:
        """Another example: a new user with an empty folder; the service is not running."""
        connection = self._stage.connection
        user = await create_user(connection, email=f"{os.urandom(6).hex()}@example.org", name="Ada")
        self._stage.user, self._stage.key = user, await create_api_key(connection, user, PERMISSIONS, "immich-dbsync")
        self._stage.folder.mkdir(parents=True)
        self._engine = Harness(self._stage, self._web, move_grace=0, settle_time=0, hold_min=hold_min)
        self._limits = ExitStack()
        self._limits.enter_context(patch.object(rules, "FROM_IMMICH", Limits(immich_min, 0.5)))
        for module in (guards, workers):
            self._limits.enter_context(patch.object(module, "FOLDER_MIN", folder_min))
        self._aside.mkdir()
        self.calm()

    async def end(self) -> None:
        """The example is over."""
        try:
            await self.stop()
        finally:
            self._limits.close()
            await self._stage.immich.idle()
            # Only what is synced costs the next example anything.
            await self._stage.connection.execute(
                "delete from immich_dbsync_v1.owners where owner_id = $1", self._stage.user
            )
            shutil.rmtree(self._stage.folder)
            shutil.rmtree(self._aside)

    # --- the folder ---

    @property
    def folder(self) -> Path:
        return self._stage.folder

    @property
    def _aside(self) -> Path:
        return self._stage.home / "aside"

    def aside(self, number: int) -> Path:
        """A place outside of the folder, on the same file system."""
        return self._aside / str(number)

    # --- the service ---

    async def start(self) -> None:
        if not self.engine.running():
            await self.engine.start(wait=False)

    async def stop(self) -> None:
        await self.engine.stop()
        self.post.held.clear()  # it is gone, and its connection with it

    async def go_on(self, questions: int) -> None:
        """Let the engine work for about as long as the database takes to answer so many questions."""
        await within(asyncio.Event(), questions * _QUESTION_S)

    # --- what goes wrong ---

    def fail(self, fault: str) -> None:
        """One more request goes wrong in this way."""
        faults = self._stage.immich.faults
        setattr(faults, fault, getattr(faults, fault) + 1)

    @contextmanager
    def _unspoilt(self) -> Iterator[None]:
        """What the user asks in the web is not spoilt."""
        faults = self._stage.immich.faults
        before = faults.as_json()
        self.calm()
        try:
            yield
        finally:
            faults.change(before)

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        faults = self._stage.immich.faults
        faults.change({each.name: 0 for each in fields(faults)})

    # --- the library ---

    async def web(self, deed: str, content: bytes) -> None:
        """What the user does in the web."""
        with self._unspoilt():
            match deed:
                case "upload":
                    await self._stage.immich.idle()  # while a row is being deleted its content can't be uploaded
                    await self.engine.upload(content)
                case "trash":
                    await self.engine.trash(await self.engine.asset(content))
                    await self._tick()
                case "force":
                    await self.engine.trash(await self.engine.asset(content), force=True)
                    await self._tick()
                case "restore":
                    await self.engine.restore(await self.engine.asset(content))
                case "empty":
                    await self.engine.empty_trash()
                case _:
                    raise ValueError(deed)

    async def _tick(self) -> None:
        """Return when files written from now on are later than what was just done, by the kernel's coarse clock too."""
        probe = self._aside / "probe"
        now: int = await self._stage.connection.fetchval("select (extract(epoch from clock_timestamp()) * 1e9)::int8")

        async def later() -> bool:
            probe.write_bytes(b"")
            return probe.stat().st_ctime_ns > now

        await until(later)

    # --- holds ---

    async def holds(self) -> list[int]:
        """The holds that wait."""
        return [hold.id for hold in await self.engine.holds() if hold.decision == "waiting"]

    async def decide(self, number: int, *, approve: bool) -> None:
        holds = Holds(self._stage.connection)
        # The engine may have ended it meanwhile.
        if await holds.decide(number, Decision.APPROVED if approve else Decision.REJECTED) is not None:
            await holds.ask(OwnerId(self._stage.user), DECIDED)

    # --- what is seen ---

    async def look(self, contents: dict[bytes, bytes]) -> Seen:
        """The world as it is now; ``contents`` by their SHA-1."""
        there = self.engine.session is not None  # it installs our tables
        rows = await self._stage.connection.fetch(_LOOK if there else _IN_LIBRARY, self._stage.user)
        library, held, holds = {}, {}, {}
        for what, sha1, value, path in rows:
            if what == "library":
                library[contents[sha1]] = value
            elif what == "held":
                held[path.decode()] = contents[sha1]
            else:
                holds[contents[sha1]] = int(value)
        # A file may be on its way just now: what is not in one place yet or any more is in the other.
        place = self.folder / ".immich-dbsync" / "quarantine"
        quarantined = {*files_below(place).values()}
        files = files_below(self.folder)
        quarantined.update(files_below(place).values())
        return Seen(files, frozenset(quarantined), library, frozenset(held.values()), holds, frozenset(held))

    async def quiet(self, *, tell: bool) -> None:
        """Have the running service compare everything, and return when nothing is left to do for it.

        ``tell``: of all events as well; else it has to find out what was lost by itself.
        """
        self.calm()
        self.post.holding = False
        self.post.deliver(reverse=False, times=1)
        await self._stage.immich.idle()
        engine = self.engine

        async def synced() -> bool:
            return bool(engine.syncs()) and not engine.owner().known.unfamiliar

        try:
            await until(synced, seconds=_QUIET_S)
        except AssertionError:
            known = [(sync.known.unfamiliar, sync.parts.observer.was_unwell) for sync in engine.syncs()]
            raise AssertionError(f"no first scan within {_QUIET_S} s: {known}, {engine._busy()}") from None
        if tell:
            assert engine.session is not None
            engine.session._listener.news.set()
        before = await engine._last_scan()
        engine.owner().scan()

        async def done() -> tuple[bool, str]:
            busy = engine._busy()
            return not busy and await engine._last_scan() != before and not engine._busy(), busy

        busy = ""

        async def over() -> bool:
            nonlocal busy
            good, busy = await done()
            return good

        try:
            await until(over, seconds=_QUIET_S)
        except AssertionError:
            raise AssertionError(f"not quiet within {_QUIET_S} s: {busy or 'no scan'}") from None


@contextmanager
def worlds(database_url: str, version: ImmichVersion) -> Iterator[tuple[asyncio.AbstractEventLoop, World]]:
    """A world and the event loop that it lives in."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    stack = AsyncExitStack()

    async def enter() -> World:
        post = Post()
        stack.enter_context(_through(post))
        stack.enter_context(kept.keeping(loop))
        for module, known, value in _SOONER:
            stack.enter_context(patch.object(module, known, value))
        web = await stack.enter_async_context(aiohttp.ClientSession())
        stage = await stack.enter_async_context(staged(database_url, version=version))
        stage.immich.job_delay_s = 0.002
        return World(stage, web, post)

    try:
        yield loop, loop.run_until_complete(enter())
    finally:
        loop.run_until_complete(stack.aclose())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
