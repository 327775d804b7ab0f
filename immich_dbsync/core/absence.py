"""Rows 11 to 14: a recorded file is missing."""

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set

from immich_dbsync.core.actions import (
    Action,
    Adopt,
    Drop,
    Leave,
    PutBack,
    PutOnHold,
    Quarantine,
    Refresh,
    Replace,
    Trash,
    Why,
)
from immich_dbsync.core.facts import Facts
from immich_dbsync.model import Asset, AssetId, Content, Decision, Direction, Hold, Policy, Record, RelPath, Status


def absence(facts: Facts, present: Sequence[Action], entries: Sequence[Action]) -> tuple[Action, ...]:
    """What is to be done about missing files, knowing what will be done about those that are there."""
    return tuple(_Absent(facts, present, entries).actions())


class _Absent:
    def __init__(self, facts: Facts, present: Sequence[Action], entries: Sequence[Action]) -> None:
        self.facts, self.view = facts, facts.view
        self.edited = {action.path for action in present if isinstance(action, Replace)}
        self.ties = {action.path for action in present if isinstance(action, Adopt | Refresh)}
        # What a moved file's fate is decided by, and what is about to be there again.
        self.pending = {action.content for action in present if isinstance(action, Quarantine | PutOnHold)}
        self.pending |= {action.entry.content for action in entries if isinstance(action, PutBack)}
        self.moves: dict[tuple[Content, AssetId], tuple[bool, RelPath | None]] = {}  # as far as asked

    def actions(self) -> Iterator[Action]:
        view = self.view
        lost: dict[AssetId, list[RelPath]] = defaultdict(list)
        for path, record in self.facts.gone.items():
            asset = self.facts.asset_of(record)
            why = self._why_not_yet(path, record)
            held = bool(self.facts.holders(record.content))
            if path in view.excluded and view.healthy:
                yield Drop(path, Why.EXCLUDED)
            elif record.asset_id is None and view.healthy:
                yield Drop(path, Why.NEVER_TIED)
            elif why is Why.GRACE and asset is not None and asset.status is Status.ACTIVE and held:
                yield self._moved(record, asset)  # nothing to wait for
            elif why is not None:
                yield Leave(path, why)
            elif asset is None or asset.status is not Status.ACTIVE:
                yield Drop(path, Why.ASSET_GONE)  # row 14
            elif held:
                yield self._moved(record, asset)
            else:
                lost[asset.id].append(path)
        for asset_id, paths in sorted(lost.items()):
            yield from self._last_path_gone(view.assets[asset_id], tuple(paths))

    def _why_not_yet(self, path: RelPath, record: Record) -> Why | None:
        """Why nothing can be said yet about a file that is missing; None where it can."""
        if not self.view.healthy:
            return Why.UNHEALTHY
        waiting = path in self.view.in_grace or record.stat.size in self.facts.unidentified
        return Why.GRACE if waiting or record.content in self.pending else None

    def _moved(self, record: Record, asset: Asset) -> Action:
        """Row 12: another path holds the content. This record ends once that one is tied to the asset."""
        key = record.content, asset.id
        if key not in self.moves:  # thousands of copies may be missing
            held = self.facts.holders(record.content)
            self.moves[key] = self.facts.untied(*key), min(held & self.ties, default=None)
        untied, tied_now = self.moves[key]
        if not untied:
            return Drop(record.path, Why.MOVED)
        if tied_now is not None:
            return Drop(record.path, Why.MOVED, behind=tied_now)
        return Leave(record.path, Why.MOVING)

    def _last_path_gone(self, asset: Asset, paths: tuple[RelPath, ...]) -> Iterator[Action]:
        """Rows 11 and 13: no path holds the active asset's content any more."""
        others = self.facts.tied(asset.id) - set(paths)
        if others:  # another of its paths went later, or was edited: together or not at all
            edited = not others.isdisjoint(self.edited)
            yield from (Leave(path, Why.EDITED if edited else Why.GRACE) for path in paths)
        elif (keep := self._kept(asset, paths)) is not None:
            yield from (Drop(path, keep) for path in paths)  # row 13
        else:
            yield from self._removal(asset, paths)

    def _kept(self, asset: Asset, paths: Sequence[RelPath]) -> Why | None:
        """Row 13: what keeps the active asset of missing files; None where it is to be trashed."""
        limit = self.view.keep_created_before_ns
        if asset.hidden:
            return Why.MOTION_PART
        if limit is not None and asset.created_ns <= limit:
            return Why.RELEASED
        if asset.protected:
            return Why.PROTECTED
        if any(self.view.policies.of(path) is not Policy.MIRROR for path in paths):
            return Why.KEPT_BY_POLICY
        if Decision.REJECTED in self._decisions(paths):
            return Why.REJECTED
        return None

    def _removal(self, asset: Asset, paths: tuple[RelPath, ...]) -> Iterator[Action]:
        """Row 11, and what stands between the decision and the request."""
        decisions = self._decisions(paths)
        if Decision.WAITING in decisions:
            # A copy that went later waits with the first.
            hold = next(hold for path in paths if (hold := self.facts.hold_of(path)) is not None)
            for path in paths:
                if self.facts.hold_of(path) is not None:
                    yield Leave(path, Why.HELD, asset.id)
                else:
                    yield self._on_hold(path, asset, Why.HELD, hold)
        elif Decision.APPROVED in decisions:
            yield Trash(asset.id, paths, approved=True)
        elif self.view.unfamiliar is Why.SETTINGS_CHANGED:
            yield from (self._on_hold(path, asset, Why.SETTINGS_CHANGED) for path in paths)
        elif not self.view.trash_enabled:
            yield from (self._on_hold(path, asset, Why.TRASH_OFF) for path in paths)
        else:
            yield Trash(asset.id, paths)

    def _decisions(self, paths: Sequence[RelPath]) -> Set[Decision]:
        return {hold.decision for path in paths if (hold := self.facts.hold_of(path)) is not None}

    def _on_hold(self, path: RelPath, asset: Asset, why: Why, hold: Hold | None = None) -> PutOnHold:
        content = self.view.records[path].content
        return PutOnHold(path, content, asset.id, Direction.FOLDER, why, hold)
