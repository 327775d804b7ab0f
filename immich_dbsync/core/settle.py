"""When a file has been left in peace for long enough to be looked at."""

from dataclasses import dataclass

from immich_dbsync.model import Stat


@dataclass(frozen=True, slots=True)
class Glance:
    """What an unsettled file looked like, and when (nanoseconds of the wall clock)."""

    stat: Stat
    at_ns: int


def settled(stat: Stat, now_ns: int, earlier: Glance | None, settle_ns: int) -> bool:
    """Whether the mtime is older than the settle time, or two looks that far apart agree.

    The second way is for files whose mtime lies in the future or is kept fresh by a copying tool. A file renamed into
    place with an old mtime, as Syncthing does, is settled at once.
    """
    if now_ns - stat.mtime_ns >= settle_ns:
        return True
    return earlier is not None and earlier.stat == stat and now_ns - earlier.at_ns >= settle_ns
