"""The service ends by SIGKILL at every point of every action, and is started again: nothing is lost, nothing is twice.

The points of an action are those that it passes when nothing is wrong (points.py), each before and after its call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.model import Decision, OwnerId
from immich_dbsync.store import install
from immich_dbsync.store.holds import BRING_BACK, DECIDED, PURGE, RESYNC, Holds
from tests.faults.parts import parts
from tests.faults.points import DISK, REQUESTS, statements
from tests.faults.report import Report
from tests.faults.rig import Rig, picture, rigged
from tests.waiting import until, within

pytestmark = [pytest.mark.newest, pytest.mark.timeout(600)]

_PASSES = 2  # a point that an action passes again and again is tried the first times
_TRIES = 3  # two files may be done with at once or one after the other, and a point passed once or twice


@dataclass(frozen=True)
class Action:
    """What is done, and how it is prepared. Both get the rig and names and contents of this time's files."""

    prepare: Callable[[Rig, dict[str, bytes]], Awaitable[None]]
    do: Callable[[Rig, dict[str, bytes]], Awaitable[None]]
    settings: dict[str, str]
    switch: str | None = None  # of the seam's kernel


async def nothing(rig: Rig, files: dict[str, bytes]) -> None:
    del rig, files


async def synced(rig: Rig, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        rig.put(name, content)
    rig.want(files)


async def upload(rig: Rig, files: dict[str, bytes]) -> None:
    await synced(rig, files)


async def in_the_library(rig: Rig, files: dict[str, bytes]) -> None:
    for content in files.values():
        await rig.upload(content)
    rig.want(active=files.values())
    # The service believes for a second what it read of the library's sizes, and sends what has a new one.
    await within(asyncio.Event(), 1.1)


async def delete(rig: Rig, files: dict[str, bytes]) -> None:
    for name in files:
        (rig.folder / name).unlink()
        del rig.wanted.files[name]
    rig.want(trashed=files.values())


async def trash(rig: Rig, files: dict[str, bytes]) -> None:
    await rig.trash(*files.values())
    for name in files:
        del rig.wanted.files[name]
    rig.want(trashed=files.values())


async def quarantined(rig: Rig, files: dict[str, bytes]) -> None:
    await synced(rig, files)
    await rig.agrees()
    await trash(rig, files)


async def restore(rig: Rig, files: dict[str, bytes]) -> None:
    await rig.restore(*files.values())
    rig.want(files)


async def deleted(rig: Rig, files: dict[str, bytes]) -> None:
    await synced(rig, files)
    await rig.agrees()
    await delete(rig, files)


async def bring_back(rig: Rig, files: dict[str, bytes]) -> None:
    await synced(rig, files)


async def edit(rig: Rig, files: dict[str, bytes]) -> None:
    rig.want(trashed=files.values())
    await synced(rig, {name: picture("edited") for name in files})


async def move(rig: Rig, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        new = rig.folder / "moved" / name
        new.parent.mkdir(parents=True, exist_ok=True)
        (rig.folder / name).rename(new)
        del rig.wanted.files[name]
        rig.want({f"moved/{name}": content})


async def gone_for_good(rig: Rig, files: dict[str, bytes]) -> None:
    await quarantined(rig, files)
    await rig.agrees()
    await rig.trash(*files.values(), force=True)
    rig.want(gone=files.values())
    await rig.stage.immich.idle()
    await rig.agrees()


async def gone_for_long(rig: Rig, files: dict[str, bytes]) -> None:
    await gone_for_good(rig, files)
    await rig.stage.connection.execute(
        "update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '99 days' where owner_id = $1",
        rig.stage.user,
    )


async def purge(rig: Rig, files: dict[str, bytes]) -> None:
    del files
    holds = Holds(rig.stage.connection)
    await holds.ask(OwnerId(rig.stage.user), RESYNC, {"prefix": "", "rehash": False})


async def entries(rig: Rig) -> list[int]:
    """The numbers of what is in quarantine."""
    rows = await rig.stage.connection.fetch("select id from immich_dbsync_v1.quarantine")
    return [row["id"] for row in rows]


async def put_back_by_hand(rig: Rig, files: dict[str, bytes]) -> None:
    await Holds(rig.stage.connection).ask(OwnerId(rig.stage.user), BRING_BACK, {"ids": await entries(rig)})
    rig.want(files)


async def purge_by_hand(rig: Rig, files: dict[str, bytes]) -> None:
    del files
    await Holds(rig.stage.connection).ask(OwnerId(rig.stage.user), PURGE, {"ids": await entries(rig)})


async def purged(rig: Rig) -> None:
    async def empty() -> bool:
        entries = await rig.stage.connection.fetchval("select count(*) from immich_dbsync_v1.quarantine")
        return not entries and not rig.quarantined()

    await until(empty)


async def held(rig: Rig, files: dict[str, bytes]) -> None:
    await synced(rig, files)
    await rig.agrees()
    await delete_too_many(rig, files)


async def no_hold_yet(rig: Rig, files: dict[str, bytes]) -> None:
    """So that a hold is opened: within a minute what is held belongs to the one before."""
    await synced(rig, files)
    await rig.stage.connection.execute("update immich_dbsync_v1.holds set created_at = created_at - interval '1 h'")


async def delete_too_many(rig: Rig, files: dict[str, bytes]) -> None:
    for name in files:
        (rig.folder / name).unlink()
        del rig.wanted.files[name]
    rig.wanted.held |= {*files}


async def approve(rig: Rig, files: dict[str, bytes]) -> None:
    holds = Holds(rig.stage.connection)
    owner = OwnerId(rig.stage.user)
    for hold in await holds.all(owner):
        await holds.decide(hold.id, Decision.APPROVED)
    await holds.ask(owner, DECIDED)
    rig.wanted.held -= {*files}
    rig.want(trashed=files.values())


ALL_HELD = {"hold_min": "1", "hold_fraction": "0"}
ACTIONS = {
    "upload": Action(nothing, upload, {}),
    "adopt": Action(in_the_library, synced, {}),
    "trash": Action(synced, delete, {}),
    "quarantine": Action(synced, trash, {}),
    "put back": Action(quarantined, restore, {}),
    "bring back": Action(deleted, bring_back, {}),
    "edit": Action(synced, edit, {}),
    "move": Action(synced, move, {}),
    "purge": Action(gone_for_long, purge, {}),
    "put back by hand": Action(quarantined, put_back_by_hand, {}),
    "purge by hand": Action(gone_for_good, purge_by_hand, {}),
    "hold": Action(no_hold_yet, delete_too_many, ALL_HELD),
    "approve": Action(held, approve, ALL_HELD),
    "quarantine by copy": Action(synced, trash, {}, "exdev"),
    "put back by copy": Action(quarantined, restore, {}, "exdev"),
}


PURGES = (ACTIONS["purge"], ACTIONS["purge by hand"])

# Points that none of these actions passes, and why that is no gap.
EXEMPT = {
    "holds.ask_add": "a command's, not the service's",
    "holds.hold_decide": "a command's, not the service's",
    "holds.ask_done": "what was not answered is asked still, and done again: it is a comparison",
    "holds.hold_lost_assets": "takes a hundred files; what it marks is judged anew by the catch-up of the next start",
    "store.damage_set": "the next reading of all files finds it again",
    "store.owner_forget": "a command's, not the service's, and one statement",
    "store.owner_pause": "a command's, not the service's, and one statement",
    "store.owner_resume": "a command's, not the service's, and one statement",
    "store.owner_problem": "only told to `status`, and anew at each start",
    "store.owner_summary": "only told",
    "store.owner_undecided": "only told to `status`, and anew at each start",
    "store.refusals_forget": "whoever asked for a resync and got no answer asks again",
    "store.send_end": "wants a file and an asset to come at the same moment; a row that is left is settled later",
    "link": "only where the file system has no RENAME_NOREPLACE",
}


async def test_every_point_is_passed_by_some_action(library_url: str, immich_version: ImmichVersion) -> None:
    """Else a crash there would not be tried: a new statement, request or disk call wants an action that uses it."""
    passed: set[str] = set()
    for action in ACTIONS.values():
        async with rigged(library_url, immich_version, **action.settings) as rig:
            if action.switch is not None:
                rig.switch(action.switch)
            await synced(rig, {"stays.jpg": picture("stays")})
            rig.start(with_points=True)
            await rig.scanned()
            files = {f"{letter}.jpg": picture(letter) for letter in "ab"}
            await action.prepare(rig, files)
            await rig.agrees()
            await action.do(rig, files)
            await rig.agrees()
            if action in PURGES:
                await purged(rig)
            assert await rig.stop() == 0
            passed |= {*rig.trace()}
            await forget(rig)
    every = {*statements().values(), *DISK, *REQUESTS}
    missed = {name for name in every if not {f"before {name}", f"after {name}"} <= passed}
    assert EXEMPT.keys() <= every
    assert missed <= EXEMPT.keys(), sorted(missed - EXEMPT.keys())


async def forget(rig: Rig) -> None:
    """Empty the database for another rig."""
    await rig.stage.connection.execute('delete from "user"')
    await asyncio.to_thread(install.remove, rig.stage.database_url)


@pytest.mark.parametrize("action", parts(ACTIONS, always=["upload", "quarantine"]))
async def test_killed_at_every_point(
    library_url: str, immich_version: ImmichVersion, action: str, report: Report
) -> None:
    known = ACTIONS[action]
    async with rigged(library_url, immich_version, **known.settings) as rig:
        if known.switch is not None:
            rig.switch(known.switch)
        await synced(rig, {"stays.jpg": picture("stays")})  # else the folder would be emptied, which waits for a person
        rig.start(with_points=True)
        await rig.scanned()
        await rig.summed_up()
        number = 0

        async def prepared() -> dict[str, bytes]:
            nonlocal number
            number += 1
            files = {f"{number:03}/{letter}.jpg": picture(action) for letter in "ab"}  # folders are made each time
            await known.prepare(rig, files)
            await rig.agrees()
            return files

        files = await prepared()
        passed = len(rig.trace())
        await known.do(rig, files)
        await rig.agrees()
        if known in PURGES:
            await purged(rig)
        points = _points(rig.trace()[passed:])
        assert points
        every = [*files.values()]
        for point, times in points:
            died = False
            for _ in range(_TRIES):
                files = await prepared()
                every += files.values()
                rig.arm(point, times)
                await known.do(rig, files)
                died = await rig.died(seconds=4)
                rig.disarm()
                if died:
                    rig.start(with_points=True)
                await rig.agrees()
                if known in PURGES:
                    await purged(rig)
                if died:
                    break
            report.injected(f"SIGKILL during {action}", f"{point} x{times}", hit=died)
            assert died or times > 1, f"{point} was passed before, and is not any more"
        await rig.resync()
        await rig.nothing_is_lost(every)
        assert rig.left_behind() == []
        report.survived(f"SIGKILL during {action}", in_flight=2)


def _points(trace: list[str]) -> list[tuple[str, int]]:
    """Each point and for which time it is passed, in order, the first times alone."""
    counts: dict[str, int] = {}
    found = []
    for point in trace:
        counts[point] = counts.get(point, 0) + 1
        if counts[point] <= _PASSES:
            found.append((point, counts[point]))
    return found
