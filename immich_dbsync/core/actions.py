"""What reconcile may decide. Each action names the row of the decision table that asks for it."""

from dataclasses import dataclass
from enum import StrEnum

from immich_dbsync.model import AssetId, Content, Direction, Entry, Hold, RelPath


class Why(StrEnum):
    """Why something is done, dropped or left alone; goes to the history and to ``status``."""

    TRASHED = "its asset is in Immich's trash"
    DELETED = "its asset was deleted in Immich"
    TRASHED_BEFORE = "its asset was already in Immich's trash when the file was there"
    STILL_GONE = "the live photo it belongs to was deleted in Immich"
    MOVED = "the same picture is at another path"
    ASSET_GONE = "the file is gone and so is its asset"
    RELEASED = "the asset is older than the delete threshold"
    PROTECTED = "the asset is a favourite or in an album"
    KEPT_BY_POLICY = "the folder's policy keeps it"
    REJECTED = "its deletion was rejected by a person"
    MOTION_PART = "the motion part of a live photo follows its still"
    NEVER_TIED = "the file is gone and was not in Immich"
    EXCLUDED = "the settings exclude it now"
    DAMAGED = "the file's bytes changed without a trace of a write: the disk may be failing"
    BEING_DELETED = "Immich is still deleting the asset with the same content"
    EDITED = "another path of its asset was edited; that comes first"
    TWIN = "another file with the same content is sent first"
    REFUSED = "Immich refused the file; it is tried again when it changes"
    UNHEALTHY = "the folder is not healthy, so nothing missing from it counts as deleted"
    NOT_MOVED = "it can't be moved out of the folder or back into it, and is tried again; the log says why"
    NOT_ALLOWED = "Immich does not let this API key change its asset"
    MOVING = "the same picture is at another path, which is not tied to its asset yet"
    GRACE = "waiting whether the picture turns up at another path"
    COUNTING = "waiting until all files are known whose assets were in Immich's trash before"
    HELD = "its deletion waits for a person: see `immich-dbsync holds list`"
    # Why deletions become a hold:
    FIRST_SIGHT = "the first scan of a folder removes nothing by itself"
    SETTINGS_CHANGED = "the settings changed, and a change of settings removes nothing by itself"
    UNDATED = "Immich does not say when the asset was trashed"
    TRASH_OFF = "Immich's trash is disabled, so the deletion could not be undone"
    TOO_MANY = "so many were deleted at once"
    EMPTIED = "a whole folder was emptied at once"


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
    """Rows 2 and 8: Immich has the content; tie the path to the asset, without a request.

    ``behind``: where this path's old content is tied to its asset by the same plan; both or none.
    """

    path: RelPath
    content: Content
    asset_id: AssetId
    behind: RelPath | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """Row 6, touched: the content is the same but what is recorded beside it is not; note what is."""

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
class Replace:
    """Row 9: the file was edited. Have the new content in Immich, copy what the old asset had to it, tie the path.

    ``trash_old``: then trash the old asset. ``copy``: the key may copy.
    """

    path: RelPath
    content: Content
    old: AssetId
    trash_old: bool
    copy: bool = True


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Rows 4 and 7: take the file out of the folder, on the evidence of this asset. ``approved``: by a person."""

    path: RelPath
    content: Content
    asset_id: AssetId
    why: Why
    approved: bool = False


@dataclass(frozen=True, slots=True)
class Trash:
    """Row 11: every path of the content is gone; move the asset to Immich's trash and drop the records."""

    asset_id: AssetId
    paths: tuple[RelPath, ...]
    approved: bool = False


@dataclass(frozen=True, slots=True)
class PutOnHold:
    """Rows 4, 7 or 11, but a person has to decide: tie the path to its asset, and note that it waits.

    ``hold``: the one it belongs to already, from another path.
    """

    path: RelPath
    content: Content
    asset_id: AssetId
    direction: Direction
    why: Why
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Rows 12, 13 and 14: the record ends; nothing else happens.

    ``behind``: row 12, where this path is tied to the asset by the same plan; its record must be there first, or the
    asset would have none.
    """

    path: RelPath
    why: Why
    behind: RelPath | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """Row 15: the asset was restored; put the file back where it was. ``tie``: the asset of its content, if any."""

    entry: Entry
    tie: AssetId | None


@dataclass(frozen=True, slots=True)
class Supersede:
    """Row 15 with the same content at the path already: the quarantined file stays where it is."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class NoteGone:
    """Before row 16: the asset was deleted for good; remember it with the entry, because the evidence is not kept."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Purge:
    """Row 16: the asset was deleted for good and the retention is over; delete the file from quarantine."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is done now, and this is why; the file's content and its asset where they are known."""

    path: RelPath
    why: Why
    asset_id: AssetId | None = None
    content: Content | None = None


Action = (
    Identify
    | Upload
    | Adopt
    | Refresh
    | Restore
    | Replace
    | Quarantine
    | Trash
    | PutOnHold
    | Drop
    | PutBack
    | Supersede
    | NoteGone
    | Purge
    | Leave
)


def paths_of(action: Action) -> tuple[RelPath, ...]:
    """The paths in the folder that an action is about."""
    match action:
        case Upload() | Trash():
            return action.paths
        case PutBack() | Supersede():
            return (action.entry.path,)
        case Drop(path, _, behind) | Adopt(path, _, _, behind):
            return (path,) if behind is None else (path, behind)
        case NoteGone() | Purge():
            return ()
        case _:
            return (action.path,)
