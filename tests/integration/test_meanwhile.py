"""What happens on one side while our own request is under way."""

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import xxhash

from immich_dbsync.immich import api
from immich_dbsync.model import AssetId, Content, Direction, RelPath, Sha1, Xxh3
from immich_dbsync.service import take_back
from immich_dbsync.service.observe import Seen
from immich_dbsync.store.records import Sent
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)
SENT = Sent(
    RelPath(b"a.png"),
    Content(Sha1(hashlib.sha1(ONE, usedforsecurity=False).digest()), Xxh3(xxhash.xxh3_128_digest(ONE))),
    len(ONE),
)


@dataclass
class Delayed:
    """Requests to trash that wait after they were decided on, until they may go, and then with their answers."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_go: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)


def delay_trashing(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> Delayed:
    server, delayed = sync.owner().server, Delayed()
    trash = server.trash

    async def later(key: Any, ids: Sequence[AssetId]) -> None:
        delayed.begun.set()
        await delayed.may_go.wait()
        await trash(key, ids)
        await delayed.may_end.wait()

    monkeypatch.setattr(server, "trash", later)
    return delayed


async def assert_a_copy_brings_it_back(sync: Harness, trashing: Delayed) -> None:
    """A copy comes after it was decided to trash its asset, and before that is done."""
    await trashing.begun.wait()
    sync.put("copy.png", ONE)
    await sync.tied("copy.png")
    trashing.may_go.set()
    await sync.becomes(ONE, "trashed")

    async def heard() -> bool:
        return not await sync.connection.fetchval("select count(*) from immich_dbsync_v1.events")

    await until(heard)  # and taken for the echo of our own request
    trashing.may_end.set()

    async def restored() -> bool:
        return "restore" in await sync.deeds()

    await until(restored)
    await sync.idle()
    assert await sync.status(ONE) == "active"
    assert await sync.tied("copy.png") == await sync.asset(ONE)
    assert sync.files()["copy.png"] == ONE


async def test_a_copy_that_comes_while_its_asset_is_trashed_brings_it_back(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    trashing = delay_trashing(sync, monkeypatch)
    sync.path("a.png").unlink()
    await assert_a_copy_brings_it_back(sync, trashing)


async def test_a_copy_of_what_was_edited_brings_the_old_asset_back(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    trashing = delay_trashing(sync, monkeypatch)
    sync.put("a.png", TWO)
    await assert_a_copy_brings_it_back(sync, trashing)


async def test_a_copy_of_what_is_taken_back_brings_it_back(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sync.put("a.png", TWO)
    await sync.start()
    asset = AssetId(await sync.upload(ONE))
    trashing = delay_trashing(sync, monkeypatch)
    taking_back = asyncio.create_task(take_back._trash(sync.owner(), {asset: SENT}))
    await assert_a_copy_brings_it_back(sync, trashing)
    await taking_back


async def test_a_look_that_began_before_a_restore_does_not_end_the_record_of_what_it_brought_back(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    owner = sync.owner()
    look, restore, tie = owner.parts.observer.look, owner.server.restore, owner.dispatch.hands.tie
    look_at_events = owner.look_at_events
    asking, looked, tied = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_look(*arguments: Any, **options: Any) -> Seen:
        seen = await look(*arguments, **options)
        if asking.is_set() and not looked.is_set():  # what it saw is old before it is acted on
            looked.set()

            async def tied_or_waits() -> bool:
                return tied.is_set() or bool(owner._lock._waiters)

            await until(tied_or_waits)
        return seen

    async def late_restore(key: Any, ids: Sequence[AssetId]) -> Any:
        sync.path("a.png").unlink()
        asking.set()
        owner.hint([RelPath(b"a.png")])
        await looked.wait()
        return await restore(key, ids)

    async def told_tie(*arguments: Any) -> None:
        await tie(*arguments)
        tied.set()

    async def late_events(*arguments: Any) -> Any:
        if asking.is_set():  # else it would be this that waits for the look
            await tied.wait()
        return await look_at_events(*arguments)

    monkeypatch.setattr(owner, "look_at_events", late_events)
    monkeypatch.setattr(owner.parts.observer, "look", slow_look)
    monkeypatch.setattr(owner.server, "restore", late_restore)
    monkeypatch.setattr(owner.dispatch.hands, "tie", told_tie)
    sync.put("a.png", ONE)
    await tied.wait()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.files() == {}


async def edit_to_what_is_then_deleted(sync: Harness) -> None:
    """While the service does not run, a file becomes another picture, which is deleted in Immich after that."""
    sync.put("a.png", ONE)
    await sync.start()
    await sync.stop()
    sync.put("a.png", TWO)
    await sync.trash(await sync.upload(TWO))


async def test_row_09_to_a_picture_that_was_deleted_in_immich_since_is_taken_out_and_the_old_one_trashed(
    sync: Harness,
) -> None:
    await edit_to_what_is_then_deleted(sync)
    await sync.start()
    await sync.gone("a.png")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.quarantined() == [TWO]
    assert await sync.status(TWO) == "trashed"
    assert await sync.records() == {}
    await sync.restore(await sync.asset(TWO))
    await sync.there("a.png", TWO)
    await sync.restore(await sync.asset(ONE))
    await sync.rescan()
    assert sync.files() == {"a.png": TWO}


async def test_row_09_to_a_picture_that_was_deleted_in_immich_since_waits_for_a_person_while_the_trash_is_off(
    sync: Harness,
) -> None:
    await edit_to_what_is_then_deleted(sync)
    await sync.set_trash(enabled=False)
    await sync.start()
    hold = await sync.held(1)
    assert hold.direction is Direction.FOLDER
    await sync.restart()  # nothing is known but what is recorded
    assert await sync.holds() == [hold]
    assert sync.files() == {"a.png": TWO}
    assert await sync.tied("a.png") == await sync.asset(ONE)
    await sync.set_trash(enabled=True)
    await sync.approve(hold)
    await sync.becomes(ONE, "trashed")
    await sync.gone("a.png")
    await sync.idle()
    assert sync.quarantined() == [TWO]


async def test_row_09_restores_nothing_that_was_deleted_in_immich_since_that_was_decided(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    other = await sync.upload(TWO)
    library = sync.owner().library
    assets = library.assets
    asked, may_go = asyncio.Event(), asyncio.Event()

    async def later(*arguments: Any) -> Any:
        asked.set()
        await may_go.wait()
        return await assets(*arguments)

    monkeypatch.setattr(library, "assets", later)
    sync.put("a.png", TWO)
    await asked.wait()
    await sync.trash(other)
    may_go.set()
    await sync.gone("a.png")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.quarantined() == [TWO]
    assert await sync.status(TWO) == "trashed"
    assert ("POST", "/api/trash/restore/assets") not in sync.requests


async def test_row_09_takes_out_no_other_file_of_a_picture_that_it_brings_back(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which a look would have done that comes after the edit was decided, and before its request."""
    sync.put("a.png", ONE)
    sync.put("c.png", TWO)
    await sync.start()
    other, owner = await sync.asset(TWO), sync.owner()
    look, restore = owner.look, owner.server.restore

    async def not_yet(paths: Collection[RelPath] = (), assets: Collection[AssetId] = (), entries: Any = ()) -> Any:
        seen = await look([p for p in paths if p != b"c.png"], [a for a in assets if a != other], entries)
        return seen | {a for a in assets if a == other}

    async def restoring(*arguments: Any) -> None:
        await look([RelPath(b"c.png")])
        await restore(*arguments)
        monkeypatch.setattr(owner, "look", look)

    monkeypatch.setattr(owner, "_alone", lambda _: None)  # events come by `look`
    monkeypatch.setattr(owner, "look", not_yet)
    monkeypatch.setattr(owner.server, "restore", restoring)
    await sync.trash(other)
    sync.put("a.png", TWO)
    await sync.becomes(TWO, "active")
    await sync.becomes(ONE, "trashed")
    await sync.rescan()
    assert sync.files() == {"a.png": TWO, "c.png": TWO}
    assert set((await sync.records()).values()) == {other}
    assert "quarantine" not in await sync.deeds()


async def test_row_09_tried_again_does_not_restore_what_was_deleted_in_immich_since(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    server = sync.owner().server

    asked, may_fail = asyncio.Event(), asyncio.Event()

    async def fails(*_: object) -> None:
        asked.set()
        await may_fail.wait()
        monkeypatch.undo()
        raise api.Unavailable("no answer")

    monkeypatch.setattr(server, "copy", fails)
    sync.put("a.png", TWO)
    await asked.wait()
    await sync.trash(await sync.asset(TWO))
    may_fail.set()
    await sync.gone("a.png")
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.quarantined() == [TWO]
    assert await sync.status(TWO) == "trashed"
    assert "restore" not in await sync.deeds()
    assert ("POST", "/api/trash/restore/assets") not in sync.requests
