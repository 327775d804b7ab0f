"""Rows 1 to 10: a file is on disk."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from immich_dbsync.core.actions import (
    Action,
    Adopt,
    Identify,
    Leave,
    PutOnHold,
    Quarantine,
    Refresh,
    Replace,
    Restore,
    Upload,
    Why,
)
from immich_dbsync.core.facts import Facts
from immich_dbsync.model import Asset, AssetId, Content, Decision, Direction, File, Policy, Record, RelPath, Status


def presence(facts: Facts) -> tuple[Action, ...]:
    """What is to be done about the files that are there, in the byte order of their paths, uploads last."""
    uploads: dict[Content, list[RelPath]] = defaultdict(list)
    planned: list[Action] = []
    replaced: set[Content] = set()
    for path, content in facts.contents.items():
        action = _Present(facts, facts.view.files[path], content).action()
        if isinstance(action, Upload):
            uploads[action.content].append(path)
        elif isinstance(action, Replace) and action.content in replaced:
            planned.append(Leave(path, Why.TWIN, content=action.content))
        elif action is not None:
            planned.append(action)
            replaced |= {action.content} if isinstance(action, Replace) else set()
    for content, paths in uploads.items():
        if content in replaced:  # sent by that; what was not edited is then adopted
            planned += (Leave(path, Why.TWIN, content=content) for path in paths)
        else:
            planned.append(Upload(tuple(paths), content))
    planned = [*_without_removals_of_what_comes_back(facts, planned)]
    return tuple(_behind_what_keeps_the_old_asset(facts, planned))


def _without_removals_of_what_comes_back(facts: Facts, planned: Sequence[Action]) -> Iterator[Action]:
    """Keep files where another path brings their asset back (rows 3 and 9)."""
    restored = {action.asset_id for action in planned if isinstance(action, Restore)}
    restored |= {
        asset.id
        for action in planned
        if isinstance(action, Replace) and (asset := facts.by_sha1.get(action.content.sha1)) is not None
    }
    for action in planned:
        if not isinstance(action, Quarantine | PutOnHold) or action.asset_id not in restored:
            yield action


def _behind_what_keeps_the_old_asset(facts: Facts, planned: Sequence[Action]) -> Iterator[Action]:
    """End no path's tie to an active asset whose content lies elsewhere before it is tied there, too."""
    ties = {action.path for action in planned if isinstance(action, Adopt | Refresh)}
    for action in planned:
        if not isinstance(action, Adopt | Replace | Quarantine | PutOnHold):
            yield action
            continue
        content = facts.to_tie_first(action.path, action.content)
        tie = min(facts.holders(content) & ties, default=None) if content is not None else None
        if content is None or (tie is not None and isinstance(action, Replace)):
            yield action  # an edit comes later anyway, and is decided again then
        elif tie is not None and isinstance(action, Adopt):
            yield replace(action, behind=tie)
        else:
            yield Leave(action.path, Why.MOVING)


class _Present:
    """One file, its record and what follows."""

    def __init__(self, facts: Facts, file: File, content: Content | None) -> None:
        self.facts, self.view, self.file, self.path = facts, facts.view, file, file.path
        self.content = content
        self.own = facts.view.records.get(file.path)

    def action(self) -> Action | None:
        content, own = self.content, self.own
        if self.path in self.view.excluded:
            return Leave(self.path, Why.EXCLUDED)
        if content is None:
            return Identify(self.path)
        if own is not None and own.damaged == content.xxh3 and own.content != content:
            return Leave(self.path, Why.DAMAGED)
        if own is not None and own.problem is not None and own.content == content:
            action = self._untied(content)
            return action if isinstance(action, Adopt) else Leave(self.path, Why.REFUSED, content=content)
        record = own
        if record is None:
            moved = self.facts.displaced(self.file)
            record = moved if moved is not None and moved.content == content else None
        if record is None or record.asset_id is None:
            return self._untied(content)
        if record.content != content:
            return self._edited(content, record)
        return self._tied(content, record, record.asset_id)

    # --- rows 1 to 5: no record says what it is ---

    def _untied(self, content: Content) -> Action:
        asset = self.facts.by_sha1.get(content.sha1)
        if asset is None:
            return Upload((self.path,), content)  # row 1
        match asset.status:
            case Status.ACTIVE:
                return self._motion_part(content, asset) or Adopt(self.path, content, asset.id)  # row 2
            case Status.DELETED:
                return Leave(self.path, Why.BEING_DELETED, asset.id, content)  # row 5
            case Status.TRASHED if self.facts.came_after(self.file, asset, another=True):
                return Restore(self.path, content, asset.id)  # row 3
            case Status.TRASHED:
                return self._remove(content, asset, asset.id, Why.TRASHED_BEFORE)  # row 4

    # --- rows 6 to 8: the file is as recorded ---

    def _tied(self, content: Content, record: Record, asset_id: AssetId) -> Action | None:
        asset = self.facts.asset_of(record)
        if asset is None:
            if asset_id in self.view.deleted and content.sha1 not in self.facts.by_sha1:
                return self._remove(content, None, asset_id, Why.DELETED, record)  # row 7
            return self._untied(content)  # row 8
        match asset.status:
            case Status.ACTIVE if (motion := self._motion_part(content, asset)) is not None:
                return motion
            case Status.ACTIVE if record.path != self.path:
                return Adopt(self.path, content, asset_id)  # row 2, moved
            case Status.ACTIVE if self._to_refresh(record):
                return Refresh(self.path, content, asset_id)  # row 6, touched
            case Status.ACTIVE:
                return None  # row 6
            case Status.DELETED:
                return self._remove(content, asset, asset_id, Why.DELETED, record)  # row 7
            case Status.TRASHED:
                another = record.path == self.path and record.stat.inode != self.file.stat.inode
                if self.facts.came_after(self.file, asset, another=another):
                    return Restore(self.path, content, asset_id)  # row 3
                return self._remove(content, asset, asset_id, Why.TRASHED, record)  # row 7

    def _to_refresh(self, record: Record) -> bool:
        return record.stat != self.file.stat or record.racy or record.hold is not None

    def _motion_part(self, content: Content, video: Asset) -> Action | None:
        """Row 7 for a live photo's video, whose own asset stays active while its still is in the trash."""
        still = self.facts.lost_still(video)
        if still is None:
            return None
        own = self.own
        there_before = own is not None and own.stat.inode == self.file.stat.inode
        since = own.stat.ctime_ns if own is not None and there_before else self.file.stat.ctime_ns
        if still.deleted_ns is not None and since > still.deleted_ns:
            return None  # it came after, as its still may be about to
        return self._remove(content, video, still.id, Why.STILL_GONE)

    # --- rows 4 and 7: what stands between the evidence and the removal ---

    def _remove(
        self, content: Content, asset: Asset | None, evidence: AssetId, why: Why, record: Record | None = None
    ) -> Action:
        if not self.view.healthy:
            return Leave(self.path, Why.UNHEALTHY, evidence)
        # The record of what was here before an edit says nothing of this content, nor does a hold of its removal.
        own = self.own if self.own is not None and self.own.content == content else None
        record = record or own
        tied = asset.id if asset is not None else evidence
        if self.view.policies.of(self.path) is Policy.BACKUP:
            known = own is not None and own.asset_id is not None
            # Tied to the lost asset, so that it is not taken for a new file later.
            return Leave(self.path, Why.KEPT_BY_POLICY, evidence) if known else Refresh(self.path, content, tied)
        hold = record.hold if record is not None else None
        if hold is not None and record is not None and record.path != self.path:  # it was renamed meanwhile
            return PutOnHold(self.path, content, tied, Direction.IMMICH, Why.HELD, hold)
        match hold.decision if hold is not None else None:
            case Decision.WAITING:
                return Leave(self.path, Why.HELD, evidence)
            case Decision.REJECTED:
                return self._bring_back(content, asset)
            case Decision.APPROVED:
                return Quarantine(self.path, content, evidence, why, approved=True)
            case None if self.view.unfamiliar is Why.SETTINGS_CHANGED or (
                self.view.unfamiliar is Why.FIRST_SIGHT and why is Why.TRASHED_BEFORE
            ):
                return PutOnHold(self.path, content, tied, Direction.IMMICH, self.view.unfamiliar)
            case None if asset is not None and asset.status is Status.TRASHED and asset.deleted_ns is None:
                return PutOnHold(self.path, content, tied, Direction.IMMICH, Why.UNDATED)
            case None:
                return Quarantine(self.path, content, evidence, why)

    def _bring_back(self, content: Content, asset: Asset | None) -> Action:
        """A person rejected the removal: the picture stays, so its asset comes back."""
        if asset is None:
            return self._untied(content)
        match asset.status:
            case Status.TRASHED:
                return Restore(self.path, content, asset.id)
            case Status.DELETED:
                return Leave(self.path, Why.BEING_DELETED, asset.id, content)
            case Status.ACTIVE:  # a motion part: its still is brought back, and it is not removed
                return Leave(self.path, Why.REJECTED, asset.id)

    # --- rows 9 and 10: the file is another than recorded ---

    def _edited(self, content: Content, record: Record) -> Action | None:
        old, new = self.facts.asset_of(record), self.facts.by_sha1.get(content.sha1)
        elsewhere = self.facts.held_elsewhere(record.content, self.path)
        if new is not None and new.status is Status.ACTIVE and elsewhere:
            # Row 2: swapped or copied over; the old content has a path.
            return self._motion_part(content, new) or Adopt(self.path, content, new.id)
        if old is None or old.status is not Status.ACTIVE:
            return self._untied(content)  # row 10
        if self.path in self.facts.gone:
            return None  # row 11 for what was here before, then row 4 for what is here now
        if not self.view.healthy:
            return Leave(self.path, Why.UNHEALTHY, old.id)
        if new is not None and new.status is Status.DELETED:
            return Leave(self.path, Why.BEING_DELETED, new.id)
        if record.stat.size in self.facts.unidentified and not elsewhere:
            return Leave(self.path, Why.GRACE, old.id)  # the old content may be about to be found at another path
        # Another path of the old asset that is there was edited too, or will be looked at: the last one trashes it.
        needed = elsewhere or self.facts.tied_elsewhere(old.id, self.path) or self.facts.comes_back(old.id)
        keeps = self.view.policies.of(self.path) is Policy.BACKUP or not self.view.trash_enabled or old.hidden
        undecided = record.hold is not None and record.hold.decision is not Decision.APPROVED
        trash_old = self.view.may_copy and not needed and not keeps and not undecided
        return Replace(self.path, content, old.id, trash_old, self.view.may_copy)  # row 9
