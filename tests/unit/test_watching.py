"""What `status --watch` says at a glance: needs you before working before all in sync."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from immich_dbsync.cli.overview import Line
from immich_dbsync.cli.watching import Mood, verdict
from immich_dbsync.model import OwnerId
from immich_dbsync.store.owners import PAUSED
from immich_dbsync.store.state import OwnerState

SYNCED = OwnerState(
    owner=OwnerId(UUID(int=1)),
    enabled=True,
    problems={},
    first_scan_at=datetime(2026, 11, 1, tzinfo=UTC),
    last_scan_at=datetime(2026, 11, 1, tzinfo=UTC),
    last_scan={},
    summary={},
    undecided={},
    synced=3,
    waiting=0,
    refused=0,
    damaged=0,
    holds=0,
    quarantined=0,
    events=0,
)
WELL = Line(SYNCED, "ada@example.org", True, True, [], served=True)


def line(**changes: object) -> Line:
    return replace(WELL, state=replace(SYNCED, **changes))  # type: ignore[arg-type]


def test_all_in_sync() -> None:
    assert str(verdict([WELL], [])) == "all in sync"
    assert verdict([WELL, line(quarantined=5)], []).mood is Mood.WELL


def test_working() -> None:
    assert str(verdict([line(waiting=2), line(events=3)], [])) == "working: 5 to go"
    assert str(verdict([line(last_scan_at=None)], [])) == "working: the first scan goes on"


def test_a_hold_needs_somebody_though_there_is_work() -> None:
    found = verdict([line(holds=1, waiting=9)], [])
    assert str(found) == "needs you: deletions of ada@example.org wait for you  → immich-dbsync holds list"


def test_no_service_goes_before_all_else() -> None:
    found = verdict([replace(line(holds=1), running=False, served=False)], ["the keys are wrong"])
    assert (found.mood, found.command) == (Mood.NEEDS_YOU, "immich-dbsync run")


def test_who_is_paused_needs_no_service() -> None:
    paused = replace(line(problems={PAUSED: {"text": "paused by a person"}}, last_scan_at=None), running=False)
    assert verdict([paused], []).mood is Mood.WELL


def test_what_is_wrong_is_said_with_what_mends_it() -> None:
    found = verdict([WELL], ["trigger x is missing. Mend it with: immich-dbsync triggers install"])
    assert (found.mood, found.command) == (Mood.NEEDS_YOU, "immich-dbsync triggers install")
    assert verdict([WELL], ["Immich does not answer"]).command == "immich-dbsync doctor"
    found = verdict([line(problems={"key": {"text": "Immich refuses the API key"}})], [])
    assert (found.why, found.command) == (
        "ada@example.org: Immich refuses the API key",
        "immich-dbsync users add ada@example.org",
    )
    none = verdict([], ["no owner is synced yet: start the service with `immich-dbsync run`"])
    assert none.command == "immich-dbsync run"
    assert verdict([replace(WELL, refused=[("a.png", "too large")])], []).why == "ada@example.org: a.png: too large"


def test_beside_a_service_that_runs_it_is_the_users_own_problem_that_is_said() -> None:
    """That others are synced is no reason to start another service."""
    missing = replace(line(problems={"root": {"text": "'/srv/x' does not exist"}}, holds=1), running=False)
    found = verdict([WELL, missing], [])
    assert (found.why, found.command) == ("ada@example.org: '/srv/x' does not exist", "immich-dbsync doctor")
    assert not any("no service" in problem for problem in missing.problems())
    found = verdict([WELL, replace(WELL, running=False)], [])
    assert found.why.startswith("ada@example.org: the service has not begun to sync this owner")
    assert found.command == "immich-dbsync doctor"
    found = verdict([WELL, replace(WELL, running=False, has_key=False)], [])
    assert (found.why, found.command) == (
        "ada@example.org: no API key of theirs is set",
        "immich-dbsync users add ada@example.org",
    )


def test_each_problem_comes_with_a_command_that_can_be_pasted() -> None:
    for changed, command in (
        ({"problems": {"quota": {"text": "Immich takes no more uploads"}}}, "resync --user ada@example.org"),
        ({"problems": {"watch": {"text": "too many folders"}}}, "doctor"),
        ({"undecided": {"it changes all the time": 1}}, "resync --dry-run --user ada@example.org"),
        ({"refused": 1}, "resync --user ada@example.org"),
        ({"damaged": 1}, "resync --rehash --user ada@example.org"),
        ({"holds": 1}, "holds list"),
    ):
        assert verdict([line(**changed)], []).command == f"immich-dbsync {command}"
    assert verdict([replace(WELL, active=False)], []).command == "immich-dbsync users remove ada@example.org"
    assert line(holds=1).problems() == ["1 hold waits for you: immich-dbsync holds list"]
    assert line(holds=2).problems() == ["2 holds wait for you: immich-dbsync holds list"]
