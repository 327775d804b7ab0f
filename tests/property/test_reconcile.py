"""Promises of the decision table that hold in every world."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from immich_dbsync.core.reconcile import reconcile
from immich_dbsync.core.view import View
from immich_dbsync.model import Asset, AssetId, Decision, Policy, Record, RelPath, Status
from tests.property.world import World, truth, views

ROUNDS = 6
"""In which all settles: identified, edits one after the other, what these bear on, and what follows from that."""

many = settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def moves(actions: Iterable[Action]) -> list[Action]:
    """The actions that do something."""
    return [action for action in actions if not isinstance(action, Leave)]


def paths_of(action: Action) -> tuple[RelPath, ...]:
    """The paths an action is planned for. What quarantine holds is at no path yet."""
    match action:
        case Upload() | Trash():
            return action.paths
        case PutBack() | Supersede() | NoteGone() | Purge():
            return ()
        case Identify() | Adopt() | Refresh() | Restore() | Replace() | Quarantine() | PutOnHold() | Drop() | Leave():
            return (action.path,)


def evidence(view: View, asset_id: AssetId) -> bool:
    """Whether Immich says that this asset was deleted."""
    asset = view.assets.get(asset_id)
    return asset_id in view.deleted if asset is None else asset.status is not Status.ACTIVE


def ties(records: Iterable[Record], assets: Mapping[AssetId, Asset]) -> set[AssetId]:
    """The active assets that a record is tied to for the content that they hold."""
    active = {key: asset.sha1 for key, asset in assets.items() if asset.status is Status.ACTIVE}
    return {r.asset_id for r in records if r.asset_id is not None and active.get(r.asset_id) == r.content.sha1}


def edited(view: View, path: RelPath) -> bool:
    """Whether the file at this path is known to hold another content than is recorded."""
    content = view.files[path].content
    return content is not None and content != view.records[path].content


def settle(world: World, rounds: int) -> list[tuple[Action, ...]]:
    """Decide and carry out until nothing is left to do; fails where that takes more rounds."""
    plans = []
    for _ in range(rounds):
        plans.append(reconcile(world.view()))
        if not moves(plans[-1]):
            return plans
        world.apply(plans[-1])
    left = moves(reconcile(world.view()))
    assert not left, f"still to do after {rounds} rounds: {left}"
    return plans


def assert_nothing_lost(view: View, world: World) -> None:
    """Every picture that was on disk or active still is, or its removal was asked for and it can be had back."""
    before = World.of(view)
    sha1s = before.active() | {content.sha1 for content in before.on_disk()}
    for sha1 in sha1s - world.active() - {content.sha1 for content in world.on_disk()}:
        ids = {record.asset_id for record in view.records.values() if record.content.sha1 == sha1}
        ids |= {asset.id for asset in view.assets.values() if asset.sha1 == sha1}
        deleted_in_immich = any(evidence(view, asset_id) for asset_id in ids if asset_id is not None)
        in_quarantine = sha1 in {content.sha1 for content in world.in_quarantine()}
        tied = [path for path, record in view.records.items() if record.content.sha1 == sha1]
        deleted_in_folder = view.healthy and bool(tied) and sha1 not in {c.sha1 for c in before.on_disk()}
        in_trash = sha1 in world.trashed()
        assert (in_quarantine and deleted_in_immich) or (in_trash and deleted_in_folder), f"lost {sha1.hex()}"


@many
@given(views(known=True))
def test_applied_to_its_own_result_it_plans_nothing(view: View) -> None:
    world = World.of(view)
    plan = reconcile(view)
    world.apply(plan)
    waiting = {Why.GRACE, Why.TWIN, Why.EDITED, Why.MOVING}
    waits = any(isinstance(action, Leave) and action.why in waiting for action in plan)
    # What is at a path, or comes back to it, is decided about after what was there before.
    taken = view.files.keys() | {entry.path for entry in view.entries}
    waits |= any(isinstance(a, Trash | Drop) and taken & {*paths_of(a)} for a in plan)
    bears_on_others = Upload | Restore | Replace | PutBack | Quarantine | NoteGone | PutOnHold
    # The record of what is missing may be needed meanwhile, in a root that is not healthy.
    live_photo = any(asset.video_id is not None for asset in view.assets.values())
    if view.healthy and not live_photo and not waits and not any(isinstance(a, bears_on_others) for a in plan):
        assert moves(reconcile(world.view())) == []
    followed = settle(world, ROUNDS)
    on_its_way = any(isinstance(action, PutOnHold) and action.hold is not None for action in plan)
    if view.healthy and not on_its_way and not live_photo and not waits:
        # What has become active or is there again bears on other paths, which follow it next.
        late = [action for follow_up in followed for action in moves(follow_up)]
        assert not [action for action in late if isinstance(action, Upload | Restore | Quarantine)]


@many
@given(views())
def test_what_has_to_be_hashed_first_settles_soon(view: View) -> None:
    settle(World.of(view), ROUNDS)


@many
@given(views())
def test_once_settled_a_fresh_look_changes_nothing(view: View) -> None:
    world = World.of(view)
    settle(world, ROUNDS)
    world.forget_contents()
    for _ in range(2):
        plan = moves(reconcile(world.view()))
        assert {type(action) for action in plan} <= {Identify}
        world.apply(plan)


@many
@given(st.data(), views())
def test_the_order_of_what_was_observed_does_not_matter(data: st.DataObject, view: View) -> None:
    shuffled = replace(
        view,
        files=dict(data.draw(st.permutations(list(view.files.items())))),
        records=dict(data.draw(st.permutations(list(view.records.items())))),
        assets=dict(data.draw(st.permutations(list(view.assets.items())))),
        entries=tuple(data.draw(st.permutations(view.entries))),
    )
    assert reconcile(shuffled) == reconcile(view)


@many
@given(views())
def test_nothing_is_lost(view: View) -> None:
    world = World.of(view)
    for _ in range(5):
        world.apply(reconcile(world.view()))
        assert_nothing_lost(view, world)


@many
@given(views())
def test_an_active_asset_keeps_a_record_that_ties_it(view: View) -> None:
    """Else a deletion in the folder would never reach it, should requests fail and the rest of the plan not."""
    world = World.of(view)
    plan = [action for action in reconcile(view) if not isinstance(action, Upload | Replace | Restore | Trash)]
    kept = {Why.RELEASED, Why.PROTECTED, Why.KEPT_BY_POLICY, Why.REJECTED, Why.MOTION_PART, Why.EXCLUDED}
    ended = {view.records[a.path].asset_id for a in plan if isinstance(a, Drop) and a.why in kept}
    excluded = {truth(view.files[path].stat) for path in view.excluded & view.files.keys()}
    ended |= {record.asset_id for record in view.records.values() if record.content in excluded}
    # Nobody is asked any more about what was at a path that another picture came to.
    ended |= {view.records[a.path].asset_id for a in plan if isinstance(a, Leave) and a.why is Why.HELD}
    # The video of a live photo that was trashed: it goes and comes back with its still.
    videos = {a.content.sha1 for a in plan if isinstance(a, Quarantine) and a.why is Why.STILL_GONE}
    ended |= {asset.id for asset in view.assets.values() if asset.sha1 in videos}
    before = ties(view.records.values(), view.assets)
    world.apply(plan)
    assert before - ended <= ties(world.records.values(), world.assets)


@many
@given(views())
def test_a_file_leaves_only_on_evidence(view: View) -> None:
    active = {asset.sha1: asset for asset in view.assets.values() if asset.status is Status.ACTIVE}
    for action in reconcile(view):
        if not isinstance(action, Quarantine):
            continue
        assert view.healthy
        assert view.owner_active
        assert view.unfamiliar is not Why.SETTINGS_CHANGED or action.approved
        assert view.unfamiliar is None or action.why is not Why.TRASHED_BEFORE or action.approved
        assert view.policies.of(action.path) is not Policy.BACKUP
        assert action.path not in view.excluded
        assert evidence(view, action.asset_id)
        assert action.content == truth(view.files[action.path].stat)
        record = view.records.get(action.path)
        hold = record.hold if record is not None and record.content == action.content else None
        assert action.approved is (hold is not None)
        assert hold is None or hold.decision is Decision.APPROVED
        own = active.get(action.content.sha1)
        if own is not None:  # the motion part of a live photo whose still is gone
            assert own.hidden
            assert view.assets[action.asset_id].video_id == own.id
            continue
        tied = {record.asset_id for record in view.records.values() if record.content == action.content}
        asset = view.assets.get(action.asset_id)
        stayed = asset is not None and (
            asset.deleted_ns is None or view.files[action.path].stat.ctime_ns <= asset.deleted_ns
        )
        assert action.asset_id in tied or stayed or action.approved


@many
@given(views())
def test_an_asset_is_trashed_only_if_all_its_paths_are_gone_for_good(view: View) -> None:
    held = {content.sha1 for content in World.of(view).on_disk()}
    for action in reconcile(view):
        if not isinstance(action, Trash):
            continue
        asset = view.assets[action.asset_id]
        assert asset.status is Status.ACTIVE
        assert view.healthy
        assert view.owner_active
        held_back = view.unfamiliar is Why.SETTINGS_CHANGED or not view.trash_enabled
        assert action.approved or not held_back
        decisions = {record.hold.decision for path in action.paths if (record := view.records[path]).hold is not None}
        assert decisions <= {Decision.APPROVED}
        assert action.approved is bool(decisions)
        assert {view.policies.of(path) for path in action.paths} == {Policy.MIRROR}
        assert not view.excluded.intersection(action.paths)
        assert asset.sha1 not in held
        assert not asset.hidden
        assert not asset.protected
        assert view.keep_created_before_ns is None or asset.created_ns > view.keep_created_before_ns
        assert action.paths
        tied = {path for path, record in view.records.items() if record.asset_id == asset.id}
        gone = {path for path in tied if path not in view.files or edited(view, path)}
        # What was renamed there is known without being read.
        other = {p for p in tied & view.files.keys() if truth(view.files[p].stat) != view.records[p].content}
        assert gone <= set(action.paths) <= gone | other
        assert not gone & view.in_grace
        assert not {view.records[path].stat.size for path in gone} & view.unidentified_sizes


@many
@given(views())
def test_an_edit_trashes_the_old_asset_only_if_nothing_else_needs_it(view: View) -> None:
    plan = reconcile(view)
    for action in plan:
        if not isinstance(action, Replace):
            continue
        old, record = view.assets[action.old], view.records[action.path]
        assert old.status is Status.ACTIVE
        assert view.healthy
        assert truth(view.files[action.path].stat) == action.content != record.content
        if action.trash_old:
            assert view.may_copy
            assert view.trash_enabled
            assert not old.hidden
            assert old.sha1 not in {content.sha1 for content in World.of(view).on_disk()} or view.files[
                action.path
            ].content != truth(view.files[action.path].stat)
            needing = [p for p, r in view.records.items() if r.asset_id == old.id and p in view.files]
            assert needing == [action.path]
    trashed = [action.old for action in plan if isinstance(action, Replace) and action.trash_old]
    assert len(trashed) == len(set(trashed))


@many
@given(views())
def test_quarantine_is_purged_only_of_what_immich_deleted_for_good(view: View) -> None:
    for action in reconcile(view):
        if isinstance(action, Purge):
            assert view.healthy
            assert action.entry.gone
            assert action.entry.asset_id not in view.assets
            assert view.purge_before_ns is not None
            assert action.entry.at_ns < view.purge_before_ns


@many
@given(views())
def test_what_waits_for_a_person_is_not_touched(view: View) -> None:
    waiting = {
        (path, record.content)
        for path, record in view.records.items()
        if record.hold is not None and record.hold.decision is Decision.WAITING
    }
    for action in reconcile(view):
        match action:
            case Trash():
                removed = {(path, view.records[path].content) for path in action.paths}
            case Quarantine():
                removed = {(action.path, action.content)}
            case _:
                removed = set()
        assert not removed & waiting


@many
@given(views())
def test_a_picture_that_is_to_be_put_back_is_not_trashed(view: View) -> None:
    plan = reconcile(view)
    put_back = {action.tie for action in plan if isinstance(action, PutBack)}
    assert not put_back & {action.asset_id for action in plan if isinstance(action, Trash)}


@many
@given(views())
def test_nothing_is_uploaded_that_immich_has(view: View) -> None:
    plan = [action for action in reconcile(view) if isinstance(action, Upload)]
    for action in plan:
        assert action.content.sha1 not in {asset.sha1 for asset in view.assets.values()}
        assert action.content not in {each.content for each in reconcile(view) if isinstance(each, Replace)}
        assert {truth(view.files[path].stat) for path in action.paths} == {action.content}
    assert len({action.content for action in plan}) == len(plan)


@many
@given(views())
def test_a_path_has_one_action_and_an_asset_one_trash(view: View) -> None:
    plan = reconcile(view)
    assert max(Counter(path for action in plan for path in paths_of(action)).values(), default=1) == 1
    trashed = Counter(action.asset_id for action in plan if isinstance(action, Trash))
    assert max(trashed.values(), default=1) == 1
    entries = Counter(action.entry.id for action in plan if isinstance(action, PutBack | Supersede | NoteGone | Purge))
    assert max(entries.values(), default=1) == 1


@many
@given(views())
def test_the_files_of_an_owner_who_is_not_active_are_left_alone(view: View) -> None:
    assert reconcile(replace(view, owner_active=False)) == ()


@many
@given(views())
def test_in_a_root_that_is_not_healthy_nothing_is_taken_for_deleted(view: View) -> None:
    plan = reconcile(replace(view, healthy=False))
    assert not [action for action in plan if isinstance(action, Quarantine | Trash)]
