"""What the kernel says of mounted file systems."""

import re
from dataclasses import dataclass
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")

REMOTE = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "afs",
        "lustre",
        "fuse.sshfs",
        "fuse.rclone",
        "fuse.glusterfs",
    }
)
"""File systems where other hosts change files, of which inotify does not tell."""

LOOSE = frozenset({"vfat", "exfat", "msdos"})
"""File systems without inode numbers of their own: a moved file can't be told by it."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a file system is mounted, and of which type it is."""

    path: Path
    type: str


def mounts(text: str | None = None) -> list[Mount]:
    """All that are mounted, as ``/proc/self/mountinfo`` tells (proc(5)); the last at a path is the one that is seen.

    Raises OSError where it may not be read, as in a confined snap without the interface mount-observe.
    """
    lines = (_MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if text is None else text).splitlines()
    found: dict[Path, Mount] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        path = Path(_ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), before.split()[4]))
        found[path] = Mount(path, after.split()[0])
    return list(found.values())


def holding(path: Path, among: list[Mount]) -> Mount | None:
    """The file system that this path lies on."""
    above = [mount for mount in among if path.is_relative_to(mount.path)]
    return max(above, key=lambda mount: len(mount.path.parts), default=None)


def below(path: Path, among: list[Mount]) -> list[Mount]:
    """What is mounted below this path."""
    return [mount for mount in among if mount.path != path and mount.path.is_relative_to(path)]
