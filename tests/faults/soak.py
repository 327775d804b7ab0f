"""An hour of random work with faults on both sides: ``python -m tests.faults.soak [--minutes 60] [--seed N]``.

A real PostgreSQL, the stand-in Immich, the service as a process. People work on both sides while connections are cut,
servers fail and processes are killed; every now and then all is left in peace, and then both sides have to agree,
nothing may be lost, and memory and open files are read. Ends with 1 at the first thing that is wrong, and prints the
seed. In the second half the service is not ended any more: so a leak has the time to show.
"""

import argparse
import asyncio
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.tables import create_tables
from immich_dbsync.errors import RootUnusable
from tests.databases import MAJORS, NEWEST
from tests.faults.front import Answer, Front, answers, loses_the_answer, resets_in_the_middle
from tests.faults.proxy import Proxy
from tests.faults.rig import Rig, picture, rigged
from tests.waiting import until

_FILES = 600  # about so many are in the folder
_AGREE_S = 120.0
_MORE_MEMORY = 60 << 20  # bytes by which the last life of the service may grow
_MORE_FILES = 12  # descriptors

Heal = Callable[[], Awaitable[None]]


@dataclass
class Figures:
    """What was done and survived."""

    deeds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    quiet: int = 0
    lives: int = 1
    memory: list[int] = field(default_factory=list)  # bytes, at each quiet moment of this life
    descriptors: list[int] = field(default_factory=list)


class People:
    """Work on both sides at random; each file is the object of one deed between two quiet moments."""

    def __init__(self, rig: Rig, chosen: random.Random, deeds: Counter[str]) -> None:
        self._rig, self._random, self._deeds = rig, chosen, deeds
        self._number = 0
        self._free: list[str] = []
        self._trashed: list[bytes] = []  # contents whose assets are in the trash
        self._place: dict[bytes, str] = {}  # where a content was last
        self._taken_out: set[bytes] = set()  # contents whose file Immich's deletion took to quarantine
        self.contents: list[bytes] = []

    def at_rest(self) -> None:
        """Both sides agree: everything may be worked on again."""
        wanted = self._rig.wanted
        self._free = [*wanted.files]
        self._place |= {content: name for name, content in wanted.files.items()}
        self._random.shuffle(self._free)
        active = {*wanted.files.values()}
        self._trashed = [content for content in self._place if content not in active and content not in wanted.gone]
        self._random.shuffle(self._trashed)

    async def work(self, count: int) -> None:
        """So many deeds."""
        for _ in range(count):
            crowded = len(self._rig.wanted.files) > _FILES
            kinds = [self.arrive, self.arrive_by_app, self.edit, self.move, self.delete, self.trash, self.restore]
            kinds += [self.bring_back, self.delete_for_good]
            weights = [2 if crowded else 6, 1, 2, 2, 3, 3, 2, 1, 1]
            [deed] = self._random.choices(kinds, weights)
            if await deed():
                self._deeds[deed.__name__.replace("_", " ")] += 1
            await self._rig.reacts(seconds=self._random.random() * 0.05)

    def _name(self) -> str:
        self._number += 1
        folder = self._random.choice(("", "Camera/", "Camera/2026/", "Screens/", "a/b/c/"))
        return f"{folder}{self._number:06}.jpg"

    def _put(self, name: str, content: bytes) -> None:
        self.contents.append(content)
        self._rig.put(name, content)
        self._rig.want({name: content})

    async def arrive(self) -> bool:
        name = self._name()
        self._put(name, picture(name))
        return True

    async def arrive_by_app(self) -> bool:
        """By Immich's own app, and then in the folder as well."""
        name = self._name()
        content = picture(name)
        await again(lambda: self._rig.upload(content))
        self._put(name, content)
        return True

    async def edit(self) -> bool:
        if not self._free:
            return False
        name = self._free.pop()
        self._rig.want(trashed=[self._rig.wanted.files[name]])
        self._put(name, picture(name))
        return True

    async def move(self) -> bool:
        if not self._free:
            return False
        name, new = self._free.pop(), self._name()
        target = self._rig.folder / new
        target.parent.mkdir(parents=True, exist_ok=True)
        (self._rig.folder / name).rename(target)
        self._rig.want({new: self._rig.wanted.files.pop(name)})
        return True

    async def delete(self) -> bool:
        if not self._free:
            return False
        name = self._free.pop()
        (self._rig.folder / name).unlink()
        self._rig.want(trashed=[self._rig.wanted.files.pop(name)])
        return True

    async def trash(self) -> bool:
        if not self._free:
            return False
        content = self._rig.wanted.files.pop(self._free.pop())
        await again(lambda: self._rig.trash(content))
        self._rig.want(trashed=[content])
        self._taken_out.add(content)
        return True

    async def bring_back(self) -> bool:
        """A picture that is in the trash arrives in the folder again, elsewhere."""
        if not self._trashed:
            return False
        content = self._trashed.pop()
        self._taken_out.discard(content)
        self._put(self._name(), content)
        return True

    async def restore(self) -> bool:
        """A picture is taken out of Immich's trash: its file comes back where the quarantine has it."""
        content = next((content for content in self._trashed if content in self._taken_out), None)
        if content is None:
            return False
        self._trashed.remove(content)
        self._taken_out.remove(content)
        await again(lambda: self._rig.restore(content))
        self._rig.want({self._place[content]: content})
        return True

    async def delete_for_good(self) -> bool:
        if not self._trashed:
            return False
        content = self._trashed.pop()
        await again(lambda: self._rig.trash(content, force=True))
        self._rig.want(gone=[content])
        return True


async def again(deed: Callable[[], Awaitable[None]]) -> None:
    """Do it until Immich, whose database may be restarting, has done it."""

    async def done() -> bool:
        try:
            await deed()
        except (AssertionError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    await until(done, seconds=30)


class World:
    """What can go wrong."""

    def __init__(self, rig: Rig, cluster: Cluster, proxy: Proxy, front: Front, chosen: random.Random) -> None:
        self.rig, self.cluster, self.proxy, self.front = rig, cluster, proxy, front
        self._random = chosen
        self.lives = 1

    def kinds(self, *, lives: bool) -> list[Callable[[], Awaitable[Heal]]]:
        """Every fault; ``lives`` false: none that ends the service."""
        ends = [self.killed, self.stopped] if lives else []
        return [
            *ends,
            self.connections_cut,
            self.database_refused,
            self.database_slow,
            self.database_frozen,
            self.notifications_lost,
            self.backends_terminated,
            self.database_restarted,
            self.triggers_dropped,
            self.server_down,
            self.server_failing,
            self.process_stopped,
            self.root_away,
        ]

    async def killed(self) -> Heal:
        self.rig.kill()
        self.lives += 1

        async def heal() -> None:
            self.rig.start()

        return heal

    async def stopped(self) -> Heal:
        assert await self.rig.stop() in {0, -signal.SIGTERM}  # the latter where it had only just been started
        self.lives += 1

        async def heal() -> None:
            self.rig.start()

        return heal

    async def connections_cut(self) -> Heal:
        self.proxy.cut()
        return _nothing

    async def database_refused(self) -> Heal:
        self.proxy.refusing = True
        self.proxy.cut()

        async def heal() -> None:
            self.proxy.refusing = False

        return heal

    async def database_slow(self) -> Heal:
        self.proxy.delay_s = 0.05

        async def heal() -> None:
            self.proxy.delay_s = 0.0

        return heal

    async def database_frozen(self) -> Heal:
        self.proxy.freeze()

        async def heal() -> None:
            self.proxy.thaw()

        return heal

    async def notifications_lost(self) -> Heal:
        self.proxy.mute = True

        async def heal() -> None:
            self.proxy.mute = False

        return heal

    async def backends_terminated(self) -> Heal:
        ours = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'immich-dbsync%'"
        await self.rig.stage.connection.execute(ours)
        return _nothing

    async def triggers_dropped(self) -> Heal:
        await self.rig.stage.connection.execute("drop trigger if exists immich_dbsync_v1_updated on asset")
        return _nothing

    async def database_restarted(self) -> Heal:
        await self.rig.stage.immich.idle()  # Immich's jobs outlive a restart, the stand-in's do not
        await asyncio.to_thread(self.cluster.stop_server, self._random.choice(("fast", "immediate")))
        await asyncio.to_thread(self.cluster.start_server)
        self.rig.stage.connection.terminate()
        self.rig.stage.connection = await asyncpg.connect(self.rig.stage.database_url)
        return _nothing

    async def server_down(self) -> Heal:
        self.front.refusing = True

        async def heal() -> None:
            self.front.refusing = False

        return heal

    async def server_failing(self) -> Heal:
        ways: list[Answer] = [
            answers(500, "{}"),
            answers(502, "<html></html>", content_type="text/html"),
            answers(429, "{}", Retry_After="1"),
            resets_in_the_middle,
            loses_the_answer(self.front),
        ]
        for method, path in (("POST", "/api/assets"), ("DELETE", "/api/assets"), ("PUT", "/api/assets/copy")):
            self.front.spoil(method, path, self._random.choice(ways), times=self._random.randrange(1, 5))

        async def heal() -> None:
            self.front.calm()

        return heal

    async def process_stopped(self) -> Heal:
        process = self.rig.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)

        async def heal() -> None:
            process.send_signal(signal.SIGCONT)

        return heal

    async def root_away(self) -> Heal:
        """For a moment, in which nobody works on it."""
        aside = self.rig.folder.with_name("aside")
        self.rig.folder.rename(aside)
        await self.rig.reacts("root.health", "root.unusable", seconds=self._random.random() * 3)
        aside.rename(self.rig.folder)
        process = self.rig.process
        if process is not None and process.poll() == RootUnusable.exit_code:
            # It had only just been started, and ends then with what to do about it; systemd starts it again.
            self.rig.start()
        return _nothing


async def _nothing() -> None:
    pass


@asynccontextmanager
async def _worlds(chosen: random.Random) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(Cluster(MAJORS[NEWEST], settings={"synchronous_commit": "on"}))
        connection = await asyncpg.connect(cluster.url())
        await create_tables(connection, "3.1.0")
        await connection.close()
        proxy = await stack.enter_async_context(Proxy(cluster.folder / ".s.PGSQL.5432"))
        rig = await stack.enter_async_context(rigged(cluster.url(), "3.1.0", scan_interval="60"))
        front = await stack.enter_async_context(Front(rig.stage.immich.url))
        rig.settings |= {
            "IMMICH_DBSYNC_DATABASE_URL": proxy.url("postgres"),
            "IMMICH_DBSYNC_SERVER_URL": front.url,
        }
        rig.start()
        try:
            yield World(rig, cluster, proxy, front, chosen)
        finally:
            rig.stage.connection.terminate()


@asynccontextmanager
async def _kept_log(rig: Rig, log: Path) -> AsyncIterator[None]:
    """Where it goes wrong, the service's whole log and the history of all files are kept beside each other."""
    try:
        yield
    except BaseException:
        shutil.copy(rig.stage.log, log)
        rows = await rig.stage.connection.fetch(
            "select at, action, cause, path from immich_dbsync_v1.history order by id"
        )
        records = await rig.stage.connection.fetch("select * from immich_dbsync_v1.records")
        log.with_suffix(".history").write_text("\n".join(repr(tuple(row)) for row in (*rows, *records)))
        raise


async def soak(minutes: float, chosen: random.Random, log: Path) -> Figures:
    """Work and fail for so long; AssertionError at the first thing that is wrong, when the service's log is kept."""
    figures = Figures()
    began = time.monotonic()
    async with _worlds(chosen) as world, _kept_log(world.rig, log):
        rig = world.rig
        people = People(rig, chosen, figures.deeds)
        for _ in range(100):
            await people.arrive()
        last_life = False
        while (gone := time.monotonic() - began) < minutes * 60:
            await _quiet(world, people, figures)
            if not last_life and gone > minutes * 30:
                last_life = True
                figures.memory.clear()
                figures.descriptors.clear()
                _note(rig, figures)
            for _ in range(chosen.randrange(2, 7)):
                fault = chosen.choice(world.kinds(lives=not last_life))
                heal = await fault()
                figures.faults[fault.__name__.replace("_", " ")] += 1
                if fault.__name__ == "root_away" or chosen.random() < 0.2:
                    await heal()
                    heal = _nothing
                await people.work(chosen.randrange(3, 25))
                await heal()
                await people.work(chosen.randrange(0, 10))
            figures.lives = world.lives
        await _quiet(world, people, figures)
        _note(rig, figures)
    assert figures.memory[-1] - figures.memory[0] < _MORE_MEMORY, figures.memory
    assert figures.descriptors[-1] - figures.descriptors[0] < _MORE_FILES, figures.descriptors
    return figures


async def _quiet(world: World, people: People, figures: Figures) -> None:
    rig = world.rig
    world.front.calm()
    if rig.process is not None and rig.process.poll() == RootUnusable.exit_code:
        rig.start()
    await rig.stage.immich.idle()
    try:
        await rig.agrees(seconds=_AGREE_S)
    finally:
        assert rig.running(), "the service has ended"
    await rig.nothing_is_lost(people.contents)
    assert "Traceback" not in rig.log()
    people.at_rest()
    figures.quiet += 1
    _note(rig, figures)
    done = f"{figures.quiet} quiet moments, {figures.deeds.total()} deeds, {figures.faults.total()} faults"
    print(f"{done}, {len(rig.wanted.files)} files, {figures.memory[-1] >> 20} MB", flush=True)  # noqa: T201


def _note(rig: Rig, figures: Figures) -> None:
    process = rig.process
    assert process is not None
    figures.memory.append(rig.memory())
    figures.descriptors.append(len([*Path(f"/proc/{process.pid}/fd").iterdir()]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir(), "immich-dbsync-soak.log"))
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    for name in ("asyncpg", "aiohttp"):  # the stand-in's troubles, while PostgreSQL restarts and connections end
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    seed = given.seed if given.seed is not None else int(time.time())
    try:
        figures = asyncio.run(soak(given.minutes, random.Random(seed), given.log))
    except BaseException:
        print(f"seed {seed}; the service's log is in {given.log}", file=sys.stderr)  # noqa: T201
        raise
    for title, counts in (("done by people", figures.deeds), ("faults survived", figures.faults)):
        print(f"{title}: {counts.total()}")  # noqa: T201
        for name, count in sorted(counts.items()):
            print(f"  {name:24} {count:>7}")  # noqa: T201
    memory, descriptors = figures.memory, figures.descriptors
    print(  # noqa: T201
        f"{figures.quiet} times both sides agreed; lost 0, twice 0; the service lived {figures.lives} times\n"
        f"in its last life: memory {memory[0] >> 20} to {memory[-1] >> 20} MB, at most {max(memory) >> 20} MB;"
        f" open descriptors {descriptors[0]} to {descriptors[-1]}; seed {seed}"
    )
    if given.json:
        given.json.write_text(json.dumps(figures.__dict__))
    return 0


if __name__ == "__main__":
    sys.exit(main())
