"""A scan: folder and records as two streams, of which only the differences come out."""

import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from immich_dbsync.core.names import NameRules
from immich_dbsync.disk.root import Root
from immich_dbsync.model import Content, OwnerId, Record, RelPath, Sha1, Stat, Xxh3
from immich_dbsync.service import scan
from immich_dbsync.service.scan import Tally, differences
from immich_dbsync.store import install
from immich_dbsync.store.records import Listed, Store

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

OWNER = OwnerId(uuid4())
RULES = NameRules(frozenset({".jpg"}), frozenset({".xmp"}))
CONTENT = Content(Sha1(b"1" * 20), Xxh3(b"2" * 16))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    install.install(database_url)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        yield Store(pool)


def put(root: Path, path: str, content: bytes = b"x") -> RelPath:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return RelPath(path.encode())


async def compare(folder: Path, store: Store, prefix: bytes = b"") -> tuple[list[bytes], Tally]:
    tally = Tally()
    with Root(folder) as root:
        found = [p async for p in differences(root, RULES, store, OWNER, prefix=prefix, tally=tally)]
    return [bytes(path) for path in found], tally


async def remember(folder: Path, store: Store, paths: list[RelPath], *, racy: bool = False) -> None:
    with Root(folder) as root:
        stats = [(path, root.stat(path)) for path in paths]
    await store.upsert(OWNER, [Record(path, stat, CONTENT, None, racy) for path, stat in stats if stat is not None])


async def test_unchanged_tree_gives_nothing(tmp_path: Path, store: Store) -> None:
    paths = [put(tmp_path, f"{n % 3}/{n}.jpg") for n in range(50)]
    await remember(tmp_path, store, paths)
    found, tally = await compare(tmp_path, store)
    assert found == []
    assert (tally.files, tally.new, tally.changed, tally.gone) == (50, 0, 0, 0)


async def test_of_a_page_that_agrees_no_record_is_fetched(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "PAGE", 10)
    paths = sorted(put(tmp_path, f"{n:02}.jpg") for n in range(55))
    await remember(tmp_path, store, paths)
    fetched: list[bytes] = []

    async def counted(owner: OwnerId, after: bytes, before: bytes | None, limit: int) -> list[Listed]:
        fetched.append(after)
        return await Store.record_page(store, owner, after, before, limit)

    monkeypatch.setattr(store, "record_page", counted)
    assert (await compare(tmp_path, store))[0] == []
    assert fetched == [paths[49]]  # the last page: records may follow its files
    fetched.clear()
    await remember(tmp_path, store, [paths[33]], racy=True)
    assert (await compare(tmp_path, store))[0] == [paths[33]]
    assert fetched == [paths[29], paths[49]]


async def test_new_changed_gone_and_racy_come_in_byte_order(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "PAGE", 2)  # so that the streams turn their pages at different moments
    kept = [put(tmp_path, path) for path in ("a/1.jpg", "a-b.jpg", "a/2.jpg", "c.jpg", "d/e/f.jpg")]
    await remember(tmp_path, store, kept)
    await remember(tmp_path, store, [kept[4]], racy=True)
    (tmp_path / "a" / "1.jpg").unlink()
    put(tmp_path, "c.jpg", b"longer")
    put(tmp_path, "b.jpg")
    put(tmp_path, "note.txt")
    put(tmp_path, "empty.jpg", b"")
    put(tmp_path, ".trashed-IMG.jpg")
    found, tally = await compare(tmp_path, store)
    assert found == [b"a/1.jpg", b"b.jpg", b"c.jpg", b"d/e/f.jpg"]
    assert (tally.new, tally.changed, tally.gone) == (1, 2, 1)
    assert {reason.value: count for reason, count in tally.left_alone.items()} == {
        "not_media": 1,
        "empty": 1,
        "hidden": 1,
    }


async def test_prefix_looks_at_nothing_else(tmp_path: Path, store: Store) -> None:
    kept = [put(tmp_path, path) for path in ("a/1.jpg", "a0.jpg", "b/2.jpg")]
    await remember(tmp_path, store, kept)
    for path in ("a/1.jpg", "a0.jpg", "b/2.jpg"):
        (tmp_path / path).unlink()
    put(tmp_path, "b/3.jpg")
    assert (await compare(tmp_path, store, b"a"))[0] == [b"a/1.jpg"]


async def test_what_cannot_be_read_is_not_taken_for_gone(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [put(tmp_path, path) for path in ("a/1.jpg", "b/2.jpg")]
    await remember(tmp_path, store, kept)
    real = os.scandir

    def refuse(fd: int) -> object:
        if Path(f"/proc/self/fd/{fd}").readlink().name == "a":
            raise PermissionError(13, "Permission denied")
        return real(fd)

    monkeypatch.setattr(os, "scandir", refuse)
    found, tally = await compare(tmp_path, store)
    assert found == []
    assert tally.unreadable == 1


class Pages:
    """A store that knows nothing but its records."""

    def __init__(self, listed: list[Listed]) -> None:
        self.listed = listed

    async def record_page(self, _: OwnerId, after: bytes, before: bytes | None, limit: int) -> list[Listed]:
        page = [one for one in self.listed if one.path > after and (before is None or one.path < before)]
        return page[:limit]

    async def record_digest(self, owner: OwnerId, after: bytes, limit: int) -> bytes | None:
        page = await self.record_page(owner, after, None, limit)
        told = [b"%b\0" % one.path + b"".join(n.to_bytes(8) for n in dataclasses.astuple(one.stat)) for one in page]
        return hashlib.sha256(b"".join(told)).digest() if told else None


names = st.sampled_from(["a", "b", "a-", "a.", "a0", "B"])
trees = st.sets(st.builds("/".join, st.lists(names, min_size=1, max_size=3)), max_size=8)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(on_disk=trees, recorded=trees, page=st.integers(1, 4))
async def test_differences_are_those_of_the_two_sets(
    tmp_path_factory: pytest.TempPathFactory, on_disk: set[str], recorded: set[str], page: int
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    present = {path + ".jpg" for path in on_disk}
    known = {path + ".jpg" for path in recorded}
    for path in present:
        put(folder, path)
    with Root(folder) as root:
        stats = {path: root.stat(RelPath(path.encode())) for path in known}
        gone = Stat(1, 2, 3, 4)
        listed = [Listed(RelPath(path.encode()), stat or gone, racy=False) for path, stat in stats.items()]
        listed.sort(key=lambda one: one.path)
        tally = Tally()
        pages: object = Pages(listed)
        with patch.object(scan, "PAGE", page):
            found = [p async for p in differences(root, RULES, pages, OWNER, tally=tally)]  # type: ignore[arg-type]
    assert found == sorted(path.encode() for path in present ^ known)
