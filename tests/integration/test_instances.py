"""Several instances on one database."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.service import session
from tests.integration.harness import Harness, Person, harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE = picture(1), picture(2), picture(3)
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")


@pytest.fixture
async def first(
    library_url: str, immich_version: ImmichVersion, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    monkeypatch.setattr(session, "_STANDBY_S", 0.05)
    async with harness(library_url, immich_version) as made:
        yield made


@pytest.fixture
async def instances(first: Harness) -> AsyncIterator["Instances"]:
    async with AsyncExitStack() as stack:
        yield Instances(first, stack)


class Instances:
    """Makes further instances beside the first, and stops them at the end."""

    def __init__(self, first: Harness, stack: AsyncExitStack) -> None:
        self._first, self._stack = first, stack

    def another(self, home: str | None = None) -> Harness:
        """One with the first one's sync root, or with one of its own, as on another host."""
        stage = self._first.stage
        made = Harness(replace(stage, home=stage.home / home) if home else stage, self._first._web)
        made.people = list(self._first.people)
        self._stack.push_async_callback(made.stop)
        return made


def owners(instance: Harness) -> set[UUID]:
    """Whose service this instance is now."""
    return {sync.owner for sync in instance.syncs()} if instance.running() else set()


def mark_anew(folder: Path, mark: UUID | None) -> None:
    marker = folder / ".immich-dbsync" / "root-id"
    if mark is None:
        marker.unlink()
    else:
        marker.write_text(f"{mark}\n")


async def serves(instance: Harness, *people: Person) -> None:
    async def served() -> bool:
        return owners(instance) == {person.user for person in people}

    await until(served)


async def told(instance: Harness, events: list[str], what: str) -> None:
    async def heard() -> bool:
        assert instance.running()
        return what in events

    await until(heard)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What sessions logged at level info."""
    events: list[str] = []

    class Heard:
        def __getattr__(self, level: str) -> object:
            return lambda event, **_: events.append(event)

    monkeypatch.setattr(session, "log", Heard())
    return events


async def test_each_takes_the_owners_whose_folders_it_has(first: Harness, instances: Instances) -> None:
    bob = await first.add_person("bob@example.org")
    second = instances.another("elsewhere")
    his = Person(second.stage, first._web, bob.user, bob.key)
    his.folder.parent.mkdir(parents=True)
    bob.folder.rename(his.folder)
    first.put("a.png", ONE)
    his.put("b.png", TWO)
    await first.start(wait=False)
    await second.start(wait=False)
    asset = await first.tied("a.png")
    await his.tied("b.png")
    await serves(first, first)
    await serves(second, bob)
    his.path("b.png").unlink()
    await his.becomes(TWO, "trashed")
    await first.trash(asset)
    await first.gone("a.png")
    await first.restore(asset)
    await first.there("a.png", ONE)
    # Bob's folder comes to the first one's host, and Ada's stays where it is.
    await second.stop()
    his.folder.rename(bob.folder)
    await serves(first, first, bob)
    bob.put("c.png", THREE)
    await bob.tied("c.png")
    assert await first.status(ONE) == "active"


@pytest.mark.parametrize("how", ["stopped", "connection lost"])
async def test_one_stands_by_takes_over_and_finishes_what_was_queued(
    first: Harness, instances: Instances, heard: list[str], how: str
) -> None:
    second = instances.another()
    first.put("a.png", ONE)
    first.put("b.png", TWO)
    await first.start()
    await second.start(wait=False)
    await told(second, heard, "owner.standby")
    lost = await first.asset(TWO)
    assert owners(second) == set()
    first.immich.faults.fail_next = 1000  # what is queued stays in the queue
    first.put("c.png", THREE)
    first.path("a.png").unlink()

    async def queued() -> bool:
        return b"c.png" in await first.records() and b"a.png" in first.owner().known.gone_since

    await until(queued)
    if how == "stopped":
        await first.stop()
    else:
        assert first.session is not None
        pid = first.session._listener._connection.get_server_pid()
        await first.connection.execute("select pg_terminate_backend($1)", pid)
        assert await first.ended() is not None
    first.immich.faults.fail_next = 0
    await serves(second, first)
    await first.becomes(ONE, "trashed")
    await first.tied("c.png")
    await first.trash(lost)
    await first.gone("b.png")
    await second.idle()
    assert first.files() == {"c.png": THREE}
    assert await first.deeds("trash") == ["trash"]
    assert await first.deeds("upload") == ["upload"] * 3


async def test_the_first_may_come_back_and_stand_by(first: Harness, instances: Instances, heard: list[str]) -> None:
    second = instances.another()
    first.put("a.png", ONE)
    await first.start()
    await second.start(wait=False)
    await first.stop()
    await serves(second, first)
    heard.clear()
    await first.start(wait=False)
    await told(first, heard, "owner.standby")
    await second.stop()
    await serves(first, first)
    first.path("a.png").unlink()
    await first.becomes(ONE, "trashed")
    assert first.requests == [UPLOAD, TRASH]


@pytest.mark.parametrize(("decided", "approved"), [("before", True), ("after", True), ("before", False)])
async def test_a_hold_of_one_instance_is_carried_out_by_another(
    first: Harness, instances: Instances, decided: str, *, approved: bool
) -> None:
    first.change(hold_min=1, hold_fraction=0.0)
    second = instances.another()
    second.change(hold_min=1, hold_fraction=0.0)
    for number in range(3):
        first.put(f"{number}.png", picture(number))
    await first.start()
    for number in range(2):
        first.path(f"{number}.png").unlink()
    hold = await first.held(2)
    await first.stop()
    decide = first.approve if approved else first.reject
    if decided == "before":
        await decide(hold)
    await second.start()
    if decided == "after":
        await first.held(2)
        await decide(hold)
    await first.recorded(["2.png"])
    await second.idle()
    expected = "trashed" if approved else "active"
    assert [await first.status(picture(number)) for number in range(3)] == [expected, expected, "active"]
    assert await first.holds() == []


@pytest.mark.parametrize("marker", ["another's", "none"])
async def test_a_folder_with_a_foreign_marker_never_takes_the_owner(
    first: Harness, instances: Instances, marker: str
) -> None:
    first.put("a.png", ONE)
    await first.start()
    second = instances.another("elsewhere")
    shutil.copytree(first.folder, second.folder)
    (second.folder / "a.png").unlink()
    second.put("b.png", TWO)
    mark_anew(second.folder, None if marker == "none" else uuid4())
    await second.start(wait=False)

    async def problem() -> bool:
        return str(second.folder) in (await first.problem() or "")

    # While the folder is synced by another instance, this one's is nobody's trouble.
    await first.rescan()
    assert await first.problem() is None
    await first.stop()
    await until(problem)
    assert owners(second) == set()
    assert await first.status(ONE) == "active"
    assert await first.status(TWO) is None
    await first.trash(await first.asset(ONE))
    await first.start()
    await first.gone("a.png")
    await first.idle()
    assert await first.problem() is None
    assert owners(second) == set()
    assert second.files() == {"b.png": TWO}
