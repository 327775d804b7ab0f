"""The values that every layer speaks of. Frozen, and without behaviour that needs the outside."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType
from uuid import UUID

OwnerId = NewType("OwnerId", UUID)
"""An Immich user's id (``"user".id``)."""

AssetId = NewType("AssetId", UUID)
"""An asset's id (``asset.id``)."""

RelPath = NewType("RelPath", bytes)
"""A file's path below its root: components joined by ``/``, none empty, ``.`` or ``..``. Any bytes Linux allows."""

Sha1 = NewType("Sha1", bytes)
"""20 bytes; Immich's ``asset.checksum``."""

Xxh3 = NewType("Xxh3", bytes)
"""16 bytes, XXH3-128, big-endian digest."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``fstat`` tells of a regular file: bytes, nanoseconds since 1970, inode number."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def same_file(self, other: "Stat") -> bool:
        """Whether all but the ctime agree: a rename moves the ctime and nothing else."""
        return (self.size, self.mtime_ns, self.inode) == (other.size, other.mtime_ns, other.inode)


@dataclass(frozen=True, slots=True)
class Content:
    """What a file's bytes are: both digests of the same read."""

    sha1: Sha1
    xxh3: Xxh3


class Status(StrEnum):
    """``asset.status``, as Immich's enum ``assets_status_enum`` spells it."""

    ACTIVE = "active"
    TRASHED = "trashed"
    DELETED = "deleted"


class Direction(StrEnum):
    """Which way a deletion goes."""

    FOLDER = "folder"  # files were deleted from the folder; their assets are to be trashed
    IMMICH = "immich"  # assets were deleted in Immich; their files are to leave the folder


class Decision(StrEnum):
    """What a person said of a hold."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


class Policy(StrEnum):
    """How a folder and Immich follow each other."""

    MIRROR = "mirror"  # both ways
    ARCHIVE = "archive"  # what is deleted from the folder stays in Immich; Immich's deletions still reach the folder
    BACKUP = "backup"  # only uploads: no deletion goes either way


@dataclass(frozen=True, slots=True)
class Hold:
    """The hold that the deletion of a path belongs to, and what was decided of it."""

    id: int
    decision: Decision = Decision.WAITING


@dataclass(frozen=True, slots=True)
class Asset:
    """A row of Immich's ``asset`` table, as far as decisions need it. Times in nanoseconds since 1970.

    ``hidden``: as the motion part of a live photo is. ``video_id``: the motion part of this still. ``protected``: a
    favourite or in an album, where the settings protect such.
    """

    id: AssetId
    sha1: Sha1
    status: Status
    created_ns: int
    deleted_ns: int | None = None
    hidden: bool = False
    video_id: AssetId | None = None
    protected: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A regular file that counts, as just seen on disk; ``content`` is None until it has been hashed.

    ``born_ns``: when its inode was made; None where it was not asked for, or the file system does not tell.
    """

    path: RelPath
    stat: Stat
    content: Content | None = None
    born_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Our row for one path of one root: the content last seen there and the asset that it is tied to.

    ``racy``: hashed too soon after its last change for the stat to prove the content.
    ``problem``: why Immich refused the file; None when it did not.
    ``hold``: the hold that its deletion waits in; None where there is none.
    ``damaged``: the digest of other bytes that were found under an unchanged stat; None where all is well.
    """

    path: RelPath
    stat: Stat
    content: Content
    asset_id: AssetId | None
    racy: bool = False
    problem: str | None = None
    hold: Hold | None = None
    damaged: Xxh3 | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in quarantine, there since ``at_ns``.

    ``asset_id`` is the asset whose deletion brought it there and whose restoration brings it back. ``superseded``: the
    owner brought the picture back, so it is never put back. ``gone``: that asset was deleted for good.
    """

    id: int
    path: RelPath
    location: bytes
    stat: Stat
    content: Content
    asset_id: AssetId
    superseded: bool = False
    at_ns: int = 0
    gone: bool = False
