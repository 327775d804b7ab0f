"""Promises of the decision table that hold in every world."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from immich_dbsync.model import AssetId, RelPath, Status
from tests.property.world import World, truth, views

many = settings(max_examples=700, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def moves(actions: Iterable[Action]) -> list[Action]:
    """The actions that do something."""
    return [action for action in actions if not isinstance(action, Leave)]


def paths_of(action: Action) -> tuple[RelPath, ...]:
    """The paths an action is planned for. What quarantine holds is at no path yet."""
    match action:
        case Upload() | Trash():
            return action.paths
        case PutBack() | Supersede():
            return ()
        case Identify() | Adopt() | Refresh() | Restore() | Quarantine() | Drop() | Leave():
            return (action.path,)


def evidence(view: View, asset_id: AssetId) -> bool:
    """Whether Immich says that this asset was deleted."""
    asset = view.assets.get(asset_id)
    return asset_id in view.deleted if asset is None else asset.status is not Status.ACTIVE


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
    waits = any(isinstance(action, Leave) and action.why is Why.GRACE for action in plan)
    if not waits and not any(isinstance(action, Upload | Restore | PutBack) for action in plan):
        assert moves(reconcile(world.view())) == []
    # What has become active or is there again bears on other paths, which are tied or dropped next.
    for follow_up in settle(world, 3):
        assert {type(action) for action in moves(follow_up)} <= {Adopt, Refresh, Drop, PutBack, Supersede}


@many
@given(views())
def test_what_has_to_be_hashed_first_settles_within_four_rounds(view: View) -> None:
    settle(World.of(view), 4)


@many
@given(views())
def test_once_settled_a_fresh_look_changes_nothing(view: View) -> None:
    world = World.of(view)
    settle(world, 4)
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
def test_a_file_leaves_only_on_evidence(view: View) -> None:
    active = {asset.sha1 for asset in view.assets.values() if asset.status is Status.ACTIVE}
    for action in reconcile(view):
        if not isinstance(action, Quarantine):
            continue
        assert view.healthy
        assert view.owner_active
        assert evidence(view, action.asset_id)
        assert action.content == truth(view.files[action.path].stat)
        assert action.content.sha1 not in active
        tied = {record.asset_id for record in view.records.values() if record.content == action.content}
        asset = view.assets.get(action.asset_id)
        stayed = asset is not None and (
            asset.deleted_ns is None or view.files[action.path].stat.ctime_ns <= asset.deleted_ns
        )
        assert action.asset_id in tied or stayed


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
        assert view.trash_enabled
        assert asset.sha1 not in held
        assert not asset.hidden
        assert view.keep_created_before_ns is None or asset.created_ns > view.keep_created_before_ns
        assert action.paths
        gone = {p for p, record in view.records.items() if record.asset_id == asset.id and p not in view.files}
        assert set(action.paths) == gone
        assert not gone & view.in_grace
        assert not {view.records[path].stat.size for path in gone} & view.unidentified_sizes


@many
@given(views())
def test_a_picture_that_is_to_be_put_back_is_not_trashed(view: View) -> None:
    plan = reconcile(view)
    put_back = {action.entry.asset_id for action in plan if isinstance(action, PutBack)}
    assert not put_back & {action.asset_id for action in plan if isinstance(action, Trash)}


@many
@given(views())
def test_nothing_is_uploaded_that_immich_has(view: View) -> None:
    plan = [action for action in reconcile(view) if isinstance(action, Upload)]
    for action in plan:
        assert action.content.sha1 not in {asset.sha1 for asset in view.assets.values()}
        assert {truth(view.files[path].stat) for path in action.paths} == {action.content}
    assert len({action.content for action in plan}) == len(plan)


@many
@given(views())
def test_a_path_has_one_action_and_an_asset_one_trash(view: View) -> None:
    plan = reconcile(view)
    assert max(Counter(path for action in plan for path in paths_of(action)).values(), default=1) == 1
    trashed = Counter(action.asset_id for action in plan if isinstance(action, Trash))
    assert max(trashed.values(), default=1) == 1
    entries = Counter(action.entry.id for action in plan if isinstance(action, PutBack | Supersede))
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
