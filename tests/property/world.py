"""An independent model of what the actions do, and closed Views of small worlds in which collisions are frequent.

Nothing here imports reconcile's logic. A stat tells its content: ``mtime_ns`` modulo the number of contents is the
content's number. So a stat never lies about its content, though inodes are shared and used again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar, assert_never
from uuid import UUID

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
from immich_dbsync.core.policy import Policies
from immich_dbsync.core.view import View
from immich_dbsync.model import (
    Asset,
    AssetId,
    Content,
    Decision,
    Direction,
    Entry,
    File,
    Hold,
    Policy,
    Record,
    RelPath,
    Sha1,
    Stat,
    Status,
    Xxh3,
)

CONTENTS = tuple(Content(Sha1(bytes([i]) * 20), Xxh3(bytes([i]) * 16)) for i in range(3))
SIZES = (100, 100, 200)  # of each content: the first two are of one size
PATHS = tuple(RelPath(path) for path in (b"DCIM/a.jpg", b"DCIM/b.jpg", b"Trips/\xff.jpg", b"d.jpg"))


def asset_id(number: int, generation: int = 0) -> AssetId:
    """The id of the asset of one content; an asset that is uploaded again has a later generation."""
    return AssetId(UUID(int=generation * 1000 + number))


def truth(stat: Stat) -> Content:
    """What a file with this stat really holds."""
    return CONTENTS[stat.mtime_ns % len(CONTENTS)]


def make_stat(number: int, *, version: int = 0, ctime_ns: int = 0, inode: int = 1) -> Stat:
    """A stat that tells content ``number``; ``version`` changes the mtime and not the content."""
    return Stat(SIZES[number], number + len(CONTENTS) * version, ctime_ns, inode)


@dataclass(slots=True)
class World:
    """A View that things happen to, and what the files in it really hold."""

    files: dict[RelPath, File]
    records: dict[RelPath, Record]
    assets: dict[AssetId, Asset]
    deleted: set[AssetId]
    entries: dict[int, Entry]
    base: View  # what actions do not change
    now_ns: int = 1000
    stored: set[int] = field(default_factory=set)  # entries whose file is in quarantine
    purged: set[Content] = field(default_factory=set)
    trashed_by_us: set[AssetId] = field(default_factory=set)
    new_ids: Iterator[int] = field(default_factory=lambda: count(100))

    @classmethod
    def of(cls, view: View) -> "World":
        """The world that was seen so."""
        entries = {entry.id: entry for entry in view.entries}
        files, records, assets = dict(view.files), dict(view.records), dict(view.assets)
        return cls(
            files,
            records,
            assets,
            set(view.deleted),
            entries,
            view,
            stored=set(entries),
            trashed_by_us=set(view.trashed_by_us),
        )

    def view(self) -> View:
        """What is seen now."""
        return replace(
            self.base,
            files=dict(self.files),
            records=dict(self.records),
            assets=dict(self.assets),
            deleted=frozenset(self.deleted),
            trashed_by_us=frozenset(self.trashed_by_us),
            entries=tuple(self.entries.values()),
        )

    def forget_contents(self) -> None:
        """Look afresh: only stats are known."""
        self.files = {path: replace(file, content=None) for path, file in self.files.items()}

    def on_disk(self) -> set[Content]:
        return {truth(file.stat) for file in self.files.values()}

    def active(self) -> set[Sha1]:
        return {asset.sha1 for asset in self.assets.values() if asset.status is Status.ACTIVE}

    def trashed(self) -> set[Sha1]:
        return {asset.sha1 for asset in self.assets.values() if asset.status is not Status.ACTIVE}

    def in_quarantine(self) -> set[Content]:
        return {truth(entry.stat) for entry in self.entries.values() if entry.id in self.stored}

    def apply(self, actions: Iterable[Action]) -> None:
        """Carry out every action to its end."""
        for action in actions:
            for _ in self.steps(action):
                pass

    def steps(self, action: Action) -> Iterator[None]:  # noqa: C901, PLR0912  # one case an action
        """Carry out one action; between any two of its steps the service may be killed."""
        self.now_ns += 1
        match action:
            case Identify():
                file = self.files[action.path]
                self.files[action.path] = replace(file, content=truth(file.stat))
            case Upload():
                yield from self._upload(action)
            case Adopt():
                assert self.assets[action.asset_id].status is Status.ACTIVE
                self._tie(action.path, action.content, action.asset_id)
            case Refresh():
                self._tie(action.path, action.content, action.asset_id)
            case Restore():
                asset = self.assets[action.asset_id]
                self.assets[asset.id] = replace(asset, status=Status.ACTIVE, deleted_ns=None)
                self.trashed_by_us.discard(asset.id)
                yield
                self._tie(action.path, action.content, action.asset_id)
            case Quarantine():
                yield from self._quarantine(action)
            case Trash():
                yield from self._trash(action)
            case Drop():
                del self.records[action.path]
            case Replace():
                yield from self._replace(action)
            case PutOnHold():
                self._hold(action)
            case PutBack():
                yield from self._put_back(action.entry, action.tie)
            case Supersede():
                self.entries[action.entry.id] = replace(action.entry, superseded=True)
            case NoteGone():
                self.entries[action.entry.id] = replace(action.entry, gone=True)
            case Purge():
                self.stored.discard(action.entry.id)
                self.purged.add(truth(action.entry.stat))
                yield
                del self.entries[action.entry.id]
            case Leave():
                pass
            case _:
                assert_never(action)

    def _tie(self, path: RelPath, content: Content, asset: AssetId) -> None:
        assert truth(self.files[path].stat) == content, "tied to a picture that the file does not hold"
        self.records[path] = Record(path, self.files[path].stat, content, asset)

    def _hold(self, action: PutOnHold) -> None:
        hold = action.hold or Hold(next(self.new_ids))
        if action.direction is Direction.IMMICH:
            self._tie(action.path, action.content, action.asset_id)
        self.records[action.path] = replace(self.records[action.path], hold=hold)

    def _trash(self, action: Trash) -> Iterator[None]:
        asset = self.assets[action.asset_id]
        self.trashed_by_us.add(asset.id)
        self.assets[asset.id] = replace(asset, status=Status.TRASHED, deleted_ns=self.now_ns)
        for path in action.paths:
            yield
            del self.records[path]

    def _upload(self, action: Upload) -> Iterator[None]:
        content = action.content
        assert content.sha1 not in {asset.sha1 for asset in self.assets.values()}, "uploaded twice"
        new = Asset(AssetId(UUID(int=next(self.new_ids))), content.sha1, Status.ACTIVE, self.now_ns)
        self.assets[new.id] = new
        for path in action.paths:
            yield
            self._tie(path, content, new.id)

    def _replace(self, action: Replace) -> Iterator[None]:
        new = next((asset for asset in self.assets.values() if asset.sha1 == action.content.sha1), None)
        if new is None:
            new = Asset(AssetId(UUID(int=next(self.new_ids))), action.content.sha1, Status.ACTIVE, self.now_ns)
        assert new.status is not Status.DELETED
        self.assets[new.id] = replace(new, status=Status.ACTIVE, deleted_ns=None)
        yield
        if action.trash_old:
            old = self.assets[action.old]
            self.trashed_by_us.add(old.id)
            self.assets[old.id] = replace(old, status=Status.TRASHED, deleted_ns=self.now_ns)
            yield
        self._tie(action.path, action.content, new.id)

    def _quarantine(self, action: Quarantine) -> Iterator[None]:
        stat = self.files[action.path].stat
        number = max(self.entries, default=0) + 1
        location = b"q/%d" % number
        self.entries[number] = Entry(
            number, action.path, location, stat, action.content, action.asset_id, at_ns=self.now_ns
        )
        yield
        del self.files[action.path]
        self.stored.add(number)
        yield
        self.records.pop(action.path, None)

    def _put_back(self, entry: Entry, tie: AssetId | None) -> Iterator[None]:
        there = self.files.get(entry.path)
        if entry.id in self.stored and (there is None or truth(there.stat) != entry.content):
            path = entry.path if there is None else self._free_name(entry.path)
            self.stored.remove(entry.id)
            self.files[path] = File(path, replace(entry.stat, ctime_ns=self.now_ns))
            yield
            if tie is not None:
                self._tie(path, entry.content, tie)
        del self.entries[entry.id]

    def _free_name(self, path: RelPath) -> RelPath:
        names = (RelPath(b"%s (%d)" % (path, number)) for number in count(1))
        return next(name for name in names if name not in self.files and name not in self.records)


# --- views ---

T = TypeVar("T")


class Dice:
    """Choices read off bytes that were drawn at once: many times faster than a draw for each."""

    def __init__(self, rolls: bytes) -> None:
        self.rolls = iter(rolls)

    def number(self, limit: int) -> int:
        return next(self.rolls, 0) % limit

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices))]

    def rarely(self) -> bool:
        return self.number(6) == 5

    def some(self, choices: Iterable[T]) -> list[T]:
        return [choice for choice in choices if self.number(2)]

    def time(self) -> int:
        return 1 + self.number(5)

    def stat(self) -> Stat:
        return make_stat(self.number(3), version=self.number(2), ctime_ns=self.time(), inode=1 + self.number(3))

    def files(self, *, known: bool) -> dict[RelPath, File]:
        """Files that are hard links of one another where they share an inode."""
        inodes: dict[int, Stat] = {}
        files = {}
        for path in self.some(PATHS):
            drawn = self.stat()
            stat = inodes.setdefault(drawn.inode, drawn)
            hashed = self.number(2) == 0 or known
            files[path] = File(path, stat, truth(stat) if hashed else None)
        return files

    def records(self, files: Mapping[RelPath, File]) -> dict[RelPath, Record]:
        """Records whose stats often are, but for the ctime, those of a file."""
        seen = [file.stat for file in files.values()]
        records = {}
        for path in self.some(PATHS):
            stat = self.stat()
            match self.number(4):
                case 0 if path in files:
                    stat = files[path].stat
                case 1 if seen:
                    stat = replace(self.pick(seen), ctime_ns=self.time())
            racy = self.rarely()
            number = CONTENTS.index(truth(stat))
            if racy:  # the bytes changed after they were hashed, and the size did not
                number = self.pick([other for other, size in enumerate(SIZES) if size == stat.size])
            now = asset_id(number)
            tied = self.pick([now, now, now, asset_id(number, 1), None])
            problem = "refused" if tied is None and self.number(2) else None
            hold = Hold(1, self.pick(tuple(Decision))) if self.rarely() else None
            damaged = self.pick(CONTENTS).xxh3 if self.rarely() else None
            records[path] = Record(path, stat, CONTENTS[number], tied, racy, problem, hold, damaged)
        return records

    def assets(self) -> dict[AssetId, Asset]:
        """At most one asset of each content, as Immich's unique index has it."""
        assets = {}
        for number in self.some(range(3)):
            status = self.pick([Status.ACTIVE, Status.TRASHED, Status.ACTIVE, Status.TRASHED, Status.DELETED])
            gone = None if status is Status.ACTIVE or self.rarely() else self.time()
            new = asset_id(number, int(self.rarely()))
            hidden = self.rarely()
            video = asset_id(self.pick([other for other in range(3) if other != number])) if self.rarely() else None
            assets[new] = Asset(
                new, CONTENTS[number].sha1, status, self.time(), gone, hidden, video, protected=self.rarely()
            )
        return assets

    def entries(self) -> tuple[Entry, ...]:
        entries = []
        for number in range(self.pick([0, 1, 0, 2])):
            stat = self.stat()
            tied = asset_id(CONTENTS.index(truth(stat)), int(self.rarely()))
            entries.append(
                Entry(
                    number + 1,
                    self.pick(PATHS),
                    b"q/%d" % number,
                    stat,
                    truth(stat),
                    tied,
                    self.rarely(),
                    self.time(),
                    self.rarely(),
                )
            )
        return tuple(entries)

    def policies(self) -> Policies:
        return Policies(self.pick(tuple(Policy)), ((b"DCIM", self.pick(tuple(Policy))),))

    def view(self, *, known: bool) -> View:
        files = self.files(known=known)
        records = self.records(files)
        assets = self.assets()
        ids = [asset_id(number, generation) for number in range(3) for generation in (0, 1)]
        return View(
            files=files,
            records=records,
            assets=assets,
            deleted=frozenset(self.some(ids)) - assets.keys(),
            trashed_by_us=frozenset(self.some(ids)) if self.rarely() else frozenset(),
            entries=self.entries(),
            in_grace=frozenset(self.some(sorted(records.keys() - files.keys()))) if self.rarely() else frozenset(),
            unidentified_sizes=frozenset(self.some(SIZES)) if self.rarely() else frozenset(),
            owner_active=not self.rarely(),
            healthy=not self.rarely(),
            excluded=frozenset(self.some(records)) if self.rarely() else frozenset(),
            unfamiliar=self.pick([Why.FIRST_SIGHT, Why.SETTINGS_CHANGED]) if self.rarely() else None,
            trash_enabled=not self.rarely(),
            may_copy=not self.rarely(),
            policies=self.policies() if self.rarely() else Policies(),
            keep_created_before_ns=self.time() if self.rarely() else None,
            purge_before_ns=self.time() if self.rarely() else None,
        )


def views(*, known: bool = False) -> st.SearchStrategy[View]:
    """Closed Views: each is all there is of one owner. ``known``: every file has been hashed."""
    return st.binary(min_size=160, max_size=160).map(lambda rolls: Dice(rolls).view(known=known))
