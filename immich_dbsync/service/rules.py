"""What of the settings bears on decisions."""

import hashlib
import json
import os
from dataclasses import dataclass

from immich_dbsync.core.guards import FROM_IMMICH, Limits
from immich_dbsync.core.names import NameRules
from immich_dbsync.core.policy import Policies
from immich_dbsync.immich.media_types import IMAGE, SIDECAR, VIDEO
from immich_dbsync.model import Direction
from immich_dbsync.settings import Settings

_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide. Times are in nanoseconds, or in seconds where a name ends in ``_s``; None is never.

    ``digest`` tells two sets of rules apart, as far as they decide what is deleted.
    """

    names: NameRules
    delete_threshold_ns: int | None
    grace_s: float
    settle_ns: int
    protect_favourites: bool
    protect_albums: bool
    policies: Policies
    retention_ns: int | None
    limits: dict[Direction, Limits]
    digest: str


def rules_of(settings: Settings) -> Rules:
    """The rules that these settings make."""
    threshold, retention = settings.delete_threshold, settings.quarantine_retention
    folders = tuple(sorted((os.fsencode(folder), policy) for folder, policy in settings.policies.items()))
    decisive = [
        sorted(settings.exclude),
        threshold,
        sorted(settings.protect),
        settings.policy.value,
        sorted((folder, policy.value) for folder, policy in settings.policies.items()),
        [settings.hold_min, settings.hold_fraction],
    ]
    return Rules(
        names=NameRules(IMAGE | VIDEO, SIDECAR, settings.exclude),
        delete_threshold_ns=threshold * _DAY_NS if threshold else None,
        grace_s=settings.move_grace,
        settle_ns=int(settings.settle_time * 1e9),
        protect_favourites="favourites" in settings.protect,
        protect_albums="albums" in settings.protect,
        policies=Policies(settings.policy, folders),
        retention_ns=retention * _DAY_NS if retention else None,
        limits={
            Direction.FOLDER: Limits(settings.hold_min, settings.hold_fraction),
            Direction.IMMICH: FROM_IMMICH,
        },
        digest=hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16],
    )
