"""Sessions that end at any point: what the next one makes of it."""

import threading
from collections.abc import Sequence

import pytest

from immich_dbsync.disk.quarantine import QuarantineBatch, Quarantined
from immich_dbsync.disk.walk import Walk
from immich_dbsync.immich import api
from immich_dbsync.model import OwnerId, Record, RelPath, Stat, Xxh3
from immich_dbsync.store.records import Store
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")


class PowerCutError(Exception):
    """The end, at a chosen point."""


async def _power_cut(*arguments: object, **options: object) -> None:
    del arguments, options
    raise PowerCutError


async def _cut(sync: Harness) -> None:
    error = await sync.ended()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PowerCutError), repr(error)


@pytest.mark.parametrize("restored", [False, True])
async def test_after_the_rename_to_quarantine(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, *, restored: bool
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)

    monkeypatch.setattr(Store, "add_entries", _power_cut)
    await sync.trash(asset)
    await _cut(sync)
    monkeypatch.undo()
    assert sync.quarantined() == [ONE]
    assert list(await sync.records()) == [b"a.png"]
    if not restored:
        await sync.start()
        assert await sync.records() == {}
        assert await sync.status(ONE) == "trashed"
        await sync.restore(asset)
    else:
        await sync.restore(asset)
        await sync.start()
    await sync.there("a.png", ONE)
    await sync.idle()
    assert await sync.tied("a.png") == asset
    assert await sync.status(ONE) == "active"
    assert sync.requests.count(TRASH) == 1  # in the web


@pytest.mark.parametrize("renamed", [False, True])
async def test_after_201_before_the_record(sync: Harness, monkeypatch: pytest.MonkeyPatch, *, renamed: bool) -> None:
    monkeypatch.setattr(Store, "tie", _power_cut)
    sync.put("a.png", ONE)
    await sync.start(wait=False)
    await _cut(sync)
    monkeypatch.undo()
    name = "b.png" if renamed else "a.png"
    sync.path("a.png").rename(sync.path(name))
    await sync.start()
    assert await sync.tied(name) == await sync.asset(ONE)
    assert sync.requests == [UPLOAD]


async def test_after_the_trash_before_the_record_ends(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.put("a.png", ONE)
    await sync.start()

    monkeypatch.setattr(Store, "drop", _power_cut)
    sync.path("a.png").unlink()
    await _cut(sync)
    monkeypatch.undo()
    assert await sync.status(ONE) == "trashed"
    await sync.start()
    assert await sync.records() == {}
    assert sync.requests == [UPLOAD, TRASH]
    sync.put("a.png", ONE)
    await sync.becomes(ONE, "active")


@pytest.mark.parametrize("deleted", [False, True])
async def test_after_a_file_was_put_back_before_the_record(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, *, deleted: bool
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    upsert = Store.upsert

    async def cut(self: Store, owner: OwnerId, records: Sequence[Record], ended_entries: Sequence[int] = ()) -> None:
        if ended_entries:
            raise PowerCutError
        await upsert(self, owner, records, ended_entries)

    monkeypatch.setattr(Store, "upsert", cut)
    await sync.restore(asset)
    await _cut(sync)
    monkeypatch.undo()
    assert sync.files() == {"a.png": ONE}
    await sync.start()
    assert await sync.tied("a.png") == asset
    if deleted:
        sync.path("a.png").unlink()
        await sync.becomes(ONE, "trashed")
        await sync.idle()
        assert sync.files() == {}
        return
    await sync.trash(asset)
    await sync.gone("a.png")
    await sync.idle()
    await sync.restore(asset)
    await sync.there("a.png", ONE)


async def test_after_the_request_to_trash_was_noted(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.put("a.png", ONE)
    await sync.start()

    monkeypatch.setattr(api.Server, "trash", _power_cut)
    sync.path("a.png").unlink()
    await _cut(sync)
    monkeypatch.undo()
    sync.put("a.png", ONE)
    await sync.start()
    assert await sync.status(ONE) == "active"
    await sync.trash(await sync.asset(ONE))  # in the web, and now in earnest
    await sync.gone("a.png")
    await sync.idle()
    assert await sync.status(ONE) == "trashed"


async def test_a_session_that_ends_during_a_scan_ends_well(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.put("a.png", ONE)
    walking, go_on = threading.Event(), threading.Event()
    inner = Walk._list

    def slow_list(self: Walk, fd: int, prefix: bytes) -> list[bytes]:
        walking.set()
        go_on.wait(5)
        return inner(self, fd, prefix)

    monkeypatch.setattr(Walk, "_list", slow_list)
    await sync.start(wait=False)

    async def begun() -> bool:
        return walking.is_set()

    await until(begun)
    try:
        await sync.stop()
    finally:
        go_on.set()


async def test_a_removal_under_way_when_the_session_ends_is_known_to_the_next(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be cancelled: copying to another file system, or a digest, may take minutes."""
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.asset(ONE)
    taking, go_on, taken = threading.Event(), threading.Event(), threading.Event()
    take = QuarantineBatch.take
    source = QuarantineBatch._target

    def late(self: QuarantineBatch, folder: bytes) -> tuple[bytes, int]:
        found = source(self, folder)
        taking.set()
        go_on.wait(5)
        return found

    def noted(self: QuarantineBatch, path: RelPath, expected: Stat, xxh3: Xxh3) -> Quarantined:
        try:
            return take(self, path, expected, xxh3)
        finally:
            taken.set()

    monkeypatch.setattr(QuarantineBatch, "_target", late)
    monkeypatch.setattr(QuarantineBatch, "take", noted)
    await sync.trash(asset)

    async def begun() -> bool:
        return taking.is_set()

    async def ended() -> bool:
        return taken.is_set()

    await until(begun)
    threading.Timer(0.5, go_on.set).start()
    await sync.stop()
    await sync.start(wait=False)
    await until(ended)
    await sync.gone("a.png")
    await sync.recorded([])
    await sync.restore(asset)
    await sync.there("a.png", ONE)
    await sync.idle()
    assert await sync.status(ONE) == "active"
