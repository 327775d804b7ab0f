"""Deletions that wait for a person: when they do, what goes on meanwhile, and what is decided of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from immich_dbsync.core.actions import Why
from immich_dbsync.core.guards import Limits
from immich_dbsync.model import Decision, Direction, OwnerId, Policy, RelPath
from immich_dbsync.service import drain, owner, rounds, rules, workers
from immich_dbsync.service.observe import Observer, Seen
from immich_dbsync.service.rounds import catch_up
from immich_dbsync.service.scan import differences
from immich_dbsync.store.holds import Holds
from immich_dbsync.store.records import Store
from tests.integration.harness import Harness, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")
RESTORE = ("POST", "/api/trash/restore/assets")


def tiny(number: int) -> bytes:
    return b"picture %d" % number


def name(number: int) -> str:
    return f"{number:02}.png"


def put(sync: Harness, count: int, folder: str = "", first: int = 0) -> None:
    for number in range(first, first + count):
        sync.put(folder + name(number), tiny(number))


def remove(sync: Harness, numbers: Iterable[int], folder: str = "") -> None:
    for number in numbers:
        sync.path(folder + name(number)).unlink()


async def trash(sync: Harness, numbers: Iterable[int]) -> None:
    """All in one request, as when a person selected them."""
    await sync.trash(*[await sync.asset(tiny(number)) for number in numbers])


async def statuses(sync: Harness, count: int) -> list[str | None]:
    return [await sync.status(tiny(number)) for number in range(count)]


async def trashed(sync: Harness, count: int) -> list[int]:
    return [number for number, status in enumerate(await statuses(sync, count)) if status == "trashed"]


async def released(sync: Harness) -> None:
    """Return when nothing waits for a person any more."""

    async def over() -> bool:
        return not await sync.holds()

    await until(over)
    await sync.idle()


def a_minute_later(sync: Harness) -> None:
    """What was deleted so far belongs to no pass of deletions any more."""
    sync.owner().guard._clock = lambda: time.monotonic() + 61


# --- how much is too much, from the folder ---


@pytest.mark.parametrize(("minimum", "fraction", "running"), [(5, 0.0, True), (4, 0.5, True), (4, 0.5, False)])
async def test_just_at_a_limit_nobody_is_asked(sync: Harness, minimum: int, fraction: float, *, running: bool) -> None:
    sync.change(hold_min=minimum, hold_fraction=fraction)
    put(sync, 10)
    await sync.start()
    if not running:
        await sync.stop()
    remove(sync, range(5))
    if not running:
        await sync.start()
    for number in range(5):
        await sync.becomes(tiny(number), "trashed")
    await sync.idle()
    assert await sync.holds() == []


@pytest.mark.parametrize("running", [True, False])
async def test_beyond_both_limits_nothing_of_the_pass_is_carried_out(sync: Harness, *, running: bool) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 10)
    await sync.start()
    if not running:
        await sync.stop()
    remove(sync, range(5))
    if not running:
        await sync.start()
    hold = await sync.held(5)
    assert (hold.direction, hold.reason) == (Direction.FOLDER, Why.TOO_MANY.value)
    await sync.rescan()
    assert await trashed(sync, 10) == []
    assert TRASH not in sync.requests


async def test_however_many_are_held_back_few_are_looked_at_together(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else's sync goes on while a look is decided."""
    put(sync, 40)
    await sync.start()
    many: list[int] = []
    look = Observer.look

    async def counted(observer: Observer, paths: Collection[RelPath] = (), *what: Any, **how: Any) -> Seen:
        many.append(len(paths))
        return await look(observer, paths, *what, **how)

    monkeypatch.setattr(Observer, "look", counted)
    for module, constant in ((owner, "LOOK"), (rounds, "BATCH"), (workers, "_REQUEST_PATHS")):
        monkeypatch.setattr(module, constant, 9)
    remove(sync, range(30))
    await sync.held(30)
    await sync.idle()
    assert max(many) == 9


async def test_a_pass_is_whole_before_any_of_it_is_carried_out(sync: Harness) -> None:
    sync.change(hold_min=3, hold_fraction=0.0)
    put(sync, 10)
    await sync.start()
    remove(sync, [0])

    async def noticed() -> bool:
        return bool(sync.owner().known.gone_since)

    await until(noticed)
    remove(sync, range(1, 5))
    sync.owner().hint([RelPath(name(number).encode()) for number in range(1, 5)])  # as the watch will, a moment later
    await sync.held(5)
    await sync.idle()
    assert await trashed(sync, 10) == []


async def test_deletions_of_a_minute_count_together(sync: Harness) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 10)
    await sync.start()
    remove(sync, range(3))
    for number in range(3):
        await sync.becomes(tiny(number), "trashed")
    await sync.idle()
    remove(sync, range(3, 5))
    await sync.held(2)
    await sync.restart()  # what the instance before it did counts too
    remove(sync, range(5, 7))
    await sync.held(4)
    await sync.idle()
    assert await trashed(sync, 10) == [0, 1, 2]


async def test_a_minute_later_they_are_counted_anew(sync: Harness) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 10)
    await sync.start()
    remove(sync, range(4))
    await sync.becomes(tiny(3), "trashed")
    await sync.idle()
    a_minute_later(sync)
    remove(sync, range(4, 8))
    await sync.becomes(tiny(7), "trashed")
    await sync.idle()
    assert await trashed(sync, 10) == list(range(8))
    assert await sync.holds() == []


# --- a folder that is emptied ---


@pytest.mark.parametrize("running", [True, False])
async def test_a_folder_with_ten_files_is_not_emptied_at_once(sync: Harness, *, running: bool) -> None:
    put(sync, 5, "Camera/2025/")
    put(sync, 5, "Camera/2026/", first=5)
    put(sync, 9, "Nine/", first=10)
    put(sync, 1, first=19)
    await sync.start()
    if not running:
        await sync.stop()
    remove(sync, range(5), "Camera/2025/")
    remove(sync, range(5, 10), "Camera/2026/")
    if not running:
        await sync.start()
    hold = await sync.held(10)
    assert (hold.direction, hold.reason) == (Direction.FOLDER, Why.EMPTIED.value)
    await sync.idle()
    assert await trashed(sync, 20) == []
    a_minute_later(sync)
    remove(sync, range(10, 19), "Nine/")
    await sync.becomes(tiny(18), "trashed")
    await sync.idle()
    assert await trashed(sync, 20) == list(range(10, 19))


async def test_a_folder_that_keeps_a_file_is_not_emptied(sync: Harness) -> None:
    put(sync, 11, "Camera/")
    await sync.start()
    remove(sync, range(10), "Camera/")
    await sync.becomes(tiny(9), "trashed")
    await sync.idle()
    assert await trashed(sync, 11) == list(range(10))


# --- how much is too much, from Immich ---


@pytest.mark.parametrize(("minimum", "fraction", "running"), [(5, 0.0, True), (4, 0.5, True), (4, 0.5, False)])
async def test_just_at_a_limit_what_immich_deleted_goes(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, minimum: int, fraction: float, *, running: bool
) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(minimum, fraction))
    put(sync, 10)
    await sync.start()
    if not running:
        await sync.stop()
    await trash(sync, range(5))
    if not running:
        await sync.start()
    for number in range(5):
        await sync.gone(name(number))
    await sync.idle()
    assert await sync.holds() == []


@pytest.mark.parametrize("how", ["running", "a page at a time", "stopped", "for good", "one by one"])
async def test_so_much_deleted_in_immich_waits(sync: Harness, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    # Files are looked at so many at once, but judged as a whole.
    monkeypatch.setattr(owner, "LOOK", 4)
    monkeypatch.setattr(rounds, "BATCH", 4)
    if how == "a page at a time":  # and each page for itself were few
        monkeypatch.setattr(drain, "_ROWS", 3)
    put(sync, 10)
    await sync.start()
    carried_out = 0
    if how == "one by one":
        await trash(sync, range(3))
        await sync.gone(name(2))
        await trash(sync, range(3, 5))
        await sync.gone(name(4))
        await sync.idle()
        carried_out = 5
    if how in {"stopped", "for good"}:
        await sync.stop()
    await trash(sync, range(carried_out, 6))
    if how == "for good":
        await sync.empty_trash()
    if how in {"stopped", "for good"}:
        await sync.start()
    hold = await sync.held(6 - carried_out)
    assert (hold.direction, hold.reason) == (Direction.IMMICH, Why.TOO_MANY.value)
    await sync.idle()
    await sync.rescan()
    assert sorted(sync.files()) == [name(number) for number in range(carried_out, 10)]


@pytest.mark.parametrize("late", [False, True])
async def test_what_takes_many_pages_to_tell_of_is_counted_once_and_what_comes_meanwhile_again(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """Also where the numbers of what comes are lower: its transaction began before the others, and ends after them."""
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    monkeypatch.setattr(drain, "_ROWS", 3)
    put(sync, 24)
    await sync.start()
    others = [await sync.asset(tiny(number)) for number in range(9, 15)]
    connection = await asyncpg.connect(sync.stage.database_url)
    transaction = connection.transaction()
    await transaction.start()
    statement = """update asset set status = 'trashed', "deletedAt" = now() where id = any($1::uuid[])"""
    await connection.execute(statement, others)
    counted: list[int] = []
    lost_by_events = Holds.lost_by_events

    async def lost(holds: Holds, owner: OwnerId) -> tuple[int, frozenset[int]]:
        found = await lost_by_events(holds, owner)
        counted.append(found[0])
        if late and len(counted) == 1:
            await transaction.commit()
        return found

    monkeypatch.setattr(Holds, "lost_by_events", lost)
    await trash(sync, range(9))
    if late:  # with the page that was seen to before, these are more than half
        hold = await sync.held(6 + 6)
        assert (hold.direction, hold.reason) == (Direction.IMMICH, Why.TOO_MANY.value)
    await sync.idle()
    assert counted == ([9, 6 + 6] if late else [9])
    assert len(sync.files()) == (24 - 3 if late else 24 - 9)
    if not late:
        await transaction.rollback()
    await connection.close()


async def test_so_much_that_was_trashed_before_it_was_seen_waits(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are identified one by one; what was trashed before is judged as a whole nevertheless."""
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    put(sync, 2)
    await sync.start()
    await sync.stop()
    put(sync, 6, first=2)
    for number in range(2, 8):
        await sync.trash(await sync.upload(tiny(number)))
    await sync.start()
    hold = await sync.held(6)
    assert (hold.direction, hold.reason) == (Direction.IMMICH, Why.TOO_MANY.value)
    await sync.rescan()
    assert sorted(sync.files()) == [name(number) for number in range(8)]
    await sync.approve(hold)
    await released(sync)
    assert sorted(sync.files()) == [name(0), name(1)]


async def test_what_left_while_it_was_sent_waits_as_well(sync: Harness) -> None:
    """Its answers were lost, so no record was tied when the files went; the assets are there."""
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 2)
    await sync.start()
    sync.immich.faults.lose_answer_next = 100
    sync.immich.faults.delay_s = 0.3
    put(sync, 6, first=2)

    async def stored() -> bool:
        return await statuses(sync, 8) == ["active"] * 8

    await until(stored)
    remove(sync, range(2, 8))
    sync.immich.faults.lose_answer_next = 0
    await sync.held(6)
    assert await trashed(sync, 8) == []
    assert TRASH not in sync.requests


# --- while a hold waits ---


async def test_a_hold_survives_restarts_and_new_deletions_go_on_beside_it(sync: Harness) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 12)
    await sync.start()
    remove(sync, range(5))
    hold = await sync.held(5)
    remove(sync, [5])  # within the minute it belongs to the same pass
    await sync.held(6)
    a_minute_later(sync)
    remove(sync, [6])
    await sync.becomes(tiny(6), "trashed")
    await trash(sync, [7])
    await sync.gone(name(7))
    await sync.restart()
    remove(sync, [8])
    await sync.becomes(tiny(8), "trashed")
    await sync.idle()
    assert (await sync.held(6)).id == hold.id
    assert await trashed(sync, 12) == [6, 7, 8]
    await sync.approve(hold)
    await released(sync)
    assert await trashed(sync, 12) == list(range(9))


async def test_a_hold_of_immichs_deletions_survives_restarts_and_new_deletions_go_on_beside_it(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    put(sync, 10)
    await sync.start()
    await trash(sync, range(6))
    hold = await sync.held(6)
    a_minute_later(sync)
    await trash(sync, [6])
    await sync.gone(name(6))
    remove(sync, [7])
    await sync.becomes(tiny(7), "trashed")
    await sync.restart()
    await sync.rescan()
    assert (await sync.held(6)).id == hold.id
    assert sorted(sync.files()) == [name(number) for number in (0, 1, 2, 3, 4, 5, 8, 9)]
    await sync.approve(hold)
    await released(sync)
    assert sorted(sync.files()) == [name(8), name(9)]
    assert sync.quarantined() == [tiny(number) for number in range(7)]


# --- what is decided ---


@pytest.mark.parametrize("running", [True, False])
async def test_an_approved_hold_is_decided_anew_against_the_present(sync: Harness, *, running: bool) -> None:
    sync.change(hold_min=4, hold_fraction=0.4, protect=frozenset({"favourites"}))
    put(sync, 10)
    await sync.start()
    remove(sync, range(6))
    hold = await sync.held(6)
    await sync.idle()
    if not running:
        await sync.stop()
    sync.put(name(1), tiny(1))  # it came back
    sync.put("Camera/copy.png", tiny(2))  # a copy appeared
    favourite = await sync.asset(tiny(3))
    await sync.connection.execute('update asset set "isFavorite" = true where id = $1', favourite)
    await trash(sync, [4])  # done by hand
    await sync.trash(await sync.asset(tiny(5)), force=True)
    await sync.immich.idle()
    await sync.approve(hold)
    if not running:
        await sync.start()
    await released(sync)
    assert await statuses(sync, 7) == ["trashed", "active", "active", "active", "trashed", None, "active"]
    assert sync.requests.count(TRASH) == 3  # two in the web
    assert sorted(await sync.records()) == [
        *(name(number).encode() for number in (1, 6, 7, 8, 9)),
        b"Camera/copy.png",
    ]
    await sync.rescan()
    assert len(sync.files()) == 6


@pytest.mark.parametrize("running", [True, False])
async def test_an_approved_hold_of_immichs_deletions_is_decided_anew_against_the_present(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, *, running: bool
) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    put(sync, 8)
    await sync.start()
    await trash(sync, range(6))
    hold = await sync.held(6)
    await sync.idle()
    if not running:
        await sync.stop()
    await sync.restore(await sync.asset(tiny(1)))
    sync.put(name(2), tiny(22))  # edited
    remove(sync, [3])
    sync.path(name(4)).rename(sync.path("renamed.png"))
    if running:
        await sync.idle()
    await sync.approve(hold)
    if not running:
        await sync.start()
    await released(sync)
    await sync.tied(name(2))
    await sync.rescan()
    assert sync.files() == {name(1): tiny(1), name(2): tiny(22), name(6): tiny(6), name(7): tiny(7)}
    assert sync.quarantined() == [tiny(0), tiny(4), tiny(5)]
    assert await statuses(sync, 6) == ["trashed", "active", "trashed", "trashed", "trashed", "trashed"]
    assert await sync.status(tiny(22)) == "active"


async def test_a_rejected_hold_keeps_the_assets_and_ends_the_records(sync: Harness) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 10)
    await sync.start()
    remove(sync, range(5))
    await sync.reject(await sync.held(5))
    await released(sync)
    await sync.restart()
    await sync.rescan()
    assert await trashed(sync, 10) == []
    assert sorted(await sync.records()) == [name(number).encode() for number in range(5, 10)]
    assert TRASH not in sync.requests
    assert await sync.deeds("release") == ["release"] * 5


@pytest.mark.parametrize("for_good", [False, True])
async def test_a_rejected_hold_of_immichs_deletions_brings_the_assets_back(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, *, for_good: bool
) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    put(sync, 8)
    await sync.start()
    await trash(sync, range(6))
    hold = await sync.held(6)
    if for_good:
        await sync.empty_trash()
    await sync.reject(hold)
    for number in range(6):
        await sync.becomes(tiny(number), "active")
    await released(sync)
    await sync.restart()
    await sync.rescan()
    assert set(await statuses(sync, 8)) == {"active"}
    assert len(sync.files()) == 8
    assert sync.quarantined() == []
    assert sync.requests.count(RESTORE) == (0 if for_good else 1)
    assert sync.requests.count(UPLOAD) == (14 if for_good else 8)
    assert await sync.records() == {name(number).encode(): await sync.asset(tiny(number)) for number in range(8)}


async def test_a_hold_is_decided_once(sync: Harness) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 10)
    await sync.start()
    remove(sync, range(5))
    hold = await sync.held(5)
    await sync.approve(hold)
    holds = Holds(sync.connection)
    assert await holds.decide(hold.id, Decision.APPROVED) is None
    assert await holds.decide(hold.id, Decision.REJECTED) is None
    await released(sync)
    assert await holds.decide(hold.id, Decision.APPROVED) is None
    assert await trashed(sync, 10) == list(range(5))
    assert sync.requests.count(TRASH) == 1


async def test_approving_a_hold_approves_nothing_that_came_later(sync: Harness) -> None:
    sync.change(hold_min=4, hold_fraction=0.4)
    put(sync, 20)
    await sync.start()
    remove(sync, range(9))
    hold = await sync.held(9)
    await sync.approve(hold)
    await released(sync)
    remove(sync, range(9, 18))
    later = await sync.held(9)
    assert later.id != hold.id
    await sync.idle()
    assert await trashed(sync, 20) == list(range(9))


# --- files on hold that change ---


async def test_a_file_on_hold_that_is_renamed_stays_on_hold(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(1, 0.0))
    put(sync, 3)
    await sync.start()
    await trash(sync, range(2))
    hold = await sync.held(2)
    sync.path("Camera").mkdir()
    sync.path(name(0)).rename(sync.path("Camera/renamed.png"))

    async def followed() -> bool:
        return b"Camera/renamed.png" in {file.path for file in await Holds(sync.connection).files(hold.id, 9)}

    await until(followed)
    await sync.idle()
    await sync.rescan()
    await sync.held(2)
    assert sync.files() == {"Camera/renamed.png": tiny(0), name(1): tiny(1), name(2): tiny(2)}
    assert RESTORE not in sync.requests
    await sync.approve(hold)
    await released(sync)
    assert sync.files() == {name(2): tiny(2)}


async def test_a_file_on_hold_that_is_edited_is_uploaded(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(1, 0.0))
    put(sync, 3)
    await sync.start()
    await trash(sync, range(2))
    hold = await sync.held(2)
    sync.put(name(0), tiny(20))
    await sync.becomes(tiny(20), "active")
    await sync.held(1)
    await sync.approve(hold)
    await released(sync)
    assert sync.files() == {name(0): tiny(20), name(2): tiny(2)}
    assert await statuses(sync, 3) == ["trashed", "trashed", "active"]


async def test_what_a_file_on_hold_was_edited_to_is_not_on_hold(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(1, 0.0))
    put(sync, 3)
    await sync.start()
    await trash(sync, range(2))
    await sync.held(2)
    await sync.stop()
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(9, 0.0))
    sync.put(name(0), tiny(20))
    await sync.upload(tiny(20))
    await sync.trash(await sync.asset(tiny(20)))
    await sync.start()
    await sync.gone(name(0))
    assert sync.quarantined() == [tiny(20)]
    await sync.held(1)
    assert sync.files() == {name(1): tiny(1), name(2): tiny(2)}


async def test_a_missing_file_on_hold_that_turns_up_elsewhere_was_moved(sync: Harness) -> None:
    sync.change(hold_min=1, hold_fraction=0.0)
    put(sync, 3)
    await sync.start()
    asset = await sync.asset(tiny(0))
    aside = sync.stage.home / "aside.png"
    sync.path(name(0)).rename(aside)
    remove(sync, [1])
    await sync.held(2)
    aside.rename(sync.path("moved.png"))
    assert await sync.tied("moved.png") == asset
    await sync.held(1)
    assert TRASH not in sync.requests
    assert sync.requests.count(UPLOAD) == 3


@pytest.mark.parametrize("approved", [True, False])
async def test_a_deleted_picture_at_a_path_that_is_on_hold_goes_when_that_is_decided(
    sync: Harness, *, approved: bool
) -> None:
    """Till then the path's record is of what was there, whose deletion a person is asked about."""
    sync.change(hold_min=1, hold_fraction=0.0)
    put(sync, 3)
    await sync.start()
    remove(sync, range(2))
    hold = await sync.held(2)
    await sync.stop()
    sync.put(name(0), tiny(20))
    await sync.upload(tiny(20))
    await sync.trash(await sync.asset(tiny(20)))
    await sync.start()
    await sync.idle()
    await sync.held(2)
    assert sync.files() == {name(0): tiny(20), name(2): tiny(2)}
    await (sync.approve if approved else sync.reject)(hold)
    await sync.gone(name(0))
    assert sync.quarantined() == [tiny(20)]
    assert await statuses(sync, 3) == [*["trashed" if approved else "active"] * 2, "active"]


# --- holds that end by themselves ---


async def closed(sync: Harness, hold: int) -> bool:
    ended = await sync.connection.fetchval("select closed_at from immich_dbsync_v1.holds where id = $1", hold)
    return ended is not None


async def test_a_hold_ends_when_all_its_files_came_back(sync: Harness) -> None:
    sync.change(hold_min=1, hold_fraction=0.0)
    put(sync, 3)
    await sync.start()
    aside = sync.stage.home / "aside"
    aside.mkdir()
    for number in range(2):
        sync.path(name(number)).rename(aside / name(number))
    hold = await sync.held(2)
    for number in range(2):
        (aside / name(number)).rename(sync.path(name(number)))
    await released(sync)
    await sync.rescan()
    assert await closed(sync, hold.id)
    assert len(await sync.records()) == 3
    assert sync.requests == [UPLOAD] * 3


async def test_files_that_came_back_do_not_count_towards_the_next_deletion(sync: Harness) -> None:
    put(sync, 60)
    await sync.start()
    remove(sync, range(60))
    hold = await sync.held(60)
    put(sync, 60)
    await released(sync)
    remove(sync, [7])
    await sync.becomes(tiny(7), "trashed")
    await released(sync)
    assert hold.id not in [each.id for each in await sync.holds()]


async def test_a_hold_does_not_end_before_its_files_belong_to_it(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.change(hold_min=1, hold_fraction=0.0)
    put(sync, 3)
    await sync.start()
    begin, tasks = Holds.open, []

    async def then_a_scan_begins(
        self: Holds, owner: OwnerId, direction: Direction, reason: str, since: datetime
    ) -> int:
        number = await begin(self, owner, direction, reason, since)
        tasks.append(asyncio.create_task(catch_up(sync.owner())))
        await asyncio.wait(tasks, timeout=0.2)
        return number

    monkeypatch.setattr(Holds, "open", then_a_scan_begins)
    remove(sync, range(2))
    await sync.held(2)
    await asyncio.gather(*tasks)
    await sync.held(2)
    assert len(tasks) == 1


async def test_a_hold_ends_when_all_its_assets_were_restored(sync: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(1, 0.0))
    put(sync, 3)
    await sync.start()
    assets = [await sync.asset(tiny(number)) for number in range(2)]
    await sync.trash(*assets)
    hold = await sync.held(2)
    await sync.restore(*assets)
    await released(sync)
    await sync.rescan()
    assert await closed(sync, hold.id)
    assert len(sync.files()) == 3
    a_minute_later(sync)
    await sync.trash(assets[0])  # a deletion of its own
    await sync.gone(name(0))


async def test_a_hold_ends_when_the_settings_keep_all_of_it(sync: Harness) -> None:
    sync.change(hold_min=0, hold_fraction=0.0)
    put(sync, 2)
    await sync.start()
    remove(sync, [0])
    hold = await sync.held(1)
    await sync.stop()
    sync.change(policy=Policy.ARCHIVE)
    await sync.start()
    await released(sync)
    await sync.rescan()
    assert await closed(sync, hold.id)
    assert await trashed(sync, 2) == []


# --- first sight, and Immich's trash ---


@pytest.mark.parametrize("approved", [True, False])
async def test_what_was_trashed_before_the_first_sight_is_for_a_person(sync: Harness, *, approved: bool) -> None:
    put(sync, 3)
    for number in range(3):
        await sync.upload(tiny(number))
    await trash(sync, range(2))
    await sync.start()
    hold = await sync.held(2)
    assert (hold.direction, hold.reason) == (Direction.IMMICH, Why.FIRST_SIGHT.value)
    assert [file.path for file in await Holds(sync.connection).files(hold.id, 9)] == [b"00.png", b"01.png"]
    await trash(sync, [2])  # known by now
    await sync.gone(name(2))
    if approved:
        await sync.approve(hold)
    else:
        await sync.reject(hold)
    await released(sync)
    assert sorted(sync.files()) == ([] if approved else [name(0), name(1)])
    assert await statuses(sync, 3) == [*(["trashed"] if approved else ["active"]) * 2, "trashed"]


async def test_while_immichs_trash_is_off_a_deletion_waits(sync: Harness) -> None:
    put(sync, 4)
    await sync.set_trash(enabled=False)
    await sync.start()
    remove(sync, [0])
    hold = await sync.held(1)
    assert (hold.direction, hold.reason) == (Direction.FOLDER, Why.TRASH_OFF.value)
    sync.put(name(1), tiny(11))  # edited: the old asset stays
    await sync.becomes(tiny(11), "active")
    await sync.idle()
    assert await trashed(sync, 4) == []
    await sync.set_trash(enabled=True)
    await sync.rescan()
    await sync.held(1)  # still for a person to say
    remove(sync, [2])
    await sync.becomes(tiny(2), "trashed")
    await sync.approve(hold)
    await sync.becomes(tiny(0), "trashed")
    await released(sync)
    assert await trashed(sync, 4) == [0, 2]


async def test_files_that_a_worker_has_in_hand_count_when_the_rest_is_judged(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest alone would be few, and would have gone before the others were looked at."""
    monkeypatch.setattr(rules, "FROM_IMMICH", Limits(4, 0.5))
    put(sync, 10)
    await sync.start()
    in_hand = [RelPath(name(number).encode()) for number in range(4)]
    sync.owner().queues.uploading.update(in_hand)
    await trash(sync, range(8))
    assert (await sync.held(8)).reason == Why.TOO_MANY.value
    assert len(sync.files()) == 10
    sync.owner().queues.uploading.difference_update(in_hand)


async def test_nothing_that_a_scan_finds_is_looked_at_before_what_was_lost_is_judged(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is asked beside the walk, and may take longer."""
    put(sync, 3)
    await sync.start()
    judged, walked, hints = asyncio.Event(), asyncio.Event(), list[list[RelPath]]()
    catch_up_paths, hint = Store.catch_up_paths, owner.OwnerSync.hint

    async def slow(*arguments: Any) -> list[RelPath]:
        await judged.wait()
        return await catch_up_paths(*arguments)

    async def told(*arguments: Any, **named: Any) -> AsyncIterator[RelPath]:
        async for path in differences(*arguments, **named):
            yield path
        walked.set()

    def noted(sync: owner.OwnerSync, paths: Iterable[RelPath], *, after: float = 0.0) -> None:
        hints.append([*paths])
        hint(sync, hints[-1], after=after)

    monkeypatch.setattr(Store, "catch_up_paths", slow)
    monkeypatch.setattr(rounds, "differences", told)
    monkeypatch.setattr(owner.OwnerSync, "hint", noted)
    sync.owner().scan()
    await walked.wait()
    await sync.connection.fetchval("select 1")  # a scan that did not wait would have gone on by now
    assert hints == []
    judged.set()

    async def hinted() -> bool:
        return hints != []

    await until(hinted)
