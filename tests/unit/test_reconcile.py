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
    PutBack,
    Quarantine,
    Refresh,
    Restore,
    Supersede,
    Trash,
    Upload,
    Why,
)
from immich_dbsync.core.reconcile import View, reconcile
from immich_dbsync.model import Asset, Entry, File, Record, RelPath, Stat, Status
from tests.property.world import CONTENTS, SIZES, asset_id, make_stat

A, B, C = RelPath(b"DCIM/a.jpg"), RelPath(b"DCIM/b.jpg"), RelPath(b"c.jpg")
TRASHED_AT = 50


def file(path: RelPath, number: int = 0, *, stat: Stat | None = None, known: bool = True) -> File:
    """A file with content ``number``; its inode is the content's, so that a file elsewhere is a moved one."""
    return File(path, stat or stat_of(number), CONTENTS[number] if known else None)


def stat_of(number: int, *, ctime_ns: int = 10, inode: int | None = None) -> Stat:
    return make_stat(number, ctime_ns=ctime_ns, inode=number + 1 if inode is None else inode)


def record(
    path: RelPath, number: int = 0, *, tied: bool = True, racy: bool = False, problem: str | None = None
) -> Record:
    return Record(path, stat_of(number), CONTENTS[number], asset_id(number) if tied else None, racy, problem)


def asset(number: int = 0, status: Status = Status.ACTIVE, *, generation: int = 0, hidden: bool = False) -> Asset:
    deleted_ns = None if status is Status.ACTIVE else TRASHED_AT
    return Asset(asset_id(number, generation), CONTENTS[number].sha1, status, 100, deleted_ns, hidden)


def entry(path: RelPath, number: int = 0, *, id: int = 1, superseded: bool = False) -> Entry:  # noqa: A002  # the field's own name
    return Entry(id, path, b"q/%d" % id, stat_of(number), CONTENTS[number], asset_id(number), superseded)


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


def test_row_09_edited_and_active_waits() -> None:
    edited = file(A, 2, stat=stat_of(2, inode=1))
    assert decide(edited, record(A), asset()) == [Leave(A, Why.EDITED)]


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
    assert decide(entry(A), asset()) == [PutBack(entry(A))]


def test_row_15_same_content_at_its_path_supersedes() -> None:
    plan = decide(entry(A), asset(), file(A, known=False), record(A))
    assert plan == [Supersede(entry(A))]


def test_row_15_other_content_at_its_path_is_no_obstacle() -> None:
    plan = decide(entry(A), asset(), file(A, 2, known=False), record(A, 2), asset(2))
    assert plan == [PutBack(entry(A))]


def test_row_15_waits_until_the_file_at_its_path_is_identified() -> None:
    assert decide(entry(A), asset(), file(A, known=False)) == [Identify(A)]


def test_row_15_superseded_stays_in_quarantine() -> None:
    assert decide(entry(A, superseded=True), asset()) == []


@pytest.mark.parametrize("status", [None, Status.TRASHED, Status.DELETED])
def test_row_16_is_not_decided_here(status: Status | None) -> None:
    seen = [] if status is None else [asset(0, status)]
    assert decide(entry(A), *seen, deleted=frozenset() if seen else frozenset({asset_id(0)})) == []


def test_row_17_owner_who_is_not_active_is_left_alone() -> None:
    seen = (file(A, known=False), record(A), record(B, 1), asset(0, Status.TRASHED), asset(1), file(C, 2), entry(C, 1))
    assert len(decide(*seen)) == 4
    assert decide(*seen, owner_active=False) == []


# --- identity ---


def test_unknown_file_is_identified() -> None:
    assert decide(file(A, known=False), asset()) == [Identify(A)]


def test_file_moved_by_inode_needs_no_hash() -> None:
    moved = file(B, stat=stat_of(0, ctime_ns=60), known=False)
    assert decide(moved, record(A), asset()) == [Adopt(B, CONTENTS[0], asset_id(0)), Drop(A, Why.MOVED)]


@pytest.mark.parametrize(
    "stat",
    [stat_of(0, inode=9), replace(stat_of(0), mtime_ns=99), replace(stat_of(0), size=101)],
    ids=["inode", "mtime", "size"],
)
def test_file_that_differs_from_the_vanished_one_is_identified(stat: Stat) -> None:
    assert Identify(B) in decide(file(B, stat=stat, known=False), record(A), asset())


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


def test_nothing_is_trashed_while_immichs_trash_is_off() -> None:
    assert decide(record(A), asset(), trash_enabled=False) == [Leave(A, Why.TRASH_OFF)]


def test_unhealthy_root_loses_nothing() -> None:
    assert decide(record(A), asset(), healthy=False) == [Leave(A, Why.UNHEALTHY)]
    plan = decide(file(A, known=False), record(A), asset(0, Status.TRASHED), healthy=False)
    assert plan == [Leave(A, Why.UNHEALTHY, asset_id(0))]


def test_first_sight_removes_nothing_that_was_there_before() -> None:
    plan = decide(file(A), asset(0, Status.TRASHED), first_sight=True)
    assert plan == [Leave(A, Why.FIRST_SIGHT, asset_id(0), CONTENTS[0])]


def test_first_sight_still_restores_what_came_after() -> None:
    came = file(A, stat=stat_of(0, ctime_ns=TRASHED_AT + 1))
    plan = decide(came, asset(0, Status.TRASHED), first_sight=True)
    assert plan == [Restore(A, CONTENTS[0], asset_id(0))]


def test_motion_part_that_is_gone_trashes_nothing() -> None:
    assert decide(record(A), asset(hidden=True)) == [Drop(A, Why.MOTION_PART)]


def test_gone_for_a_moment_waits() -> None:
    assert decide(record(A), asset(), in_grace=frozenset({A})) == [Leave(A, Why.GRACE)]


def test_gone_for_a_moment_but_found_elsewhere_does_not_wait() -> None:
    plan = decide(record(A), file(B), asset(), in_grace=frozenset({A}))
    assert plan == [Adopt(B, CONTENTS[0], asset_id(0)), Drop(A, Why.MOVED)]


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


def test_swapped_names_are_adopted() -> None:
    swapped = (file(A, 1), file(B, 0))
    assert decide(*swapped, record(A, 0), record(B, 1), asset(0), asset(1)) == [
        Adopt(A, CONTENTS[1], asset_id(1)),
        Adopt(B, CONTENTS[0], asset_id(0)),
    ]


def test_file_renamed_over_another_keeps_both_assets() -> None:
    over = file(A, 1)
    assert decide(over, record(A, 0), record(B, 1), asset(0), asset(1)) == [
        Leave(A, Why.EDITED),
        Leave(B, Why.EDITED),
    ]


def test_asset_of_an_edited_file_is_not_trashed_for_its_missing_copy() -> None:
    edited = file(A, 2, stat=stat_of(2))
    assert decide(edited, record(A), record(B), asset()) == [Leave(A, Why.EDITED), Leave(B, Why.EDITED)]


def test_unhealthy_root_keeps_records_and_quarantine_as_they_are() -> None:
    plan = decide(record(A), entry(B), asset(0, Status.TRASHED), healthy=False)
    assert plan == [Leave(A, Why.UNHEALTHY)]
    assert decide(entry(B), asset(), healthy=False) == []


def test_picture_that_is_put_back_is_not_trashed_meanwhile() -> None:
    taken = entry(A)
    assert decide(record(A), taken, asset()) == [Leave(A, Why.GRACE), PutBack(taken)]


def test_of_two_quarantined_files_of_one_path_one_is_put_back() -> None:
    first, second = entry(A, id=1), entry(A, id=2)
    assert decide(first, second, asset()) == [PutBack(first), Supersede(second)]


def test_row_14_waits_for_the_grace_so_that_a_moved_file_is_known() -> None:
    plan = decide(record(A), asset(0, Status.TRASHED), in_grace=frozenset({A}))
    assert plan == [Leave(A, Why.GRACE)]


def test_paths_come_in_byte_order() -> None:
    plan = decide(file(C, 2, known=False), file(B, 1, known=False), file(A, known=False))
    assert plan == [Identify(A), Identify(B), Identify(C)]


def test_nothing_seen_nothing_decided() -> None:
    assert decide() == []
