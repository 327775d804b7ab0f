"""What one owner's workers have to do, and what they have in hand.

A path that a worker has in hand is left alone until it has been looked at again afterwards.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from immich_dbsync.core.actions import Action, Replace, Restore, Trash
from immich_dbsync.model import AssetId, Content, File, Record, RelPath
from immich_dbsync.service.gate import Pause

_KEY_PAUSE_S = 60.0  # until a refused key is tried again: an administrator may have mended it
_QUOTA_PAUSE_S = 300.0  # until uploads are tried again after the quota was used up


@dataclass(frozen=True, slots=True)
class Job:
    """One content to upload: the records of every path that holds it, the one to read first.

    ``replaces`` is the edit that it comes from, if any.
    """

    records: tuple[Record, ...]
    replaces: Replace | None = None

    @property
    def content(self) -> Content:
        """What all the paths hold."""
        return self.records[0].content

    @property
    def size(self) -> int:
        """Of the content, in bytes."""
        return self.records[0].stat.size

    @property
    def paths(self) -> list[RelPath]:
        """Every path that holds it, the one to read first."""
        return [record.path for record in self.records]


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that is surely new to Immich, to be hashed while it is sent; its size in bytes, by which that is known."""

    path: RelPath
    size: int

    @property
    def paths(self) -> list[RelPath]:
        """The one path, as a Job has them."""
        return [self.path]


class Queues:
    """One owner's files to be hashed and uploaded, and what Immich is to be asked for."""

    def __init__(self) -> None:
        self.to_hash: asyncio.Queue[RelPath] = asyncio.Queue()
        self.hashing: dict[RelPath, int] = {}  # path to size, from being queued to being hashed
        self.sizes: Counter[int] = Counter()  # of files whose content is not known: `hashing`, and the Unread
        self.to_upload: asyncio.Queue[Job | Unread] = asyncio.Queue()
        self.unread: Counter[int] = Counter()  # sizes of the Unread alone, from being queued to being sent
        self.jobs: Counter[int] = Counter()  # sizes of the Jobs, likewise
        self.ended: set[Content | int] = set()  # uploads since the last look began: contents, and sizes of the Unread
        self.uploading: set[RelPath] = set()  # from being queued to being tied or given up
        self.to_trash: dict[RelPath, bool] = {}  # missing paths whose assets are to be trashed: approved by a person?
        self.trash_wanted = asyncio.Event()
        self.to_restore: set[RelPath] = set()
        self.restore_wanted = asyncio.Event()
        self.requesting: set[AssetId] = set()  # in our own requests, whose echoes are no news
        self.returning: set[AssetId] = set()  # brought back by edits just now: none of their files is to be taken out
        self.asking = 0  # requests that are being prepared or are under way
        self.key_refused = Pause(_KEY_PAUSE_S)  # of every request
        self.quota_used_up = Pause(_QUOTA_PAUSE_S)  # of uploads
        self.editing = asyncio.Lock()  # edits of copies are finished one by one: the last trashes the old asset

    def hash(self, file: File) -> None:
        """Have this file identified."""
        self.hashed(file.path)
        self.hashing[file.path] = file.stat.size
        self.sizes[file.stat.size] += 1
        self.to_hash.put_nowait(file.path)

    def hashed(self, path: RelPath) -> None:
        """This file has been hashed, or not, or is handed on to be hashed while it is sent."""
        if (size := self.hashing.pop(path, None)) is not None:
            _take(self.sizes, size)

    def upload(self, job: Job | Unread) -> None:
        """Have this content uploaded."""
        self.uploading.update(job.paths)
        if isinstance(job, Unread):
            self.unread[job.size] += 1
            self.sizes[job.size] += 1
        else:
            self.jobs[job.size] += 1
        self.to_upload.put_nowait(job)

    def uploaded(self, job: Job | Unread) -> None:
        """An upload has ended, one way or the other."""
        self.uploading.difference_update(job.paths)
        if isinstance(job, Unread):
            _take(self.unread, job.size)
            _take(self.sizes, job.size)
            self.ended.add(job.size)
        else:
            _take(self.jobs, job.size)
            self.ended.add(job.content)

    def request(self, plan: Sequence[Action]) -> None:
        """Have Immich asked for what only it can do."""
        for action in plan:
            if isinstance(action, Trash):
                self.to_trash.update(dict.fromkeys(action.paths, action.approved))
                self.trash_wanted.set()
            elif isinstance(action, Restore):
                self.to_restore.add(action.path)
                self.restore_wanted.set()

    def look_begins(self) -> frozenset[RelPath]:
        """The paths that a worker has in hand now: what it writes from now on may not be in the look's view."""
        self.ended.clear()
        return frozenset((*self.hashing, *self.uploading))

    def backlog(self) -> int:
        """How many files wait to be hashed or uploaded."""
        return len(self.hashing) + len(self.uploading)

    def working(self) -> bool:
        """Whether anything is to be sent or asked for, or is just now; files may be hashed besides."""
        return bool(self.uploading or self.asking or self.to_trash or self.to_restore)


def _take(counts: Counter[int], size: int) -> None:
    """Count one less; Counter's own way looks at every other one, too."""
    counts[size] -= 1
    if not counts[size]:
        del counts[size]
