"""Are the users' folders there, are they the right ones, and can files be moved in them?"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from uuid import UUID

from immich_dbsync.disk.errors import QuarantineUnsafe
from immich_dbsync.disk.marker import STATE, Health, health, open_state
from immich_dbsync.disk.quarantine import QUARANTINE
from immich_dbsync.disk.root import Root
from immich_dbsync.doctor.filesystems import LOOSE, REMOTE, Mount, below, holding
from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.errors import RootUnusable
from immich_dbsync.service.rounds import foreign_root
from immich_dbsync.settings import SNAP_VARIABLE

_WHY = "the pictures are there"
_READ_WRITE = os.R_OK | os.W_OK | os.X_OK


def sync_root(path: Path) -> Finding:
    """Whether the folder above the users' is there."""
    why = "it holds one folder for each user"
    try:
        path.stat()
        is_folder = path.is_dir()
    except OSError as error:
        return wrong("sync root", f"{path}: {error.strerror}", why, f"Mount it, or make it. Run: mkdir -p {path}")
    if not is_folder:
        return wrong("sync root", f"{path} is no folder", why, "Mend sync_root")
    return ok("sync root", str(path), why)


def unknown_mounts(error: OSError) -> Finding:
    """The kernel does not say what is mounted where: a snap is told only with the interface for that."""
    snap = os.environ.get(SNAP_VARIABLE)
    mend = f"To have it looked at: snap connect {snap}:mount-observe" if snap else "Run doctor as root"
    found = f"what is mounted where can't be seen: {error.strerror}"
    return note("file systems", found, "on network file systems changes by other hosts are not told", mend)


def folder(
    path: Path, email: str, *, root_id: UUID | None, stfolders: Collection[bytes], mounted: list[Mount]
) -> Iterator[Finding]:
    """What a user's folder is like. ``root_id`` is the mark that the database knows, None where it was never synced."""
    what = f"folder of {email}"
    try:
        root = Root(path)
    except RootUnusable as error:
        mend = f"Run: immich-dbsync users add {email}"
        yield wrong(what, str(error), _WHY, "Mount or put back the folder" if root_id is not None else mend)
        return
    with root:
        troubles = [*_usable(what, root)] or [*_right_one(what, root, root_id, stfolders)]
        yield from troubles or [ok(what, f"{path} is there, readable and writable", _WHY)]
        yield from _file_system(what, path, mounted)


def _right_one(what: str, root: Root, root_id: UUID | None, stfolders: Collection[bytes]) -> Iterator[Finding]:
    why = "nothing that is missing from a folder that is not the right one counts as deleted"
    state = health(root, root_id, stfolders)
    if state is Health.STFOLDER_LOST:
        found = f"a folder in {root.path} has lost its .stfolder, so it may be a mount point without its mount"
        yield wrong(what, found, why, "Mount it, or make the empty folder .stfolder again")
    elif state is not Health.OK and root_id is None:
        yield wrong(what, f"{root.path}/.immich-dbsync/root-id is no mark of ours", why, "Move that file away")
    elif state is not Health.OK:
        yield wrong(what, f"{root.path} is {state.value}", why, foreign_root(root.path, root_id))


def _usable(what: str, root: Root) -> Iterator[Finding]:
    """Whether it can be read and written, and files be renamed into the quarantine; tried without doing so."""
    why = "files come from it, and go from it to the quarantine in it"
    if os.statvfs(root.fd).f_flag & os.ST_RDONLY:
        yield wrong(what, f"{root.path} is on a file system that is mounted read-only", why, "Mount it read-write")
    elif not os.access(".", _READ_WRITE, dir_fd=root.fd, effective_ids=True):
        yield wrong(what, f"{root.path} may not be read and written", why, "Run as its owner, or as root")
    try:
        state = open_state(root, create=False)
    except FileNotFoundError:
        return  # made at first sight
    except (QuarantineUnsafe, OSError) as error:
        yield wrong(what, str(error), why, f"Move {os.fsdecode(STATE)} in {root.path} away")
        return
    try:
        status = os.stat(QUARANTINE, dir_fd=state, follow_symlinks=False)
    except OSError:
        return
    finally:
        os.close(state)
    if status.st_dev != root.device:
        yield wrong(
            what,
            "its quarantine is on another file system",
            "files are renamed into it, which no other program sees half done",
            f"Unmount what is mounted at {root.path}/.immich-dbsync/quarantine",
        )


def _file_system(what: str, path: Path, mounted: list[Mount]) -> Iterator[Finding]:
    resolved = path.resolve()
    mount = holding(resolved, mounted)
    if mount is not None and mount.type in REMOTE:
        yield note(
            what,
            f"it is on {mount.type}, a network file system",
            "changes that other hosts make are not told, and seen only by the scan every few hours",
            "Run immich-dbsync on the machine that has the disks, or lower scan_interval",
        )
    if mount is not None and mount.type in LOOSE:
        yield note(
            what,
            f"it is on {mount.type}, which has no lasting inode numbers",
            "a moved picture can't be told by its inode, and is hashed again",
            "Use ext4, XFS, Btrfs or ZFS",
        )
    for other in below(resolved, mounted):
        yield note(
            what,
            f"another file system is mounted in it, at {other.path}",
            "what is on it is left alone: files can't be renamed between file systems",
            "Mount it elsewhere, if its pictures are to be synced",
        )
