"""Are there enough of the kernel's inotify watches for all folders?"""

from collections.abc import Iterable
from pathlib import Path

from immich_dbsync.disk.folders import folders
from immich_dbsync.disk.root import Root
from immich_dbsync.doctor.finding import Finding, ok, wrong
from immich_dbsync.doctor.mending import shell
from immich_dbsync.errors import RootUnusable

_LIMITS = Path("/proc/sys/fs/inotify")
_ROOM = 1.25  # other programs of the same user watch too
_LEAST = 1 << 20  # what to raise it to, or the next power of two that does
_LEAST_INSTANCES = 1024
_INSTANCES = 3  # that each user's sync needs, at most


def count(roots: Iterable[Path]) -> int:
    """How many folders there are to watch, in all roots that can be opened."""
    found = 0
    for path in roots:
        try:
            with Root(path) as root:
                found += sum(watchable for _, watchable in folders(root))
        except RootUnusable:
            continue
    return found


def watches(needed: int, users: int, *, limits: Path = _LIMITS) -> Finding:
    """Whether the kernel lets us watch so many folders of so many users; ``limits`` is where it says so."""
    why = "without a watch a folder is looked at once a minute only"
    try:
        most, instances = (int((limits / name).read_text()) for name in ("max_user_watches", "max_user_instances"))
    except (OSError, ValueError):
        return wrong("inotify", "the kernel has no inotify", why, "Use a kernel that has it, as all common ones do")
    wanted, wanted_instances = int(needed * _ROOM), users * _INSTANCES
    if wanted <= most and wanted_instances <= instances:
        return ok("inotify", f"{most} watches for each user of this system, of which {needed} are needed", why)
    enough = max(_LEAST, most)
    while enough < wanted:
        enough *= 2
    return wrong(
        "inotify",
        f"{most} watches and {instances} instances for each user of this system, and {needed} folders of {users} users",
        why,
        raised(enough, max(_LEAST_INSTANCES, instances, wanted_instances)),
    )


def raised(watches: int = _LEAST, instances: int = _LEAST_INSTANCES) -> str:
    """How to raise the kernel's limits, at once and for good: what sysctl prints is what such a file holds."""
    limits = f"fs.inotify.max_user_watches={watches} fs.inotify.max_user_instances={instances}"
    return shell(
        f"sysctl -w {limits} | tee /etc/sysctl.d/60-immich-dbsync.conf",
        first="As root, and restart the service afterwards.",
    )
