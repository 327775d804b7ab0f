"""What is counted and timed while the service runs, in a registry of our own. Prometheus reads it where that is set.

No label holds a file's name or anything that gives access: owners are told by their ids.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, disable_created_metrics

from immich_dbsync import __version__

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, of the time when it was first counted
REGISTRY = CollectorRegistry()

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 600, 3600)
_SLOW = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 6 * 3600)

DEEDS = Counter(
    "immich_dbsync_deeds",
    "What was done, as the history has it: upload, adopt, quarantine, put back, trash, restore, refused and so on.",
    ["owner", "action"],
    registry=REGISTRY,
)
ACTIONS = (
    "upload",
    "adopt",
    "quarantine",
    "put back",
    "purge",
    "trash",
    "restore",
    "replace",
    "refused",
    "hold",
    "drop",
    "release",
    "damaged",
    "repaired",
)
"""What is counted from nought, so that the first is seen to come; others count from their first."""

REMOVAL = Histogram(
    "immich_dbsync_removal_seconds",
    "From a deletion in Immich, by its clock, until its file has left the folder; also of what nobody saw at once.",
    buckets=_FAST,
    registry=REGISTRY,
)
ARRIVAL = Histogram(
    "immich_dbsync_arrival_seconds",
    "From the last change of a file, its ctime, until its asset is in Immich; what Immich had before is left out.",
    buckets=_SLOW,
    registry=REGISTRY,
)
TRASH = Histogram(
    "immich_dbsync_trash_seconds",
    "From when a file was found missing until its asset is in Immich's trash; move_grace is part of it.",
    buckets=_SLOW,
    registry=REGISTRY,
)
REQUESTS = Histogram(
    "immich_dbsync_request_seconds",
    "Requests to Immich, by what came of them: the status, or none where no answer came.",
    ["method", "path", "outcome"],
    buckets=_FAST,
    registry=REGISTRY,
)
SCANS = Histogram(
    "immich_dbsync_scan_seconds", "Full scans of a user's folder.", ["owner"], buckets=_SLOW, registry=REGISTRY
)
SCANNED = Counter("immich_dbsync_scanned_files", "Files that full scans looked at.", ["owner"], registry=REGISTRY)
SESSIONS = Counter(
    "immich_dbsync_sessions", "Connections to the database: one at the start, one after each loss.", registry=REGISTRY
)
PROBLEMS = Counter(
    "immich_dbsync_problems", "Warnings and errors in the log, by the name of the event.", ["event"], registry=REGISTRY
)
EVENTS = (
    "copy.not_permitted",
    "database.unavailable",
    "events.missed",
    "file.damaged",
    "file.left_alone",
    "file.not_taken",
    "file.unreadable",
    "hold.opened",
    "key.unusable",
    "keys.unreadable",
    "library.failed",
    "owner.changed",
    "owner.failed",
    "owner.paused",
    "purge.refused",
    "put_back.refused",
    "quarantine.lost",
    "quarantine.refused",
    "quarantine.stray",
    "quarantine.unreadable",
    "request.failed",
    "request.refused",
    "root.health",
    "root.unusable",
    "root.watch",
    "server.unavailable",
    "service.stood_still",
    "systemd.unreachable",
    "triggers.warning",
    "upload.corrupted",
    "upload.refused",
)
"""Every event that is a warning or an error: counted from nought, so that the first is seen to come."""
for event in EVENTS:
    PROBLEMS.labels(event)

BUILD = Info("immich_dbsync_build", "Which immich-dbsync this is.", registry=REGISTRY)
BUILD.info({"version": __version__})
