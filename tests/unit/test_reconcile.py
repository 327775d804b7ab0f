"""The decision table, row by row, and each guard beside it."""

from dataclasses import replace
from typing import Any

import pytest

from immich_dbsync.core.actions import (
    Action,
    Adopt,
    Drop,
    Identify,
    Leave,
    NoteGone,
    Purge,
    PutBack,
    PutOnHold,
    Quarantine,
    Refresh,
    Replace,
    Restore,
    Supersede,
    Trash,
    Upload,
    Why,
)
from immich_dbsync.core.policy import Policies
from immich_dbsync.core.reconcile import reconcile
from immich_dbsync.core.view import View
from immich_dbsync.model import (
    Asset,
    Decision,
    Direction,
    Entry,
    File,
    Hold,
    Policy,
    Record,
    RelPath,
    Stat,
    Status,
)
from tests.property.world import CONTENTS, SIZES, asset_id, make_stat

A, B, C = RelPath(b"DCIM/a.jpg"), RelPath(b"DCIM/b.jpg"), RelPath(b"c.jpg")
TRASHED_AT = 50
QUARANTINED_AT = 60


def file(path: RelPath, number: int = 0, *, stat: Stat | None = None, known: bool = True) -> File:
    """A file with content ``number``; its inode is the content's, so that a file elsewhere is a moved one."""
    return File(path, stat or stat_of(number), CONTENTS[number] if known else None)


def stat_of(number: int, *, ctime_ns: int = 10, inode: int | None = None) -> Stat:
    return make_stat(number, ctime_ns=ctime_ns, inode=number + 1 if inode is None else inode)


def record(
    path: RelPath,
    number: int = 0,
    *,
    tied: bool = True,
    racy: bool = False,
    problem: str | None = None,
    hold: Decision | None = None,
) -> Record:
    held = Hold(7, hold) if hold is not None else None
    return Record(path, stat_of(number), CONTENTS[number], asset_id(number) if tied else None, racy, problem, held)


def asset(number: int = 0, status: Status = Status.ACTIVE, *, generation: int = 0, hidden: bool = False) -> Asset:
    deleted_ns = None if status is Status.ACTIVE else TRASHED_AT
    return Asset(asset_id(number, generation), CONTENTS[number].sha1, status, 100, deleted_ns, hidden)


def entry(path: RelPath, number: int = 0, *, id: int = 1, superseded: bool = False, gone: bool = False) -> Entry:  # noqa: A002  # the field's own name
    content, tied = CONTENTS[number], asset_id(number)
    return Entry(id, path, b"q/%d" % id, stat_of(number), content, tied, superseded, QUARANTINED_AT, gone)


def decide(*seen: File | Record | Asset | Entry, **guards: Any) -> list[Action]:
    """What is decided where this was seen."""
    return list(
        reconcile(
            View(
                files={f.path: f for f in seen if isinstance(f, File)},
                records={r.path: r for r in seen if isinstance(r, Record)},
                assets={a.id: a for a in seen if isinstance(a, Asset)},
                entries=tuple(e for e in seen if isinstance(e, Entry)),
                **guards,
            )
        )
    )


# --- the rows ---


def test_row_01_new_file_is_uploaded() -> None:
    assert decide(file(A)) == [Upload((A,), CONTENTS[0])]


def test_row_01_new_copies_are_uploaded_once() -> None:
    copy = file(B, stat=stat_of(0, inode=9))
    assert decide(copy, file(A)) == [Upload((A, B), CONTENTS[0])]


def test_row_02_new_file_of_an_active_asset_is_adopted() -> None:
    assert decide(file(A), asset()) == [Adopt(A, CONTENTS[0], asset_id(0))]


def test_row_03_file_that_came_after_the_trash_restores_the_asset() -> None:
    came = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    assert decide(came, asset(0, Status.TRASHED)) == [Restore(A, CONTENTS[0], asset_id(0))]


@pytest.mark.parametrize("ctime_ns", [TRASHED_AT - 1, TRASHED_AT])
def test_row_04_file_that_was_there_before_the_trash_is_quarantined(ctime_ns: int) -> None:
    stayed = file(A, stat=stat_of(0, ctime_ns=ctime_ns))
    plan = decide(stayed, asset(0, Status.TRASHED))
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(0), Why.TRASHED_BEFORE)]


def test_row_05_new_file_waits_while_immich_deletes_its_asset() -> None:
    assert decide(file(A), asset(0, Status.DELETED)) == [Leave(A, Why.BEING_DELETED, asset_id(0), CONTENTS[0])]


def test_row_06_unchanged_and_active_is_left_alone() -> None:
    assert decide(file(A, known=False), record(A), asset()) == []


@pytest.mark.parametrize(("status", "why"), [(Status.TRASHED, Why.TRASHED), (Status.DELETED, Why.DELETED)])
def test_row_07_unchanged_and_trashed_is_quarantined(status: Status, why: Why) -> None:
    plan = decide(file(A, known=False), record(A), asset(0, status))
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(0), why)]


def test_row_07_unchanged_and_known_to_be_deleted_is_quarantined() -> None:
    plan = decide(file(A, known=False), record(A), deleted=frozenset({asset_id(0)}))
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(0), Why.DELETED)]


def test_row_07_deleted_but_immich_has_it_again_is_adopted() -> None:
    again = asset(0, generation=1)
    plan = decide(file(A, known=False), record(A), again, deleted=frozenset({asset_id(0)}))
    assert plan == [Adopt(A, CONTENTS[0], again.id)]


def test_row_08_without_row_or_evidence_it_is_uploaded_again() -> None:
    assert decide(file(A, known=False), record(A)) == [Upload((A,), CONTENTS[0])]


def test_row_08_without_row_or_evidence_it_is_adopted_under_its_new_id() -> None:
    again = asset(0, generation=1)
    assert decide(file(A, known=False), record(A), again) == [Adopt(A, CONTENTS[0], again.id)]


EDITED = file(A, 2, stat=stat_of(2, inode=1))


def test_row_09_edited_replaces_its_asset() -> None:
    assert decide(EDITED, record(A), asset()) == [Replace(A, CONTENTS[2], asset_id(0), trash_old=True)]


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.TRASHED])
def test_row_09_edited_to_a_picture_that_immich_has(status: Status) -> None:
    edited = file(A, 2, stat=stat_of(2, ctime_ns=TRASHED_AT + 1, inode=1))
    plan = decide(edited, record(A), asset(), asset(2, status))
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=True)]


def test_row_09_edited_to_a_picture_that_was_then_deleted_in_immich_is_first_the_end_of_the_old_one() -> None:
    deleted_since = asset(2, Status.TRASHED)
    assert decide(EDITED, record(A), asset(), deleted_since) == [Trash(asset_id(0), (A,))]
    assert decide(EDITED, asset(0, Status.TRASHED), deleted_since) == [
        Quarantine(A, CONTENTS[2], asset_id(2), Why.TRASHED_BEFORE)
    ]


def test_row_09_of_such_an_edit_the_old_asset_is_kept_or_asked_about_as_of_any_missing_file() -> None:
    seen = (EDITED, asset(), asset(2, Status.TRASHED))
    assert decide(*seen, record(A), policies=Policies(Policy.ARCHIVE)) == [Drop(A, Why.KEPT_BY_POLICY)]
    assert decide(*seen, record(A), file(B), record(B)) == [Drop(A, Why.MOVED)]
    assert decide(*seen, record(A), unidentified_sizes=frozenset({SIZES[0]})) == [Leave(A, Why.GRACE)]
    assert decide(*seen, record(A), healthy=False) == [Leave(A, Why.UNHEALTHY)]
    assert decide(*seen, record(A, hold=Decision.WAITING)) == [Leave(A, Why.HELD, asset_id(0))]
    assert decide(*seen, record(A), trash_enabled=False) == [
        PutOnHold(A, CONTENTS[0], asset_id(0), Direction.FOLDER, Why.TRASH_OFF)
    ]


def test_row_09_edited_back_to_what_our_own_request_trashed_restores_it() -> None:
    plan = decide(EDITED, record(A), asset(), asset(2, Status.TRASHED), trashed_by_us=frozenset({asset_id(2)}))
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=True)]


def test_row_09_waits_for_immich_to_delete_the_new_content() -> None:
    plan = decide(EDITED, record(A), asset(), asset(2, Status.DELETED))
    assert plan == [Leave(A, Why.BEING_DELETED, asset_id(2))]


def test_row_09_leaves_the_old_asset_while_another_path_holds_its_content() -> None:
    plan = decide(EDITED, record(A), record(B), file(B, known=False), asset())
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=False)]


def test_row_09_of_two_copies_edited_at_once_the_last_trashes_the_old_asset() -> None:
    both = (EDITED, file(B, 1, stat=stat_of(1)), record(A), record(B), asset())
    plan = decide(*both)
    assert plan == [
        Replace(A, CONTENTS[2], asset_id(0), trash_old=False),
        Replace(B, CONTENTS[1], asset_id(0), trash_old=False),
    ]
    after = decide(both[0], both[1], record(A, 2), record(B), asset(), asset(2))
    assert Replace(B, CONTENTS[1], asset_id(0), trash_old=True) in after


def test_row_09_without_the_permission_leaves_the_old_asset() -> None:
    plan = decide(EDITED, record(A), asset(), may_copy=False)
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=False, copy=False)]


def test_row_09_leaves_the_old_asset_while_immichs_trash_is_off() -> None:
    plan = decide(EDITED, record(A), asset(), trash_enabled=False)
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=False)]


def test_row_09_leaves_the_old_asset_of_a_backup() -> None:
    plan = decide(EDITED, record(A), asset(), policies=Policies(Policy.BACKUP))
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=False)]


@pytest.mark.parametrize("decision", Decision)
def test_row_09_does_not_trash_what_a_person_was_asked_about(decision: Decision) -> None:
    plan = decide(EDITED, record(A, hold=decision), asset())
    assert plan == [Replace(A, CONTENTS[2], asset_id(0), trash_old=decision is Decision.APPROVED)]


@pytest.mark.parametrize("old", [None, Status.TRASHED, Status.DELETED])
def test_row_10_edited_beats_deleted(old: Status | None) -> None:
    edited = file(A, 2, stat=stat_of(2, inode=1))
    seen = [] if old is None else [asset(0, old)]
    assert decide(edited, record(A), *seen) == [Upload((A,), CONTENTS[2])]


def test_row_11_gone_is_trashed() -> None:
    assert decide(record(A), asset()) == [Trash(asset_id(0), (A,))]


def test_row_11_copies_that_are_gone_together_are_trashed_together() -> None:
    assert decide(record(B), record(A), asset()) == [Trash(asset_id(0), (A, B))]


def test_row_12_gone_while_a_copy_stays_drops_the_record() -> None:
    copy = record(B)
    assert decide(record(A), copy, file(B, known=False), asset()) == [Drop(A, Why.MOVED)]


def test_row_13_gone_but_old_is_released_at_the_exact_instant() -> None:
    created_ns = asset().created_ns
    assert decide(record(A), asset(), keep_created_before_ns=created_ns) == [Drop(A, Why.RELEASED)]
    assert decide(record(A), asset(), keep_created_before_ns=created_ns - 1) == [Trash(asset_id(0), (A,))]


@pytest.mark.parametrize("status", [None, Status.TRASHED, Status.DELETED])
def test_row_14_gone_on_both_sides_drops_the_record(status: Status | None) -> None:
    seen = [] if status is None else [asset(0, status)]
    assert decide(record(A), *seen) == [Drop(A, Why.ASSET_GONE)]


def test_row_15_restored_is_put_back() -> None:
    assert decide(entry(A), asset()) == [PutBack(entry(A), asset_id(0))]


def test_row_15_same_content_at_its_path_supersedes() -> None:
    plan = decide(entry(A), asset(), file(A, known=False), record(A))
    assert plan == [Supersede(entry(A))]


def test_row_15_other_content_at_its_path_is_no_obstacle() -> None:
    plan = decide(entry(A), asset(), file(A, 2, known=False), record(A, 2), asset(2))
    assert plan == [PutBack(entry(A), asset_id(0))]


def test_row_15_waits_until_the_file_at_its_path_is_identified() -> None:
    assert decide(entry(A), asset(), file(A, known=False)) == [Identify(A)]


def test_row_15_superseded_stays_in_quarantine() -> None:
    assert decide(entry(A, superseded=True), asset()) == []


def test_row_16_deleted_for_good_is_noted_while_there_is_evidence() -> None:
    assert decide(entry(A), deleted=frozenset({asset_id(0)})) == [NoteGone(entry(A))]


def test_row_16_is_purged_once_the_retention_is_over() -> None:
    taken = entry(A, gone=True)
    assert decide(taken, purge_before_ns=QUARANTINED_AT + 1) == [Purge(taken)]
    assert decide(taken, purge_before_ns=QUARANTINED_AT) == []
    assert decide(taken) == []


@pytest.mark.parametrize("status", Status)
def test_row_16_is_not_purged_while_there_is_a_row(status: Status) -> None:
    plan = decide(entry(A, gone=True), asset(0, status), purge_before_ns=QUARANTINED_AT + 1)
    assert not [action for action in plan if isinstance(action, Purge)]


def test_row_16_a_row_that_is_missing_without_evidence_purges_nothing() -> None:
    assert decide(entry(A), purge_before_ns=QUARANTINED_AT + 1) == []


def test_row_16_nothing_is_purged_in_a_root_that_is_not_healthy() -> None:
    assert decide(entry(A, gone=True), purge_before_ns=QUARANTINED_AT + 1, healthy=False) == []


def test_row_17_owner_who_is_not_active_is_left_alone() -> None:
    seen = (file(A, known=False), record(A), record(B, 1), asset(0, Status.TRASHED), asset(1), file(C, 2), entry(C, 1))
    assert len(decide(*seen)) == 4
    assert decide(*seen, owner_active=False) == []


# --- identity ---


def test_unknown_file_is_identified() -> None:
    assert decide(file(A, known=False), asset()) == [Identify(A)]


def test_file_moved_by_inode_needs_no_hash() -> None:
    moved = file(B, stat=stat_of(0, ctime_ns=60), known=False)
    assert decide(moved, record(A), asset()) == [Adopt(B, CONTENTS[0], asset_id(0)), Drop(A, Why.MOVED, behind=B)]


@pytest.mark.parametrize(
    "stat",
    [stat_of(0, inode=9), replace(stat_of(0), mtime_ns=99), replace(stat_of(0), size=101)],
    ids=["inode", "mtime", "size"],
)
def test_file_that_differs_from_the_vanished_one_is_identified(stat: Stat) -> None:
    assert Identify(B) in decide(file(B, stat=stat, known=False), record(A), asset())


@pytest.mark.parametrize(("born_ns", "moved"), [(None, True), (10, True), (11, False)])
def test_file_that_got_the_inode_of_a_deleted_one_was_not_moved(born_ns: int | None, moved: bool) -> None:
    """Same size and mtime as well, as of two raw pictures of one moment; made after the record (ctime 10) was."""
    new = replace(file(B, stat=stat_of(0, ctime_ns=60), known=False), born_ns=born_ns)
    assert (Identify(B) not in decide(new, record(A), asset())) is moved


def test_file_with_the_inode_of_one_that_is_still_there_is_identified() -> None:
    linked = file(B, known=False)
    assert decide(linked, file(A, known=False), record(A), asset()) == [Identify(B)]


def test_racy_record_proves_nothing_about_its_own_file() -> None:
    assert decide(file(A, known=False), record(A, racy=True), asset(0, Status.TRASHED)) == [Identify(A)]


def test_racy_record_proves_nothing_about_a_moved_file() -> None:
    moved = file(B, known=False)
    assert decide(moved, record(A, racy=True), asset()) == [Identify(B), Leave(A, Why.GRACE)]


def test_racy_record_is_refreshed_once_its_file_is_identified() -> None:
    assert decide(file(A), record(A, racy=True), asset()) == [Refresh(A, CONTENTS[0], asset_id(0))]


def test_touched_file_is_identified_then_refreshed() -> None:
    touched = stat_of(0, ctime_ns=99)
    assert decide(file(A, stat=touched, known=False), record(A), asset()) == [Identify(A)]
    assert decide(file(A, stat=touched), record(A), asset()) == [Refresh(A, CONTENTS[0], asset_id(0))]


def test_touched_file_of_a_trashed_asset_is_still_quarantined() -> None:
    touched = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    plan = decide(touched, record(A), asset(0, Status.TRASHED))
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(0), Why.TRASHED)]


def test_file_moved_after_the_trash_has_not_come_back() -> None:
    moved = file(B, stat=stat_of(0, ctime_ns=TRASHED_AT + 1), known=False)
    plan = decide(moved, record(A), asset(0, Status.TRASHED))
    assert not [action for action in plan if isinstance(action, Restore)]


# --- guards ---


def test_refused_file_waits_until_it_changes() -> None:
    refused = record(A, tied=False, problem="unsupported")
    assert decide(file(A, known=False), refused) == [Leave(A, Why.REFUSED, content=CONTENTS[0])]
    changed = file(A, 2, stat=stat_of(2, inode=1))
    assert decide(changed, refused) == [Upload((A,), CONTENTS[2])]


def test_refused_file_is_adopted_once_immich_has_it() -> None:
    refused = record(A, tied=False, problem="unsupported")
    assert decide(file(A, known=False), refused, asset()) == [Adopt(A, CONTENTS[0], asset_id(0))]


def test_refused_file_that_is_gone_is_forgotten() -> None:
    assert decide(record(A, tied=False, problem="unsupported")) == [Drop(A, Why.NEVER_TIED)]


def on_hold(path: RelPath, direction: Direction, why: Why, number: int = 0) -> PutOnHold:
    return PutOnHold(path, CONTENTS[number], asset_id(number), direction, why)


def test_deletions_wait_for_a_person_while_immichs_trash_is_off() -> None:
    assert decide(record(A), asset(), trash_enabled=False) == [on_hold(A, Direction.FOLDER, Why.TRASH_OFF)]


def test_a_change_of_settings_removes_nothing_by_itself() -> None:
    why = Why.SETTINGS_CHANGED
    assert decide(record(A), asset(), unfamiliar=why) == [on_hold(A, Direction.FOLDER, why)]
    there = (file(A, known=False), record(A), asset(0, Status.TRASHED))
    assert decide(*there, unfamiliar=why) == [on_hold(A, Direction.IMMICH, why)]
    before = (file(A), asset(0, Status.TRASHED))
    assert decide(*before, unfamiliar=why) == [on_hold(A, Direction.IMMICH, why)]


def test_what_was_synced_during_the_first_scan_is_familiar() -> None:
    assert decide(record(A), asset(), unfamiliar=Why.FIRST_SIGHT) == [Trash(asset_id(0), (A,))]
    there = (file(A, known=False), record(A), asset(0, Status.TRASHED))
    plan = decide(*there, unfamiliar=Why.FIRST_SIGHT)
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(0), Why.TRASHED)]


@pytest.mark.parametrize("seen", [(), (file(A, known=False), asset(0, Status.TRASHED))], ids=["folder", "immich"])
def test_what_is_on_hold_waits(seen: tuple[Any, ...]) -> None:
    held = (record(A, hold=Decision.WAITING), *(seen or (asset(),)))
    assert decide(*held) == [Leave(A, Why.HELD, asset_id(0))]
    assert decide(*held, trash_enabled=False, unfamiliar=Why.SETTINGS_CHANGED) == [Leave(A, Why.HELD, asset_id(0))]


@pytest.mark.parametrize("guards", [{}, {"unfamiliar": Why.FIRST_SIGHT}, {"trash_enabled": False}])
def test_what_was_approved_is_carried_out(guards: dict[str, Any]) -> None:
    approved = record(A, hold=Decision.APPROVED)
    assert decide(approved, asset(), **guards) == [Trash(asset_id(0), (A,), approved=True)]
    plan = decide(approved, file(A, known=False), asset(0, Status.TRASHED), **guards)
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(0), Why.TRASHED, approved=True)]


def test_what_was_approved_is_decided_against_the_present() -> None:
    approved = record(A, hold=Decision.APPROVED)
    assert decide(approved, file(A, known=False), asset()) == [Refresh(A, CONTENTS[0], asset_id(0))]
    assert decide(approved, file(B), asset()) == [Adopt(B, CONTENTS[0], asset_id(0)), Drop(A, Why.MOVED, behind=B)]
    assert decide(approved, asset(0, Status.TRASHED)) == [Drop(A, Why.ASSET_GONE)]
    assert decide(approved, asset(), healthy=False) == [Leave(A, Why.UNHEALTHY)]
    assert decide(approved, asset(), keep_created_before_ns=1000) == [Drop(A, Why.RELEASED)]


def test_what_was_rejected_is_released() -> None:
    assert decide(record(A, hold=Decision.REJECTED), asset()) == [Drop(A, Why.REJECTED)]


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (Status.TRASHED, Restore(A, CONTENTS[0], asset_id(0))),
        (Status.DELETED, Leave(A, Why.BEING_DELETED, asset_id(0), CONTENTS[0])),
        (None, Upload((A,), CONTENTS[0])),
    ],
)
def test_a_file_whose_removal_was_rejected_brings_its_asset_back(now: Status | None, then: Action) -> None:
    seen: list[Any] = [file(A, known=False), record(A, hold=Decision.REJECTED), *([asset(0, now)] if now else [])]
    assert decide(*seen, deleted=frozenset() if now else frozenset({asset_id(0)})) == [then]


def test_touching_a_file_on_hold_does_not_bring_its_asset_back() -> None:
    touched = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    held = record(A, hold=Decision.WAITING)
    assert decide(touched, held, asset(0, Status.TRASHED)) == [Leave(A, Why.HELD, asset_id(0))]


@pytest.mark.parametrize("decision", Decision)
def test_a_hold_of_what_was_here_before_an_edit_says_nothing_of_what_is_here_now(decision: Decision) -> None:
    seen = (file(A, 1), record(A, 0, hold=decision), asset(1, Status.TRASHED))
    removal = Quarantine(A, CONTENTS[1], asset_id(1), Why.TRASHED_BEFORE)
    assert decide(*seen, deleted=frozenset({asset_id(0)})) == [removal]
    assert decide(*seen, asset(0, Status.TRASHED)) == [removal]
    keep = decide(*seen, policies=Policies(Policy.BACKUP), deleted=frozenset({asset_id(0)}))
    assert keep == [Refresh(A, CONTENTS[1], asset_id(1))]


def test_a_file_on_hold_that_is_renamed_stays_on_hold() -> None:
    moved = file(B, stat=stat_of(0, ctime_ns=TRASHED_AT + 1), known=False)
    plan = decide(moved, record(A, hold=Decision.WAITING), asset(0, Status.TRASHED))
    assert plan[0] == PutOnHold(B, CONTENTS[0], asset_id(0), Direction.IMMICH, Why.HELD, Hold(7))


def test_a_copy_that_goes_later_waits_with_the_first() -> None:
    assert decide(record(A, hold=Decision.WAITING), record(B), asset()) == [
        Leave(A, Why.HELD, asset_id(0)),
        PutOnHold(B, CONTENTS[0], asset_id(0), Direction.FOLDER, Why.HELD, Hold(7)),
    ]


# --- protection and policies ---


def test_protected_assets_are_released() -> None:
    assert decide(record(A), replace(asset(), protected=True)) == [Drop(A, Why.PROTECTED)]


@pytest.mark.parametrize("policy", [Policy.ARCHIVE, Policy.BACKUP])
def test_what_leaves_an_archive_or_a_backup_is_released(policy: Policy) -> None:
    policies = Policies(folders=((b"DCIM", policy),))
    assert decide(record(A), asset(), policies=policies) == [Drop(A, Why.KEPT_BY_POLICY)]
    assert decide(record(C), asset(), policies=policies) == [Trash(asset_id(0), (C,))]


def test_one_path_in_an_archive_keeps_the_asset_of_all() -> None:
    plan = decide(record(A), record(C), asset(), policies=Policies(folders=((b"DCIM", Policy.ARCHIVE),)))
    assert plan == [Drop(A, Why.KEPT_BY_POLICY), Drop(C, Why.KEPT_BY_POLICY)]


def test_immichs_deletions_reach_an_archive_and_no_backup() -> None:
    tied, new = (file(A, known=False), record(A), asset(0, Status.TRASHED)), (file(A), asset(0, Status.TRASHED))
    for seen in (tied, new):
        [action] = decide(*seen, policies=Policies(Policy.ARCHIVE))
        assert isinstance(action, Quarantine)
    backup = Policies(Policy.BACKUP)
    assert decide(*tied, policies=backup) == [Leave(A, Why.KEPT_BY_POLICY, asset_id(0))]
    assert decide(*new, policies=backup) == [Refresh(A, CONTENTS[0], asset_id(0))]


def test_a_recorded_file_that_is_excluded_now_is_left_alone() -> None:
    excluded = frozenset({A})
    seen = (file(A, known=False), record(A), asset(0, Status.TRASHED))
    assert decide(*seen, excluded=excluded) == [Leave(A, Why.EXCLUDED)]
    assert decide(record(A), asset(), excluded=excluded) == [Drop(A, Why.EXCLUDED)]


# --- live photos ---

STILL = replace(asset(1), video_id=asset_id(0))
LOST_STILL = replace(asset(1, Status.TRASHED), video_id=asset_id(0))


def test_a_stills_fate_decides_that_of_its_video() -> None:
    video = (file(A, known=False), record(A), asset(hidden=True))
    assert decide(*video, STILL) == []
    assert decide(*video, LOST_STILL) == [Quarantine(A, CONTENTS[0], asset_id(1), Why.STILL_GONE)]
    assert decide(file(A), asset(hidden=True), LOST_STILL) == [Quarantine(A, CONTENTS[0], asset_id(1), Why.STILL_GONE)]


def test_a_video_whose_other_still_is_active_stays() -> None:
    other = replace(asset(2), video_id=asset_id(0))
    assert decide(file(A, known=False), record(A), asset(hidden=True), LOST_STILL, other) == []


def test_a_video_that_is_no_motion_part_any_more_stays() -> None:
    assert decide(file(A, known=False), record(A), asset(), LOST_STILL) == []


def test_a_video_that_came_after_its_still_was_trashed_stays() -> None:
    came = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    seen = (asset(hidden=True), LOST_STILL)
    assert decide(came, *seen) == [Adopt(A, CONTENTS[0], asset_id(0))]
    recorded_then = replace(record(A), stat=came.stat)
    assert decide(came, recorded_then, *seen) == []


def test_a_touched_video_of_a_lost_still_does_not_stay() -> None:
    touched = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    plan = decide(touched, record(A), asset(hidden=True), LOST_STILL)
    assert plan == [Quarantine(A, CONTENTS[0], asset_id(1), Why.STILL_GONE)]


def test_a_video_in_quarantine_comes_back_with_its_still_and_is_tied_to_its_own_asset() -> None:
    taken = replace(entry(A), asset_id=asset_id(1))
    assert decide(taken, asset(hidden=True), STILL) == [PutBack(taken, asset_id(0))]
    assert decide(taken, asset(hidden=True), LOST_STILL) == []


def test_a_sidecar_in_quarantine_comes_back_and_is_tied_to_nothing() -> None:
    taken = replace(entry(A, 2), asset_id=asset_id(0))
    assert decide(taken, asset()) == [PutBack(taken, None)]


# --- damage ---


def test_bytes_that_changed_without_a_trace_are_never_synced() -> None:
    damaged = replace(record(A), damaged=CONTENTS[2].xxh3)
    assert decide(file(A, known=False), damaged, asset()) == []
    assert decide(EDITED, damaged, asset()) == [Leave(A, Why.DAMAGED)]
    repaired = file(A, stat=stat_of(0, inode=9))
    assert decide(repaired, damaged, asset()) == [Refresh(A, CONTENTS[0], asset_id(0))]
    edited = file(A, 1, stat=stat_of(1, inode=1))
    assert decide(edited, damaged, asset()) == [Replace(A, CONTENTS[1], asset_id(0), trash_old=True)]


def test_unhealthy_root_loses_nothing() -> None:
    assert decide(record(A), asset(), healthy=False) == [Leave(A, Why.UNHEALTHY)]
    plan = decide(file(A, known=False), record(A), asset(0, Status.TRASHED), healthy=False)
    assert plan == [Leave(A, Why.UNHEALTHY, asset_id(0))]


def test_first_sight_holds_back_what_was_there_before() -> None:
    plan = decide(file(A), asset(0, Status.TRASHED), unfamiliar=Why.FIRST_SIGHT)
    assert plan == [on_hold(A, Direction.IMMICH, Why.FIRST_SIGHT)]


def test_first_sight_still_restores_what_came_after() -> None:
    came = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    plan = decide(came, asset(0, Status.TRASHED), unfamiliar=Why.FIRST_SIGHT)
    assert plan == [Restore(A, CONTENTS[0], asset_id(0))]


def test_a_trashed_asset_without_a_date_waits_for_a_person() -> None:
    undated = replace(asset(0, Status.TRASHED), deleted_ns=None)
    assert decide(file(A), undated) == [on_hold(A, Direction.IMMICH, Why.UNDATED)]


def test_motion_part_that_is_gone_trashes_nothing() -> None:
    assert decide(record(A), asset(hidden=True)) == [Drop(A, Why.MOTION_PART)]


def test_gone_for_a_moment_waits() -> None:
    assert decide(record(A), asset(), in_grace=frozenset({A})) == [Leave(A, Why.GRACE)]


def test_gone_for_a_moment_but_found_elsewhere_does_not_wait() -> None:
    plan = decide(record(A), file(B), asset(), in_grace=frozenset({A}))
    assert plan == [Adopt(B, CONTENTS[0], asset_id(0)), Drop(A, Why.MOVED, behind=B)]


def test_copy_that_is_gone_waits_for_the_one_in_grace() -> None:
    plan = decide(record(A), record(B), asset(), in_grace=frozenset({B}))
    assert sorted(plan, key=repr) == [Leave(A, Why.GRACE), Leave(B, Why.GRACE)]


def test_unidentified_twin_of_its_size_delays_the_trash() -> None:
    assert SIZES[0] == SIZES[1]
    twin = file(B, 1, known=False)
    assert decide(record(A), asset(), twin) == [Identify(B), Leave(A, Why.GRACE)]
    assert decide(record(A), asset(), replace(twin, content=CONTENTS[1])) == [
        Upload((B,), CONTENTS[1]),
        Trash(asset_id(0), (A,)),
    ]


def test_unidentified_file_of_another_size_delays_nothing() -> None:
    assert decide(record(A), asset(), file(B, 2, known=False)) == [Identify(B), Trash(asset_id(0), (A,))]


def test_unidentified_size_outside_the_view_delays_the_trash() -> None:
    plan = decide(record(A), asset(), unidentified_sizes=frozenset({SIZES[0]}))
    assert plan == [Leave(A, Why.GRACE)]


def test_restore_by_one_path_keeps_the_file_at_another() -> None:
    came = file(B, stat=stat_of(0, ctime_ns=TRASHED_AT + 1, inode=9))
    plan = decide(came, file(A, known=False), record(A), asset(0, Status.TRASHED))
    assert plan == [Restore(B, CONTENTS[0], asset_id(0))]


def test_edited_to_a_picture_in_the_trash_that_was_there_before_is_quarantined() -> None:
    edited = file(A, 2, stat=stat_of(2, inode=1))
    plan = decide(edited, record(A), asset(2, Status.TRASHED))
    assert plan == [Quarantine(A, CONTENTS[2], asset_id(2), Why.TRASHED_BEFORE)]


def test_edited_and_then_deleted_is_trashed() -> None:
    assert decide(record(A), asset(), file(B, 2), record(B, 2), asset(2)) == [Trash(asset_id(0), (A,))]


# --- what looks alike and is not ---


def test_picture_that_comes_back_after_our_own_request_is_restored() -> None:
    # killed between the request and the end of the record; then the owner takes the deletion back
    back = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    ours = frozenset({asset_id(0)})
    assert decide(back, record(A), asset(0, Status.TRASHED), trashed_by_us=ours) == [
        Restore(A, CONTENTS[0], asset_id(0))
    ]


def test_picture_that_a_missed_move_had_trashed_is_restored() -> None:
    moved_before = file(B, stat=stat_of(0, ctime_ns=TRASHED_AT - 1))
    ours = frozenset({asset_id(0)})
    assert decide(moved_before, asset(0, Status.TRASHED), trashed_by_us=ours) == [Restore(B, CONTENTS[0], asset_id(0))]


def test_another_file_at_the_path_that_came_after_the_trash_restores_the_asset() -> None:
    again = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1, inode=9))
    assert decide(again, record(A), asset(0, Status.TRASHED)) == [Restore(A, CONTENTS[0], asset_id(0))]


def test_moved_file_follows_the_deletion_of_its_asset() -> None:
    plan = decide(file(B, known=False), record(A), deleted=frozenset({asset_id(0)}))
    assert plan == [Quarantine(B, CONTENTS[0], asset_id(0), Why.DELETED), Leave(A, Why.GRACE)]


def test_two_vanished_files_that_agree_in_inode_size_and_mtime_identify_nothing() -> None:
    one, other = record(A), replace(record(B, 1), stat=stat_of(0))
    assert decide(file(C, known=False), one, other, asset(0), asset(1))[0] == Identify(C)


@pytest.mark.parametrize("untied_first", [True, False])
def test_of_hard_links_that_vanished_the_tied_one_tells(untied_first: bool) -> None:
    one, other = record(A, tied=not untied_first), record(B, tied=untied_first)
    assert decide(file(C, known=False), one, other, asset())[0] == Adopt(C, CONTENTS[0], asset_id(0))


def test_asset_whose_bytes_were_replaced_is_not_trashed_for_a_missing_file() -> None:
    replaced = replace(asset(), sha1=CONTENTS[2].sha1)
    assert decide(record(A), replaced) == [Drop(A, Why.ASSET_GONE)]


def test_asset_whose_bytes_were_replaced_says_nothing_about_the_file() -> None:
    replaced = replace(asset(0, Status.TRASHED), sha1=CONTENTS[2].sha1)
    assert decide(file(A, known=False), record(A), replaced) == [Upload((A,), CONTENTS[0])]


@pytest.mark.parametrize("known", [True, False])
def test_swapped_names_are_adopted(known: bool) -> None:
    swapped = (file(A, 1, known=known), file(B, 0, known=known))
    assert decide(*swapped, record(A, 0), record(B, 1), asset(0), asset(1)) == [
        Adopt(A, CONTENTS[1], asset_id(1), behind=B),
        Adopt(B, CONTENTS[0], asset_id(0), behind=A),
    ]


def test_a_path_is_not_tied_anew_before_its_old_content_is_where_it_went() -> None:
    edited = record(B, 2)  # so that it takes a request to tie it
    swapped = (file(A, 1), file(B, 0))
    assert decide(*swapped, record(A, 0), edited, asset(0), asset(1), asset(2)) == [
        Leave(A, Why.MOVING),
        Replace(B, CONTENTS[0], asset_id(2), trash_old=True),
    ]


def test_a_path_that_is_excluded_is_not_waited_for() -> None:
    copy = (file(B, 0), record(B, 0, tied=False))
    plan = decide(file(A, 1), record(A, 0), *copy, asset(0), asset(1), excluded=frozenset({B}))
    assert plan == [Adopt(A, CONTENTS[1], asset_id(1)), Leave(B, Why.EXCLUDED)]
    plan = decide(record(A, 0), *copy, asset(0), excluded=frozenset({B}))
    assert plan == [Leave(B, Why.EXCLUDED), Drop(A, Why.MOVED)]


def test_a_chain_of_renames_needs_no_hash() -> None:
    chain = (file(B, 0, known=False), file(C, 1, known=False))
    assert decide(*chain, record(A, 0), record(B, 1), asset(0), asset(1)) == [
        Adopt(B, CONTENTS[0], asset_id(0), behind=C),
        Adopt(C, CONTENTS[1], asset_id(1)),
        Drop(A, Why.MOVED, behind=B),
    ]


def test_file_renamed_over_another_replaces_that_one() -> None:
    over = file(A, 1, known=False)
    assert decide(over, record(A, 0), record(B, 1), asset(0), asset(1)) == [
        Replace(A, CONTENTS[1], asset_id(0), trash_old=True),
        Leave(B, Why.MOVING),  # its asset would have no record until A is tied to it
    ]


def test_asset_of_an_edited_file_is_not_trashed_for_its_missing_copy() -> None:
    edited = file(A, 2, stat=stat_of(2))
    assert decide(edited, record(A), record(B), asset()) == [
        Replace(A, CONTENTS[2], asset_id(0), trash_old=True),
        Leave(B, Why.EDITED),
    ]


def test_unhealthy_root_keeps_records_and_quarantine_as_they_are() -> None:
    plan = decide(record(A), entry(B), asset(0, Status.TRASHED), healthy=False)
    assert plan == [Leave(A, Why.UNHEALTHY)]
    assert decide(entry(B), asset(), healthy=False) == []


def test_picture_that_is_put_back_is_not_trashed_meanwhile() -> None:
    taken = entry(A)
    assert decide(record(A), taken, asset()) == [Leave(A, Why.GRACE), PutBack(taken, asset_id(0))]


def test_picture_is_put_back_when_what_is_missing_at_its_path_is_decided() -> None:
    seen = (entry(A), asset(), asset(1))
    assert decide(*seen, record(A, 1)) == [Trash(asset_id(1), (A,))]
    assert decide(*seen, record(A, 1), in_grace=frozenset({A})) == [Leave(A, Why.GRACE)]
    back = PutBack(entry(A), asset_id(0))
    assert decide(*seen, record(A, 1), policies=Policies(Policy.ARCHIVE)) == [Drop(A, Why.KEPT_BY_POLICY), back]
    assert decide(*seen, record(A, 1, hold=Decision.WAITING)) == [Leave(A, Why.HELD, asset_id(1)), back]


def test_of_two_quarantined_files_of_one_path_one_is_put_back() -> None:
    first, second = entry(A, id=1), entry(A, id=2)
    assert decide(first, second, asset()) == [PutBack(first, asset_id(0)), Supersede(second)]


def test_row_14_waits_for_the_grace_so_that_a_moved_file_is_known() -> None:
    plan = decide(record(A), asset(0, Status.TRASHED), in_grace=frozenset({A}))
    assert plan == [Leave(A, Why.GRACE)]


def test_paths_come_in_byte_order() -> None:
    plan = decide(file(C, 2, known=False), file(B, 1, known=False), file(A, known=False))
    assert plan == [Identify(A), Identify(B), Identify(C)]


def test_nothing_seen_nothing_decided() -> None:
    assert decide() == []


# --- edits, and what keeps their old assets ---


def test_an_edit_in_a_root_that_is_not_healthy_waits() -> None:
    assert decide(record(A), file(A, 1), asset(), healthy=False) == [Leave(A, Why.UNHEALTHY, asset_id(0))]


def test_an_edit_waits_while_the_old_content_may_be_found_elsewhere() -> None:
    plan = decide(record(A), file(A, 1), asset(), unidentified_sizes=frozenset({SIZES[0]}))
    assert plan == [Leave(A, Why.GRACE, asset_id(0))]


def test_an_edit_leaves_the_old_asset_to_a_new_file_of_its_content() -> None:
    copy = file(B, stat=stat_of(0, inode=9))
    assert decide(record(A), file(A, 1), copy, asset()) == [
        Replace(A, CONTENTS[1], asset_id(0), trash_old=False),
        Adopt(B, CONTENTS[0], asset_id(0)),
    ]


def test_an_edit_leaves_the_old_asset_to_a_file_that_comes_back() -> None:
    back = entry(B)
    assert decide(record(A), file(A, 1), asset(), back) == [
        Replace(A, CONTENTS[1], asset_id(0), trash_old=False),
        PutBack(back, asset_id(0)),
    ]


def test_an_edit_leaves_a_live_photos_video() -> None:
    assert decide(record(A), file(A, 1), asset(hidden=True)) == [Replace(A, CONTENTS[1], asset_id(0), trash_old=False)]
