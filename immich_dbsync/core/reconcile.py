"""The decision table: folder, record and Immich as a three-way merge with the record as its base.

``reconcile`` is pure. What was observed goes in as a View, what is to be done comes out as actions; the order in which
things were observed does not matter. The numbers in the comments are the rows of the table in docs/decisions.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

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
from immich_dbsync.model import Asset, AssetId, Content, Entry, File, Record, RelPath, Sha1, Stat, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was observed of one owner: some paths, and all that bears on their content.

    It must be closed: it holds every record with the content of any record or file in it, whatever is on disk at
    those records' paths, and every asset of the owner with one of those ids or contents.
    """

    files: Mapping[RelPath, File] = field(default_factory=dict)  # on disk now
    records: Mapping[RelPath, Record] = field(default_factory=dict)
    assets: Mapping[AssetId, Asset] = field(default_factory=dict)
    deleted: frozenset[AssetId] = frozenset()  # rows that are gone and of which an event or the audit says: deleted
    trashed_by_us: frozenset[AssetId] = frozenset()  # in the trash because their files were missing, by our request
    entries: tuple[Entry, ...] = ()  # in quarantine
    in_grace: frozenset[RelPath] = frozenset()  # gone, but not for long enough
    unidentified_sizes: frozenset[int] = frozenset()  # of files outside this view that wait to be hashed
    owner_active: bool = True
    healthy: bool = True  # the root is the one we know: what is missing from it was deleted
    first_sight: bool = False  # the root's first scan is not over
    trash_enabled: bool = True
    keep_created_before_ns: int | None = None  # the delete threshold as an instant


def reconcile(view: View) -> tuple[Action, ...]:
    """Decide what is to be done; a path has at most one action, an asset at most one Trash."""
    if not view.owner_active:  # row 17
        return ()
    return _Merge(view).actions()


class _Merge:
    """One decision: the view and what follows from it once."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.by_sha1: dict[Sha1, Asset] = {asset.sha1: asset for asset in view.assets.values()}
        self.gone = {path: record for path, record in sorted(view.records.items()) if path not in view.files}
        self.vanished = _by_inode(self.gone.values())
        self.contents = {path: self._content(file) for path, file in sorted(view.files.items())}
        self.unidentified = view.unidentified_sizes | {
            view.files[path].stat.size for path, content in self.contents.items() if content is None
        }

    def actions(self) -> tuple[Action, ...]:
        present = self._presence()
        entries = tuple(self._entries()) if self.view.healthy else ()
        # A path's old record ends before a file is put back there.
        return (*present, *self._absence(present, entries), *entries)

    # --- a file is on disk ---

    def _presence(self) -> tuple[Action, ...]:
        uploads: dict[Content, list[RelPath]] = defaultdict(list)
        planned: list[Action] = []
        for path, content in self.contents.items():
            action = Identify(path) if content is None else self._present(self.view.files[path], content)
            if isinstance(action, Upload):
                uploads[action.content].append(path)
            elif action is not None:
                planned.append(action)
        planned += (Upload(tuple(paths), content) for content, paths in uploads.items())
        return tuple(self._guarded(planned))

    def _guarded(self, planned: Sequence[Action]) -> Iterator[Action]:
        """Keep files where a path brings their asset back (row 3), and every file of a root that is not healthy."""
        restored = {action.asset_id for action in planned if isinstance(action, Restore)}
        for action in planned:
            if not isinstance(action, Quarantine):
                yield action
            elif not self.view.healthy:
                yield Leave(action.path, Why.UNHEALTHY, action.asset_id)
            elif action.asset_id not in restored:
                yield action

    def _content(self, file: File) -> Content | None:
        """The file's content as far as it is known without reading it."""
        if file.content is not None:
            return file.content
        record = self.view.records.get(file.path) or self._moved_from(file)
        if record is None or record.racy:
            return None
        unchanged = record.stat == file.stat if record.path == file.path else record.stat.same_file(file.stat)
        return record.content if unchanged else None

    def _moved_from(self, file: File) -> Record | None:
        """The record of the path that this file was at before, by its inode; None where it did not move."""
        return None if file.path in self.view.records else self.vanished.get(_key(file.stat))

    def _present(self, file: File, content: Content) -> Action | None:
        record = self.view.records.get(file.path)
        if record is not None and record.problem is not None and record.content == content:
            return self._held_back(file, record, record.problem)
        if record is None:
            moved = self._moved_from(file)
            record = moved if moved is not None and moved.content == content else None
        if record is None or record.asset_id is None:
            return self._untied(file, content)
        if record.content != content:
            return self._edited(file, content, record)
        return self._tied(file, record, record.asset_id)

    def _held_back(self, file: File, record: Record, problem: str) -> Action:
        """A file that Immich refused, or that was there at first sight with its asset in the trash."""
        action = self._untied(file, record.content)
        if problem != Why.FIRST_SIGHT.value:
            return action if isinstance(action, Adopt) else Leave(file.path, Why.REFUSED, content=record.content)
        if not isinstance(action, Quarantine | Restore):
            return action
        came_back = action.asset_id in self.view.trashed_by_us or record.stat.inode != file.stat.inode
        if isinstance(action, Restore) and came_back:
            return action
        return Leave(file.path, Why.FIRST_SIGHT, action.asset_id, record.content)  # touched at most

    def _tied(self, file: File, record: Record, asset_id: AssetId) -> Action | None:
        asset = self._asset(record)
        if asset is None:
            if asset_id in self.view.deleted and record.content.sha1 not in self.by_sha1:
                return Quarantine(file.path, record.content, asset_id, Why.DELETED)  # row 7
            return self._untied(file, record.content)  # row 8
        match asset.status:
            case Status.ACTIVE if record.path != file.path:
                return Adopt(file.path, record.content, asset_id)  # row 2, moved
            case Status.ACTIVE if record.stat != file.stat or record.racy:
                return Refresh(file.path, record.content, asset_id)  # row 6, touched
            case Status.ACTIVE:
                return None  # row 6
            case Status.DELETED:
                return Quarantine(file.path, record.content, asset_id, Why.DELETED)  # row 7
            case Status.TRASHED:
                another = record.path == file.path and record.stat.inode != file.stat.inode
                if self._came_after(file, asset, another=another):
                    return Restore(file.path, record.content, asset_id)  # row 3
                return Quarantine(file.path, record.content, asset_id, Why.TRASHED)  # row 7

    def _asset(self, record: Record) -> Asset | None:
        """The asset a record is tied to; None where it is gone, or holds another content than it did."""
        asset = self.view.assets.get(record.asset_id) if record.asset_id is not None else None
        return asset if asset is not None and asset.sha1 == record.content.sha1 else None

    def _came_after(self, file: File, asset: Asset, *, another: bool) -> bool:
        """Whether the file came, or came back, after its asset was trashed.

        An asset that we trashed because its files were missing is brought back by any of them. Otherwise the file has
        to be ``another`` than was there when the asset was trashed, and later.
        """
        if asset.id in self.view.trashed_by_us:
            return True
        return another and asset.deleted_ns is not None and file.stat.ctime_ns > asset.deleted_ns

    def _edited(self, file: File, content: Content, record: Record) -> Action:
        old, new = self._asset(record), self.by_sha1.get(content.sha1)
        elsewhere = record.content in {held for path, held in self.contents.items() if path != file.path}
        if new is not None and new.status is Status.ACTIVE and elsewhere:
            return Adopt(file.path, content, new.id)  # row 2: swapped or copied over; the old content has a path
        if old is not None and old.status is Status.ACTIVE:
            return Leave(file.path, Why.EDITED)  # row 9
        return self._untied(file, content)  # row 10

    def _untied(self, file: File, content: Content) -> Action:
        asset = self.by_sha1.get(content.sha1)
        if asset is None:
            return Upload((file.path,), content)  # row 1
        match asset.status:
            case Status.ACTIVE:
                return Adopt(file.path, content, asset.id)  # row 2
            case Status.DELETED:
                return Leave(file.path, Why.BEING_DELETED, asset.id, content)  # row 5
            case Status.TRASHED if self._came_after(file, asset, another=True):
                return Restore(file.path, content, asset.id)  # row 3
            case Status.TRASHED if self.view.first_sight or asset.deleted_ns is None:
                return Leave(file.path, Why.FIRST_SIGHT, asset.id, content)
            case Status.TRASHED:
                return Quarantine(file.path, content, asset.id, Why.TRASHED_BEFORE)  # row 4

    # --- a file is in quarantine ---

    def _entries(self) -> Iterator[PutBack | Supersede]:
        back: set[tuple[RelPath, Content]] = set()
        for entry in sorted(self.view.entries, key=lambda entry: entry.id):
            asset = self.view.assets.get(entry.asset_id)
            if entry.superseded or asset is None or asset.status is not Status.ACTIVE:
                continue
            if entry.path in self.contents and self.contents[entry.path] is None:
                continue  # whether the same content is there shows once that file is identified
            there = self.contents.get(entry.path) == entry.content or (entry.path, entry.content) in back
            back.add((entry.path, entry.content))
            yield Supersede(entry) if there else PutBack(entry)  # row 15

    # --- a file is gone ---

    def _absence(self, present: Sequence[Action], entries: Sequence[PutBack | Supersede]) -> Iterator[Action]:
        edited = {action.path for action in present if isinstance(action, Leave) and action.why is Why.EDITED}
        held = {content for path, content in self.contents.items() if path not in edited}
        in_edited = {self.contents[path] for path in edited}
        # What a moved file's fate is decided by, and what is about to be there again.
        pending = {action.content for action in present if isinstance(action, Quarantine)}
        pending |= {action.entry.content for action in entries if isinstance(action, PutBack)}
        trash: dict[AssetId, list[RelPath]] = defaultdict(list)
        for path, record in self.gone.items():
            why = self._why_not_yet(path, record, pending)
            asset = self._asset(record)
            if record.asset_id is None and self.view.healthy:
                yield Drop(path, Why.NEVER_TIED)
            elif why is Why.GRACE and asset is not None and asset.status is Status.ACTIVE and record.content in held:
                yield Drop(path, Why.MOVED)  # row 12: nothing to wait for
            elif why is not None:
                yield Leave(path, why)
            elif asset is None or asset.status is not Status.ACTIVE:
                yield Drop(path, Why.ASSET_GONE)  # row 14
            elif record.content in held:
                yield Drop(path, Why.MOVED)  # row 12
            elif record.content in in_edited:
                yield Leave(path, Why.EDITED)
            elif (action := self._kept(path, asset)) is not None:
                yield action
            else:
                trash[asset.id].append(path)
        yield from self._trash(trash)

    def _why_not_yet(self, path: RelPath, record: Record, pending: Set[Content]) -> Why | None:
        """Why nothing can be said yet about a file that is missing; None where it can."""
        if not self.view.healthy:
            return Why.UNHEALTHY
        if path in self.view.in_grace or record.stat.size in self.unidentified or record.content in pending:
            return Why.GRACE
        return None

    def _kept(self, path: RelPath, asset: Asset) -> Action | None:
        """What keeps the active asset of a missing file; None where it is to be trashed."""
        if asset.hidden:
            return Drop(path, Why.MOTION_PART)
        limit = self.view.keep_created_before_ns
        if limit is not None and asset.created_ns <= limit:
            return Drop(path, Why.RELEASED)  # row 13
        return None if self.view.trash_enabled else Leave(path, Why.TRASH_OFF)

    def _trash(self, trash: Mapping[AssetId, Sequence[RelPath]]) -> Iterator[Action]:
        for asset_id, paths in sorted(trash.items()):
            tied = {path for path, record in self.view.records.items() if record.asset_id == asset_id}
            if tied == set(paths):
                yield Trash(asset_id, tuple(paths))  # row 11
            else:  # another of its paths went later, or was edited: together or not at all
                edited = any(path in self.view.files for path in tied)
                yield from (Leave(path, Why.EDITED if edited else Why.GRACE) for path in paths)


def _key(stat: Stat) -> tuple[int, int, int]:
    """What a rename keeps."""
    return stat.inode, stat.size, stat.mtime_ns


def _by_inode(records: Iterable[Record]) -> dict[tuple[int, int, int], Record]:
    """Records of missing files by what a rename keeps; where two of different content agree in it, neither.

    Hard links of one file may be among them: then one that is tied stands for all.
    """
    found: dict[tuple[int, int, int], Record] = {}
    ambiguous: set[tuple[int, int, int]] = set()
    for record in records:
        key = _key(record.stat)
        known = found.setdefault(key, record)
        if known.content != record.content:
            ambiguous.add(key)
        elif known.asset_id is None:
            found[key] = record
    return {key: record for key, record in found.items() if key not in ambiguous}
