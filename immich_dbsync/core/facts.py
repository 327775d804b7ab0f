"""What follows from a View at once, and is asked for by several rows of the decision table."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from immich_dbsync.core.view import View
from immich_dbsync.model import Asset, AssetId, Content, File, Hold, Record, RelPath, Sha1, Stat, Status

K = TypeVar("K")


class Facts:
    """A View and its lookups; nothing in it is decided yet.

    None of them costs more for a content that is at thousands of paths: each of these paths asks.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.by_sha1: dict[Sha1, Asset] = {asset.sha1: asset for asset in view.assets.values()}
        self._displaced = _by_inode(record for record in view.records.values() if self._left_its_path(record))
        self.contents = {path: self._content(file) for path, file in sorted(view.files.items())}
        self.gone = {
            path: record
            for path, record in sorted(view.records.items())
            if path not in view.files or self._left_by_an_edit(record)
        }
        self._holders = _sets((content, path) for path, content in self.contents.items() if content is not None)
        self._stills: dict[AssetId, list[Asset]] = defaultdict(list)
        for asset in sorted(view.assets.values(), key=lambda asset: asset.id):
            if asset.video_id is not None:
                self._stills[asset.video_id].append(asset)
        self._tied = _sets((r.asset_id, path) for path, r in view.records.items() if r.asset_id is not None)
        self._tied_files = {asset: paths & view.files.keys() for asset, paths in self._tied.items()}
        self._coming_back = {entry.asset_id for entry in view.entries if not entry.superseded}
        self.unidentified = view.unidentified_sizes | {
            view.files[path].stat.size for path, content in self.contents.items() if content is None
        }

    def _content(self, file: File) -> Content | None:
        """The file's content as far as it is known without reading it."""
        if file.content is not None:
            return file.content
        own = self.view.records.get(file.path)
        if own is not None and own.stat.inode == file.stat.inode:
            return own.content if own.stat == file.stat and not own.racy else None
        record = self.displaced(file)
        return record.content if record is not None and not record.racy else None

    def _left_its_path(self, record: Record) -> bool:
        """Whether the path is missing now or holds another file than was recorded."""
        there = self.view.files.get(record.path)
        return there is None or there.stat.inode != record.stat.inode

    def _left_by_an_edit(self, record: Record) -> bool:
        """Whether another content is at the path, whose own asset was deleted in Immich after it came there.

        That content is to go (row 4), so it takes nobody's place: what was there before is missing like any other.
        """
        file, content = self.view.files[record.path], self.contents[record.path]
        if content is None or self.overwritten(record.path, content) is None:
            return False
        if record.path in self.view.excluded or record.damaged == content.xxh3:
            return False
        new = self.by_sha1.get(content.sha1)
        return new is not None and new.status is Status.TRASHED and not self.came_after(file, new, another=True)

    def overwritten(self, path: RelPath, content: Content) -> Asset | None:
        """The active asset that the path's record is tied to, where this content at the path is another than its."""
        record = self.view.records.get(path)
        asset = self.asset_of(record) if record is not None and record.content != content else None
        return asset if asset is not None and asset.status is Status.ACTIVE else None

    def to_tie_first(self, path: RelPath, content: Content) -> Content | None:
        """What was at the path before this content, where it lies elsewhere now and is tied to its asset here only."""
        old = self.overwritten(path, content)
        before = self.view.records[path].content if old is not None else None
        return before if old is not None and before is not None and self.untied(before, old.id) else None

    def came_after(self, file: File, asset: Asset, *, another: bool) -> bool:
        """Whether the file came, or came back, after its asset was trashed.

        An asset that we trashed because its files were missing is brought back by any of them. Otherwise the file has
        to be ``another`` than was there when the asset was trashed, and later.
        """
        if asset.id in self.view.trashed_by_us:
            return True
        return another and asset.deleted_ns is not None and file.stat.ctime_ns > asset.deleted_ns

    def displaced(self, file: File) -> Record | None:
        """The record of the path that this very file was at before it was renamed; None where there is none.

        Its inode, size and mtime tell, and that it is not at that path any more. An inode that was made after the
        record is another file's, which got the number of the first once that was deleted.
        """
        record = self._displaced.get(_key(file.stat))
        if record is None or record.path == file.path:
            return None
        return None if file.born_ns is not None and file.born_ns > record.stat.ctime_ns else record

    def asset_of(self, record: Record) -> Asset | None:
        """The asset a record is tied to; None where it is gone, or holds another content than it did."""
        asset = self.view.assets.get(record.asset_id) if record.asset_id is not None else None
        return asset if asset is not None and asset.sha1 == record.content.sha1 else None

    def holders(self, content: Content) -> frozenset[RelPath]:
        """The paths on disk that hold this content."""
        return self._holders.get(content, frozenset())

    def held_elsewhere(self, content: Content, path: RelPath) -> bool:
        """Whether another path on disk than this one holds the content."""
        holders = self.holders(content)
        return len(holders) > (path in holders)

    def untied(self, content: Content, asset_id: AssetId) -> bool:
        """Whether paths on disk hold the content of this asset, and none of them is tied to it yet, though one will be.

        Until then no record may end that ties the asset: what left the folder in that moment would be nobody's.
        """
        holders = self.holders(content)
        return holders.isdisjoint(self.tied(asset_id)) and not holders <= self.view.excluded

    def tied(self, asset_id: AssetId) -> frozenset[RelPath]:
        """The paths, there or missing, whose records are tied to this asset."""
        return self._tied.get(asset_id, frozenset())

    def tied_elsewhere(self, asset_id: AssetId, path: RelPath) -> bool:
        """Whether another path than this one that has a file, whatever it holds, is tied to the asset by its record."""
        files = self._tied_files.get(asset_id, frozenset())
        return len(files) > (path in files)

    def comes_back(self, asset_id: AssetId) -> bool:
        """Whether a file in quarantine is to be put back for this asset once it is active."""
        return asset_id in self._coming_back

    def lost_still(self, video: Asset) -> Asset | None:
        """The still of a live photo's hidden video, where it is in the trash or being deleted; None otherwise.

        Trashing a still leaves its video's row as it is (seen on 2.7.5 and 3.1.0): the still's fate decides.
        """
        stills = self._stills.get(video.id, [])
        if not video.hidden or not stills or any(still.status is Status.ACTIVE for still in stills):
            return None
        return stills[0]

    def hold_of(self, path: RelPath) -> Hold | None:
        """The hold that the path's record belongs to."""
        record = self.view.records.get(path)
        return record.hold if record is not None else None


def _sets(pairs: Iterable[tuple[K, RelPath]]) -> dict[K, frozenset[RelPath]]:
    """The paths of each key."""
    found: dict[K, set[RelPath]] = defaultdict(set)
    for key, path in pairs:
        found[key].add(path)
    return {key: frozenset(paths) for key, paths in found.items()}


def _key(stat: Stat) -> tuple[int, int, int]:
    """What a rename keeps."""
    return stat.inode, stat.size, stat.mtime_ns


def _by_inode(records: Iterable[Record]) -> dict[tuple[int, int, int], Record]:
    """Records by what a rename keeps; where two of different content agree in it, neither.

    Hard links of one file may be among them: then one that is tied stands for all, and of those the first by path.
    """
    found: dict[tuple[int, int, int], Record] = {}
    ambiguous: set[tuple[int, int, int]] = set()
    for record in sorted(records, key=lambda record: record.path):
        key = _key(record.stat)
        known = found.setdefault(key, record)
        if known.content != record.content:
            ambiguous.add(key)
        elif known.asset_id is None:
            found[key] = record
    return {key: record for key, record in found.items() if key not in ambiguous}
