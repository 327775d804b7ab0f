"""Errors and long work in one owner's folder: everybody else is synced as if nothing were."""

import asyncio
import errno
import fcntl
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import asyncpg
import pytest

from immich_dbsync.core.backoff import Backoff
from immich_dbsync.disk.hashing import Abandoned, Hashed
from immich_dbsync.disk.quarantine import entries
from immich_dbsync.disk.root import Root
from immich_dbsync.model import OwnerId, RelPath, Stat
from immich_dbsync.service import asks, hashing, observe, questions, session, sweep, take_back, todo, uploads
from immich_dbsync.service.carry_out import Hands
from immich_dbsync.service.observe import Observer, Seen
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.queues import Job
from immich_dbsync.service.sizes import LibrarySizes
from immich_dbsync.service.snapshot import Snapshot, snapshot
from immich_dbsync.store.holds import RESYNC, Holds
from tests.integration.harness import Harness, Person, picture, until
from tests.mounts import mounted

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE = picture(1), picture(2), picture(3)
_CONFINED = session._CONFINED  # as it is in the service; the harness has every error end the session


@pytest.fixture
async def bob(sync: Harness) -> Person:
    """The owner whose folder makes trouble."""
    return await sync.add_person("bob@example.org")


class Brake:
    """Holds up threads until the block is left."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._released = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()

    def hold(self) -> None:
        """Return when the block is left."""
        self._held.append(threading.get_ident())
        assert self._released.wait(60)

    async def holds(self, many: int = 1) -> None:
        """Return when so many threads are held up."""

        async def enough() -> bool:
            return len(self._held) >= many

        await until(enough)


# --- errors ---


@contextmanager
def leases() -> Iterator[Callable[[Path], None]]:
    """Takes leases on files, as their owner may: until the end of the block nobody else can open them."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # how the kernel tells of somebody who tries
    held: list[int] = []

    def lease(path: Path) -> None:
        held.append(os.open(path, os.O_RDWR))
        fcntl.fcntl(held[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)

    try:
        yield lease
    finally:
        for fd in held:
            os.close(fd)
        signal.signal(signal.SIGIO, before)


@pytest.fixture
def read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is hashed before it is sent, as if the library had files of its size."""

    async def lack(_: LibrarySizes, __: int) -> bool:
        return False

    monkeypatch.setattr(LibrarySizes, "lack", lack)


@pytest.mark.usefixtures("read_first")
async def test_a_file_that_can_t_be_opened_any_more_keeps_no_other_from_being_uploaded(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is leased between its hashing and its upload."""
    monkeypatch.setattr(todo, "RETRY", Backoff(0.05, 0.2))
    with leases() as lease:

        def hash_then_lease(root: Root, path: RelPath, **options: Any) -> Hashed:
            hashed = sync.reads.hash_file(root, path, **options)
            if path == b"leased.png":
                lease(bob.path(path))
            return hashed

        monkeypatch.setattr(hashing, "hash_file", hash_then_lease)
        bob.put("leased.png", TWO)
        await sync.start(wait=False)

        async def tried() -> bool:
            return any(owner.todo._attempts[RelPath(b"leased.png")] > 1 for owner in sync.syncs())

        await until(tried)
        sync.put("a.png", ONE)
        bob.put("b.png", THREE)
        await sync.tied("a.png")
        await bob.tied("b.png")
        assert await bob.status(TWO) is None
        assert sync.running()
    await bob.tied("leased.png")


@pytest.fixture
def confined(sync: Harness) -> Iterator[None]:
    """Errors are dealt with as in the service."""
    assert sync.session is None
    with patch.object(session, "_CONFINED", _CONFINED):
        yield


def fail_looks(monkeypatch: pytest.MonkeyPatch, person: Person, error: Callable[[], Exception]) -> threading.Event:
    """Have every look at this person's folder fail, until the event that is returned is set."""
    mended, look = threading.Event(), Observer.look

    async def failing(observer: Observer, *what: Any, **how: Any) -> Seen:
        if observer.owner == person.user and not mended.is_set():
            raise error()
        return await look(observer, *what, **how)

    monkeypatch.setattr(Observer, "look", failing)
    return mended


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    "error",
    [
        lambda: OSError(errno.EIO, "a disk fails"),
        lambda: OSError(errno.ETIMEDOUT, "a file server is away"),  # a TimeoutError, as a slow statement is
        lambda: RecursionError("a bug"),
    ],
    ids=["disk", "file server", "bug"],
)
async def test_an_error_in_one_owners_sync_is_told_and_ends_nobody_elses(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    mended = fail_looks(monkeypatch, bob, error)
    sync.put("a.png", ONE)
    bob.put("b.png", TWO)
    await sync.start(wait=False)
    problem = await until(bob.problem)
    assert problem is not None
    assert "is tried again" in problem
    assert str(error()) in problem
    query = "select array_agg(kind) from immich_dbsync_v1.owners, jsonb_object_keys(problems) kind where owner_id = $1"
    assert await sync.connection.fetchval(query, bob.user) == ["root"]
    await sync.tied("a.png")
    await sync.trash(await sync.asset(ONE))
    await sync.gone("a.png")
    assert (await sync.problem(), bob.files()) == (None, {"b.png": TWO})
    mended.set()

    async def well() -> bool:
        return await bob.problem() is None

    await until(well)
    await bob.tied("b.png")
    assert sync.running()


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize("error", [asyncpg.ConnectionDoesNotExistError("gone"), TimeoutError()])
async def test_a_lost_database_is_no_error_of_the_owner_whose_question_it_met(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fail_looks(monkeypatch, bob, lambda: error)
    bob.put("b.png", TWO)
    await sync.start(wait=False)
    ended = await sync.ended()
    assert isinstance(ended, BaseExceptionGroup)
    assert ended.subgroup(type(error)) is not None


async def test_what_was_sent_from_below_a_mount_point_is_taken_back_later(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the file is there can't be told meanwhile, and that ends nobody's sync."""
    monkeypatch.setattr(todo, "RETRY", Backoff(0.05, 0.2))
    places, undecided = take_back._places, asyncio.Event()

    async def spied(owner: OwnerSync, paths: list[RelPath]) -> dict[RelPath, take_back._Place]:
        found = await places(owner, paths)
        if owner.owner == bob.user and take_back._Place.UNDECIDED in found.values():
            undecided.set()
        return found

    monkeypatch.setattr(take_back, "_places", spied)
    await sync.start()
    await sync.stop()
    await bob.upload(TWO)  # of which no answer came before the end
    await sync.connection.execute(
        "insert into immich_dbsync_v1.sends (owner_id, sha1, xxh3, size, path) values ($1, $2, $3, $4, $5)",
        *(bob.user, hashlib.sha1(TWO).digest(), bytes(16), len(TWO), b"sub/b.png"),
    )
    bob.path("sub").mkdir()
    with mounted(bob.path("sub")):
        await sync.start(wait=False)
        async with asyncio.timeout(10):
            await undecided.wait()
        for person, content in ((sync, ONE), (bob, THREE)):
            person.put("a.png", content)
            await person.tied("a.png")
        assert await bob.status(TWO) == "active"
        assert sync.running()
    await bob.becomes(TWO, "trashed")


# --- long work ---


async def test_a_file_that_takes_long_to_come_back_keeps_nobody_elses_in_the_folder(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back = Hands._put_back
    sync.put("a.png", ONE)
    bob.put("b.png", TWO)
    await sync.start()
    hers, his = await sync.tied("a.png"), await bob.tied("b.png")
    await bob.trash(his)
    await bob.gone("b.png")
    await sync.idle()
    with Brake() as brake:

        def slow(hands: Hands, actions: Any) -> Any:
            if hands.owner == bob.user:
                brake.hold()
            return put_back(hands, actions)

        monkeypatch.setattr(Hands, "_put_back", slow)
        await bob.restore(his)
        await brake.holds()
        await sync.trash(hers)
        await sync.gone("a.png")
        assert bob.files() == {}
    await bob.there("b.png", TWO)


@pytest.mark.usefixtures("read_first")
async def test_large_files_keep_nobody_elses_from_being_hashed(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = os.cpu_count() or 1
    await sync.start()
    with Brake() as brake:

        def slow(root: Root, path: RelPath, **options: Any) -> Hashed:
            if root.path == bob.folder:
                brake.hold()
            return sync.reads.hash_file(root, path, **options)

        monkeypatch.setattr(hashing, "hash_file", slow)
        for number in range(many + 1):
            bob.put(f"{number}.png", picture(10 + number))
        await brake.holds(many)
        sync.put("a.png", ONE)
        await sync.tied("a.png")
        assert set((await bob.records()).values()) <= {None}
    await bob.tied(f"{many}.png")


async def test_slow_uploads_keep_nobody_elses_from_going_out(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = 3
    sync.change(uploads=slots)
    await sync.start()
    send, released, begun = uploads.send, asyncio.Event(), list[Job]()

    async def slow(owner: OwnerSync, job: Job) -> bool:
        if owner.owner == bob.user:
            begun.append(job)
            await released.wait()
        return await send(owner, job)

    monkeypatch.setattr(uploads, "send", slow)
    for number in range(slots + 1):
        bob.put(f"{number}.png", picture(10 + number))

    async def all_slots_taken() -> bool:
        return len(begun) == slots

    await until(all_slots_taken)
    sync.put("a.png", ONE)
    await sync.tied("a.png")
    assert len(begun) == slots
    released.set()
    for number in range(slots + 1):
        await bob.tied(f"{number}.png")


async def test_what_was_planted_in_quarantine_is_read_no_longer_than_the_sync_lasts(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each new start would lose one more thread to a file that takes hours."""
    begun, ended, given_up = threading.Event(), threading.Event(), threading.Event()

    def slow(_root: Root, _path: RelPath, *, stopped: Callable[[], bool]) -> Hashed:
        begun.set()
        while not stopped():
            if given_up.wait(0.005):
                raise OSError
        ended.set()
        raise Abandoned

    async def is_set(event: threading.Event) -> bool:
        return event.is_set()

    planted = sync.folder / ".immich-dbsync/quarantine/2024-05-06/a.png"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"planted")
    monkeypatch.setattr(sweep, "hash_file", slow)
    sync.put("a.png", ONE)
    await sync.start(wait=False)
    try:
        await until(lambda: is_set(begun))
        await sync.stop()
        await until(lambda: is_set(ended))
    finally:
        given_up.set()


async def test_a_resync_does_not_wait_for_a_file_that_is_written_for_hours(
    sync: Harness, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asks, "_WRITTEN_S", 0.0)
    sync.change(settle_time=5.0)
    await sync.start()
    recording = bob.path("recording.png")
    recording.write_bytes(TWO)
    bob.put("b.png", THREE)
    holds = Holds(sync.connection)
    number = await holds.ask(OwnerId(bob.user), RESYNC, questions.comparison(b"", rehash=False).arguments)

    async def write_on() -> dict[str, Any] | None:
        os.utime(recording)
        return await holds.result(number)

    answer = await until(write_on)
    assert answer is not None
    assert answer["left"] == {"the file was still being written": 1}
    assert (await bob.status(TWO), await bob.status(THREE)) == (None, "active")


# --- much of it ---

_CHAIN = """
with links as (
  select i, convert_to(i || '.png', 'UTF8') as path, decode(lpad(to_hex(i), 40, '0'), 'hex') as sha1,
         decode(lpad(to_hex(i), 32, '0'), 'hex') as xxh3, lpad(to_hex(i), 32, '0')::uuid as asset
  from generate_series(1, $2::int) i
), missing as (
  insert into immich_dbsync_v1.records (owner_id, path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id)
  select $1, path, 1, 1, 1, i, false, xxh3, sha1, asset from links
)
insert into immich_dbsync_v1.quarantine (owner_id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id)
select $1, next.path, '2024-05-06/'::bytea || next.path, 1, 1, link.i + 1000000, link.xxh3, link.sha1, link.asset
from links link join links next on next.i = link.i + 1
"""


async def test_however_long_a_chain_of_files_that_take_each_others_place_a_look_ends(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is missing, and the one before it in quarantine goes back to its path."""
    links, questions, asked = 3000, list[int](), snapshot
    await sync.start()
    await sync.connection.execute(_CHAIN, sync.user, links)

    async def counted(pool: "asyncpg.Pool[asyncpg.Record]", owner: OwnerId, **what: Any) -> Snapshot:
        found = await asked(pool, owner, **what)
        questions.append(len(found.entries))
        return found

    monkeypatch.setattr(observe, "snapshot", counted)
    observer = sync.owner().parts.observer
    observer.known.gone_since |= {RelPath(b"%d.png" % number): float("-inf") for number in range(1, links)}
    seen = await observer.look([RelPath(b"1.png")])
    assert len(questions) <= 12
    assert max(questions) <= 6
    # More bears on these than was looked at, so none of them is taken for deleted.
    assert seen.view.records.keys() == seen.view.in_grace
    assert RelPath(b"1.png") in seen.view.in_grace


class Counted(bytes):
    """A location that counts how often it is compared with another."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return super().__eq__(other)

    __hash__ = bytes.__hash__


async def test_each_file_planted_in_quarantine_is_looked_at_once(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 100
    await sync.start()
    place = sync.folder / ".immich-dbsync/quarantine/2024-05-06"
    place.mkdir(parents=True)
    for number in range(many):
        (place / f"{number}.png").write_bytes(b"planted")
        (place / f"{number}.png.xmp").write_bytes(b"planted")

    def counted(root: Root, left: list[RelPath]) -> Iterator[tuple[bytes, RelPath, Stat]]:
        for location, path, stat in entries(root, left):
            yield Counted(location), path, stat

    monkeypatch.setattr(sweep, "entries", counted)
    monkeypatch.setattr(Counted, "comparisons", 0)
    owner = sync.owner()
    await sweep.sweep(owner.owner, owner.root, owner.store, owner.library, owner.parts.rules.names)
    assert Counted.comparisons <= 10 * many
