"""A user who is paused, and resumed: nothing of theirs is touched meanwhile, and nothing that happened is lost."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.model import OwnerId
from immich_dbsync.service import listener, session
from immich_dbsync.service.accounts import Account
from immich_dbsync.service.roster import Roster
from immich_dbsync.store.owners import Owners
from tests.integration.harness import Harness, Person, harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE, FOUR = (picture(number) for number in range(4))


@pytest.fixture
async def quick(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    """One whose silent connection is tested many times a second."""
    async with harness(library_url, immich_version, heartbeat=0.05) as made:
        yield made


async def pause(sync: Harness, person: Person) -> None:
    await Owners(sync.connection).pause(OwnerId(person.user), "paused by a person")


async def resume(sync: Harness, person: Person) -> None:
    assert await Owners(sync.connection).resume(OwnerId(person.user))


async def synced(sync: Harness, *people: Person) -> None:
    """Return when these people, and no other, are synced."""

    async def check() -> bool:
        assert sync.running()
        return {each.owner for each in sync.syncs()} == {person.user for person in people}

    await until(check)


async def locks(sync: Harness) -> set[int]:
    rows = await sync.connection.fetch(
        """select (l.classid::bigint << 32) | l.objid::bigint as key
           from pg_locks l join pg_database d on d.oid = l.database
           where l.locktype = 'advisory' and l.objsubid = 1 and d.datname = current_database()"""
    )
    return {row["key"] for row in rows}


async def test_of_two_users_the_paused_one_is_left_alone_and_the_other_goes_on(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    bob.put("kept.png", ONE)
    await sync.start()
    asset = await bob.tied("kept.png")
    await pause(sync, bob)
    await synced(sync, sync)
    assert listener.lock_key(OwnerId(bob.user)) not in await locks(sync)
    await bob.trash(asset)
    bob.put("new.png", TWO)
    sync.put("mine.png", THREE)
    await sync.becomes(THREE, "active")
    assert bob.files() == {"kept.png": ONE, "new.png": TWO}
    assert await bob.status(TWO) is None

    await resume(sync, bob)
    await bob.gone("kept.png")
    await bob.becomes(TWO, "active")
    assert bob.quarantined() == [ONE]


async def test_what_was_deleted_for_good_meanwhile_is_known_even_when_immichs_audit_has_forgotten_it(
    sync: Harness,
) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    asset = await sync.tied("a.png")
    await pause(sync, sync)
    await synced(sync)
    await sync.trash(asset, force=True)
    await sync.immich.idle()
    await sync.connection.execute("delete from asset_audit")
    await resume(sync, sync)
    await sync.gone("a.png")
    assert sync.quarantined() == [ONE]
    assert await sync.status(ONE) is None


async def test_what_left_the_folder_meanwhile_is_trashed_afterwards(sync: Harness) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    await sync.tied("a.png")
    await pause(sync, sync)
    await synced(sync)
    sync.path("a.png").unlink()
    await resume(sync, sync)
    await sync.becomes(ONE, "trashed")


async def starts_without(sync: Harness, bob: Person) -> None:
    """The service starts; what others put into their folders is uploaded, and what he does is not."""
    bob.put("a.png", ONE)
    await sync.start(wait=False)
    await synced(sync, sync)
    sync.put("b.png", TWO)
    await sync.becomes(TWO, "active")
    assert await bob.status(ONE) is None


async def test_a_pause_outlives_the_service_and_what_it_notes_at_its_start(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    await sync.start()
    await pause(sync, bob)
    await synced(sync, sync)
    await sync.stop()
    await starts_without(sync, bob)
    # As a service does that began to sync them just when they were paused.
    await sync.owner().store.end_problems(OwnerId(bob.user))
    assert await Owners(sync.connection).paused() == {bob.user}
    await resume(sync, bob)
    await bob.becomes(ONE, "active")


async def test_a_pause_of_a_user_who_was_never_synced_holds(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    await sync.start()
    await sync.stop()
    await sync.connection.execute("delete from immich_dbsync_v1.owners where owner_id = $1", bob.user)
    await pause(sync, bob)
    await starts_without(sync, bob)


async def test_while_nobody_is_paused_or_resumed_no_heartbeat_has_the_users_read_again(
    quick: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = Roster.read, list[bool]()

    async def counted(roster: Roster, *, first: bool = False) -> list[Account]:
        reads.append(first)
        return await read(roster, first=first)

    bob = await quick.add_person("bob@example.org")
    await quick.start()
    await pause(quick, bob)
    await synced(quick, quick)
    monkeypatch.setattr(Roster, "read", counted)
    beats: set[object] = set()

    async def five_in_a_row() -> bool:
        if reads:  # the pause itself may have been found by a heartbeat as well
            beats.clear()
            reads.clear()
        beats.add(
            await quick.connection.fetchval(
                "select query_start from pg_stat_activity where application_name = $1 and datname = current_database()",
                listener.APPLICATION,
            )
        )
        return len(beats) > 5

    await until(five_in_a_row)


async def test_a_pause_whose_notification_was_lost_is_found(quick: Harness) -> None:
    await quick.start()
    paused = "update immich_dbsync_v1.owners set problems = jsonb_build_object('paused', '{}'::jsonb)"
    await quick.connection.execute(paused)
    await synced(quick)
    await quick.connection.execute("update immich_dbsync_v1.owners set problems = '{}'")
    await synced(quick, quick)


async def test_what_fails_while_a_sync_is_ended_does_not_begin_it_anew(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_CONFINED", (Exception,))
    monkeypatch.setattr(session.log, "exception", lambda *_, **__: None, raising=False)
    await sync.start()
    answers = sync.owner()

    async def fails() -> list[UUID]:
        try:
            await answers.todo.hinted.wait()
            return []
        finally:
            raise RuntimeError("on the way out")

    monkeypatch.setattr(answers.parts.holds, "asks", lambda _: fails())
    answers.asked.set()
    answers.todo.hinted.clear()
    await pause(sync, sync)
    await synced(sync)
    monkeypatch.undo()
    await resume(sync, sync)
    await synced(sync, sync)
