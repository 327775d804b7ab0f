"""What reconcile may decide. Each action names the row of the decision table that asks for it."""

from dataclasses import dataclass
from enum import StrEnum

from immich_dbsync.model import AssetId, Content, Entry, RelPath


class Why(StrEnum):
    """Why something is done, dropped or left alone; goes to the history and to ``status``."""

    TRASHED = "its asset is in Immich's trash"
    DELETED = "its asset was deleted in Immich"
    TRASHED_BEFORE = "its asset was already in Immich's trash when the file was there"
    MOVED = "the same picture is at another path"
    ASSET_GONE = "the file is gone and so is its asset"
    RELEASED = "the asset is older than the delete threshold"
    MOTION_PART = "the motion part of a live photo follows its still"
    NEVER_TIED = "the file is gone and was not in Immich"
    FIRST_SIGHT = "its asset is in Immich's trash; the first scan of a folder removes nothing"
    BEING_DELETED = "Immich is still deleting the asset with the same content"
    EDITED = "the file was edited; replacing its asset is not supported yet"
    REFUSED = "Immich refused the file; it is tried again when it changes"
    TRASH_OFF = "Immich's trash is disabled, so deleting its asset could not be undone"
    UNHEALTHY = "the folder is not healthy, so nothing missing from it counts as deleted"
    NOT_ALLOWED = "Immich does not let this API key change its asset"
    GRACE = "waiting whether the picture turns up at another path"


@dataclass(frozen=True, slots=True)
class Identify:
    """Hash the file, then look again."""

    path: RelPath


@dataclass(frozen=True, slots=True)
class Upload:
    """Rows 1, 8 and 10: upload the content once, from the first path, and tie every path to it."""

    paths: tuple[RelPath, ...]
    content: Content


@dataclass(frozen=True, slots=True)
class Adopt:
    """Rows 2 and 8: Immich has the content; tie the path to the asset, without a request."""

    path: RelPath
    content: Content
    asset_id: AssetId


@dataclass(frozen=True, slots=True)
class Refresh:
    """Row 6, touched: the content is the same but the stat is not; note the new one."""

    path: RelPath
    content: Content
    asset_id: AssetId


@dataclass(frozen=True, slots=True)
class Restore:
    """Row 3: the picture came back; take the asset out of Immich's trash, then tie the path to it."""

    path: RelPath
    content: Content
    asset_id: AssetId


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Rows 4 and 7: take the file out of the folder, on the evidence of this asset."""

    path: RelPath
    content: Content
    asset_id: AssetId
    why: Why


@dataclass(frozen=True, slots=True)
class Trash:
    """Row 11: every path of the content is gone; move the asset to Immich's trash and drop the records."""

    asset_id: AssetId
    paths: tuple[RelPath, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """Rows 12, 13 and 14: the record ends; nothing else happens."""

    path: RelPath
    why: Why


@dataclass(frozen=True, slots=True)
class PutBack:
    """Row 15: the asset was restored; put the file back where it was."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Supersede:
    """Row 15 with the same content at the path already: the quarantined file stays where it is."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is done now, and this is why; the file's content and its asset where they are known."""

    path: RelPath
    why: Why
    asset_id: AssetId | None = None
    content: Content | None = None


Action = Identify | Upload | Adopt | Refresh | Restore | Quarantine | Trash | Drop | PutBack | Supersede | Leave
