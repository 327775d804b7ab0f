"""Our tables through the store: closed views, paging in byte order, odd paths."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from immich_dbsync.model import AssetId, Content, Entry, OwnerId, Record, RelPath, Sha1, Stat, Xxh3
from immich_dbsync.service.snapshot import snapshot
from immich_dbsync.store import install
from immich_dbsync.store.records import Deed, Event, Sent, Store
from tests.integration.assets import DELETE, TRASH, add_assets, add_library, add_person, connected
from tests.waiting import until

OWNER = OwnerId(uuid4())


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    install.install(database_url)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as made:
        yield made


@pytest.fixture
def store(pool: "asyncpg.Pool[asyncpg.Record]") -> Store:
    return Store(pool)


def record(path: bytes, number: int, *, asset: AssetId | None = None, inode: int = 1) -> Record:
    content = Content(Sha1(bytes([number]) * 20), Xxh3(bytes([number]) * 16))
    return Record(RelPath(path), Stat(100, 5, 6, inode), content, asset)


async def test_record_comes_back_as_it_was_written(store: Store) -> None:
    asset = AssetId(uuid4())
    odd = [
        record(b"\xff\xfe/\n.jpg", 1, asset=asset, inode=2**64 - 1),
        Record(RelPath(b"d"), Stat(2**40, -1, -(2**62), 7), record(b"", 2).content, None, racy=True, problem="no"),
        record(b"/".join([b"x" * 255] * 200), 3),
    ]
    await store.upsert(OWNER, odd)
    seen = await store.records_at(OWNER, [r.path for r in odd])
    assert seen == {r.path: r for r in odd}
    changed = record(b"d", 4, asset=asset)
    await store.upsert(OWNER, [changed])
    assert (await store.records_at(OWNER, [changed.path]))[changed.path] == changed


async def test_view_is_closed_over_content(store: Store, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    asset = AssetId(uuid4())
    await store.upsert(
        OWNER,
        [
            record(b"a", 1, asset=asset, inode=10),
            record(b"b", 1, inode=11),
            record(b"c", 2, inode=12),
            record(b"d", 3, inode=13),
        ],
    )

    async def paths(
        *, at: Sequence[bytes] = (), of: Sequence[AssetId] = (), sha1: Sequence[int] = (), inode: Sequence[int] = ()
    ) -> set[bytes]:
        checksums = [Sha1(bytes([n]) * 20) for n in sha1]
        found = await snapshot(
            pool, OWNER, paths=[RelPath(p) for p in at], assets=of, checksums=checksums, inodes=inode
        )
        return {*found.records}

    assert await paths(at=[b"b"]) == {b"a", b"b"}
    assert await paths(of=[asset]) == {b"a", b"b"}
    assert await paths(sha1=[2]) == {b"c"}
    assert await paths(inode=[11, 13]) == {b"a", b"b", b"d"}
    assert await paths(at=[b"nowhere"]) == set()
    another = OwnerId(uuid4())
    asked: dict[str, Any] = {"assets": [asset], "checksums": [Sha1(bytes([1]) * 20)], "inodes": [10]}
    assert (await snapshot(pool, another, paths=[RelPath(b"a")], **asked)).records == {}


async def test_a_view_has_what_goes_back_to_its_paths_and_tells_of_what_else_lies_in_quarantine(
    store: Store, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    taken, here = AssetId(uuid4()), AssetId(uuid4())
    await store.upsert(OWNER, [record(b"a", 1, asset=here, inode=2**64 - 1)])
    for number, path, asset in ((2, b"a", taken), (3, b"b", here)):
        entry = record(path, number, asset=asset)
        place = b"2026-01-01/" + path
        await store.add_entries(
            OWNER, [Entry(0, entry.path, place, entry.stat, entry.content, asset)], ["trashed"], end_records=False
        )
    back, further = await store.all_entries(OWNER)
    seen = await snapshot(pool, OWNER, paths=[RelPath(b"a")])
    assert seen.entries == (back,)
    assert seen.further_entries == {further.id}
    assert [each.stat.inode for each in seen.records.values()] == [2**64 - 1]
    assert (await snapshot(pool, OWNER, assets=[here])).entries == (further,)
    assert (await snapshot(pool, OWNER, entries=[further.id])).entries == (further,)
    await store.supersede(OWNER, ids=[back.id])
    assert (await snapshot(pool, OWNER, paths=[RelPath(b"a")])).entries == ()
    assert (await snapshot(pool, OwnerId(uuid4()), assets=[here], entries=[further.id])).entries == ()


async def test_one_question_tells_of_events_and_of_what_bears_on_one_that_is_alone(
    store: Store, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    first, second, another = AssetId(uuid4()), AssetId(uuid4()), OwnerId(uuid4())
    await store.upsert(OWNER, [record(b"a", 1, asset=first, inode=10), record(b"b", 2, asset=second, inode=11)])

    async def happened(owner: UUID, asset: UUID, kind: str) -> int:
        row = "insert into immich_dbsync_v1.events (owner_id, asset_id, kind) values ($1, $2, $3) returning id"
        return int(await pool.fetchval(row, owner, asset, kind))

    async def asked(*but: int, most: int = 10) -> tuple[list[int], set[bytes]]:
        seen = await snapshot(pool, OWNER, events_but=but, events_most=most)
        return [event.id for event in seen.events], {*seen.records}

    assert await asked() == ([], set())
    await happened(another, uuid4(), "trashed")
    alone = await happened(OWNER, first, "trashed")
    assert await asked() == ([alone], {b"a"})
    [event] = (await snapshot(pool, OWNER, events_but=(), events_most=10)).events
    assert event == Event(alone, OWNER, first, "trashed")
    assert (await snapshot(pool, OWNER, assets=[second])).events == ()
    other = await happened(OWNER, second, "deleted")
    assert await asked() == ([alone, other], set())  # of many it is found out first whether they are too many
    assert await asked(alone) == ([other], {b"b"})
    assert await asked(most=1) == ([alone], {b"a"})
    nobody = UUID(int=0)
    overflow = await happened(nobody, nobody, "overflow")
    assert await asked(alone) == ([other, overflow], set())
    assert await asked(alone, other) == ([overflow], set())


async def test_pages_follow_each_other_in_byte_order(store: Store) -> None:
    long = b"l" * 1500
    paths = [b"a", b"a-b", b"a/b", b"a/c/d", b"a0", b"\xff", long + b"a", long + b"b", long + b"c", b"z9"]
    await store.upsert(OWNER, [record(path, 1) for path in paths])

    async def all_pages(after: bytes, before: bytes | None) -> list[bytes]:
        found: list[bytes] = []
        while page := await store.record_page(OWNER, after, before, 2):
            found += [listed.path for listed in page]
            after = page[-1].path
        return found

    assert await all_pages(b"", None) == sorted(paths)
    assert await all_pages(b"a/", b"a0") == [b"a/b", b"a/c/d"]
    assert await all_pages(long + b"a", None) == [p for p in sorted(paths) if p > long + b"a"]


async def test_folders_are_known_by_what_lies_below_them(store: Store) -> None:
    await store.upsert(OWNER, [record(b"a/b/c.jpg", 1), record(b"ab.jpg", 2)])
    asked = [RelPath(p) for p in (b"a", b"a/b", b"a/b/c.jpg", b"ab", b"b")]
    assert await store.folders(OWNER, asked) == [b"a", b"a/b"]


async def test_quarantine_entry_ends_the_record_and_the_way_back_ends_the_entry(store: Store) -> None:
    asset = AssetId(uuid4())
    taken = record(b"a", 1, asset=asset)
    await store.upsert(OWNER, [taken])
    entry = Entry(0, taken.path, b"2026-01-01/a", taken.stat, taken.content, asset)
    await store.add_entries(OWNER, [entry], ["trashed"])
    await store.add_entries(OWNER, [entry], ["trashed"])  # told twice after a crash
    assert await store.records_at(OWNER, [taken.path]) == {}
    [kept] = await store.all_entries(OWNER)
    assert (kept.path, kept.location, kept.content, kept.asset_id) == (b"a", b"2026-01-01/a", taken.content, asset)
    await store.upsert(OWNER, [taken], ended_entries=[kept.id])
    assert await store.entries(OWNER, [kept.id]) == []
    assert await store.records_at(OWNER, [taken.path]) == {taken.path: taken}


async def test_record_that_was_tied_anew_is_not_dropped_for_the_old_asset(store: Store) -> None:
    old, new = AssetId(uuid4()), AssetId(uuid4())
    await store.upsert(OWNER, [record(b"a", 1, asset=new)])
    await store.drop(OWNER, [RelPath(b"a")], tied_to=[old])
    assert len(await store.records_at(OWNER, [RelPath(b"a")])) == 1
    await store.drop(OWNER, [RelPath(b"a")], tied_to=[new])
    assert await store.records_at(OWNER, [RelPath(b"a")]) == {}


@pytest.mark.parametrize("why_not", ["", "trashed", "other bytes", "another's", "of a library", "not there"])
async def test_what_was_sent_is_tied_only_to_an_active_asset_that_holds_it(
    store: Store, pool: "asyncpg.Pool[asyncpg.Record]", database_url: str, why_not: str
) -> None:
    with connected(database_url) as connection:
        owner = OwnerId(add_person(connection))
        theirs = add_person(connection) if why_not == "another's" else owner
        library = add_library(connection, owner) if why_not == "of a library" else None
        [asset] = map(AssetId, add_assets(connection, theirs, library=library))
        if why_not == "trashed":
            connection.execute(TRASH, ([asset],))
        if why_not == "not there":
            connection.execute(DELETE, ([asset],))
    held = await pool.fetchval("select checksum from public.asset where id = $1", asset) or bytes(32)
    content = Content(Sha1(held if why_not != "other bytes" else bytes(32)), Xxh3(bytes(16)))
    sent = [Record(RelPath(path), Stat(100, 5, 6, 7), content, None) for path in (b"a", b"b")]
    before = [replace(sent[0], racy=True, problem="no")]
    await store.upsert(owner, before)
    await store.begin_send(owner, Sent(sent[0].path, content, 100))
    assert await store.tie(owner, sent, asset, "new") is (not why_not)
    found = await store.records_at(owner, [each.path for each in sent])
    ours = (
        f"select action, path, asset_id, cause from immich_dbsync_v1.history where owner_id = '{owner}' order by path"
    )
    history = [tuple(row) for row in await pool.fetch(ours)]
    if why_not:
        assert (found, history) == ({b"a": before[0]}, [])
        assert await pool.fetchval("select count(*) from immich_dbsync_v1.sends") == 1
    else:
        assert found == {each.path: replace(each, asset_id=asset) for each in sent}
        assert history == [("upload", each.path, asset, "new") for each in sent]
        assert await pool.fetchval("select count(*) from immich_dbsync_v1.sends") == 0


async def test_history_keeps_what_has_no_path_and_no_asset(store: Store, database_url: str) -> None:
    await store.remember(
        OWNER, [Deed("upload", "new", RelPath(b"\xff")), Deed("hold", "many", asset_id=AssetId(uuid4()))]
    )
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("select action, path from immich_dbsync_v1.history order by id")
    await connection.close()
    assert [tuple(row) for row in rows] == [("upload", b"\xff"), ("hold", None)]


@pytest.mark.newest
@pytest.mark.parametrize("statement", ["add", "end", "clean", "restored"])
async def test_statements_about_the_same_requests_take_them_in_one_order(
    database_url: str, store: Store, pool: "asyncpg.Pool[asyncpg.Record]", statement: str
) -> None:
    """Else two of them could wait for each other, and PostgreSQL would end one."""
    assets = [AssetId(UUID(int=number)) for number in range(1, 10)]
    for asset in reversed(assets):  # so that they lie in another order than theirs
        await store.request_trash(OWNER, [asset])
    events = """insert into immich_dbsync_v1.events (owner_id, asset_id, kind)
                select $1, unnest($2::uuid[]), 'restored' returning id"""
    ids = [row["id"] for row in await pool.fetch(events, OWNER, assets[::-1])]
    work: dict[str, Callable[[], Coroutine[None, None, None]]] = {
        "add": lambda: store.request_trash(OWNER, assets[::-1]),
        "end": lambda: store.end_requests(OWNER, assets[::-1]),
        "clean": lambda: store.clean_requests(OWNER, ()),
        "restored": lambda: store.restored(OWNER, ids),
    }
    holder, other = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            lock = "select from immich_dbsync_v1.trash_requests where asset_id = $1 for update"
            await holder.execute(lock, assets[4])
            waiting = asyncio.create_task(work[statement]())

            async def waits() -> bool:
                return bool(await other.fetchval("select count(*) from pg_locks where not granted"))

            await until(waits)
            free = "select asset_id from immich_dbsync_v1.trash_requests order by 1 for update skip locked"
            assert [row["asset_id"] for row in await other.fetch(free)] == assets[5:]
        await waiting
    finally:
        await holder.close()
        await other.close()
