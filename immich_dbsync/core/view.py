"""What was observed of one owner, and what of the settings bears on it: all that a decision may rest on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from immich_dbsync.core.actions import Why
from immich_dbsync.core.policy import Policies
from immich_dbsync.model import Asset, AssetId, Entry, File, Record, RelPath


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was observed of one owner: some paths, and all that bears on their content.

    It must be closed: it holds every record with the content of any record or file in it, whatever is on disk at
    those records' paths, every asset of the owner with one of those ids or contents, and with a live photo's video its
    stills. Times are nanoseconds since 1970.
    """

    files: Mapping[RelPath, File] = field(default_factory=dict)  # on disk now
    records: Mapping[RelPath, Record] = field(default_factory=dict)
    damaged: tuple[Record, ...] = ()  # those of the records whose files were found to hold other bytes
    assets: Mapping[AssetId, Asset] = field(default_factory=dict)
    deleted: frozenset[AssetId] = frozenset()  # rows that are gone and of which an event or the audit says: deleted
    trashed_by_us: frozenset[AssetId] = frozenset()  # in the trash because their files were missing, by our request
    entries: tuple[Entry, ...] = ()  # in quarantine
    in_grace: frozenset[RelPath] = frozenset()  # gone, but not for long enough
    unidentified_sizes: frozenset[int] = frozenset()  # of files outside this view that wait to be hashed
    excluded: frozenset[RelPath] = frozenset()  # recorded, but left alone by the names of today
    owner_active: bool = True
    healthy: bool = True  # the root is the one we know: what is missing from it was deleted
    unfamiliar: Why | None = None  # why removals that are found now wait for a person: FIRST_SIGHT, SETTINGS_CHANGED
    trash_enabled: bool = True
    may_copy: bool = True  # the API key may copy albums and the like from one asset to another
    policies: Policies = field(default_factory=Policies)
    keep_created_before_ns: int | None = None  # the delete threshold as an instant
    purge_before_ns: int | None = None  # the quarantine's retention as an instant; None keeps everything
