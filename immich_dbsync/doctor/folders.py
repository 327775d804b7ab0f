"""Are the users' folders there, are they the right ones, and can files be moved in them?"""

import errno
import os
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from uuid import UUID

from immich_dbsync.disk.errors import QuarantineUnsafe
from immich_dbsync.disk.marker import STATE, Health, health, open_state, read_marker
from immich_dbsync.disk.quarantine import QUARANTINE
from immich_dbsync.disk.root import Root
from immich_dbsync.doctor.filesystems import LOOSE, REMOTE, Mount, below, holding
from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.doctor.mending import allow, ours, run, shell
from immich_dbsync.errors import RootUnusable
from immich_dbsync.settings import SNAP_VARIABLE, name_in_use

_WHY = "the pictures are there"
_READ_WRITE = os.R_OK | os.W_OK | os.X_OK
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


def sync_root(path: Path) -> Finding:
    """Whether the folder above the users' is there."""
    why = "it holds one folder for each user"
    try:
        path.stat()
        is_folder = path.is_dir()
    except OSError as error:
        if error.errno in _FORBIDDEN:
            return wrong("sync root", f"{path} may not be looked at", why, allow(path.parent))
        first = "Mount it, or make it and give it (chown) to the user as whom the file sync tool writes there."
        return wrong("sync root", f"{path}: {error.strerror}", why, run("mkdir", "-p", path, first=first))
    if not is_folder:
        return wrong("sync root", f"{path} is no folder", why, f"Set {name_in_use('sync_root')} to a folder")
    return ok("sync root", str(path), why)


def unknown_mounts(error: OSError) -> Finding:
    """The kernel does not say what is mounted where: a snap is told only with the interface for that."""
    snap = os.environ.get(SNAP_VARIABLE)
    mend = run("snap", "connect", f"{snap}:mount-observe") if snap else "Run doctor as root"
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
        yield _not_opened(what, path, error, add=None if root_id is not None else ours("users", "add", email))
        return
    with root:
        mount = holding(path.resolve(), mounted)
        troubles = [*_usable(what, root)] or [*_right_one(what, root, root_id, stfolders)]
        on = f", on {mount.type}" if mount is not None else ""
        good = f"{path} is there, readable and writable{on}; files can be renamed into its quarantine"
        if mount is not None and mount.type not in REMOTE:
            good += ", and inotify tells of changes"
        yield from troubles or [ok(what, good, _WHY)]
        yield from _file_system(what, path, mounted)


def _not_opened(what: str, path: Path, error: RootUnusable, *, add: str | None) -> Finding:
    """The folder is missing, and ``add`` would make it; or it is there and may not be opened."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _FORBIDDEN:
        return wrong(what, f"{path} may not be opened", _WHY, allow(path, whole=True))
    if isinstance(cause, FileNotFoundError):
        return wrong(what, f"{path} does not exist", _WHY, add or "Mount or put back the folder")
    return wrong(what, str(error), _WHY, "Have the folder itself there, and nothing else")


def _right_one(what: str, root: Root, root_id: UUID | None, stfolders: Collection[bytes]) -> Iterator[Finding]:
    why = "nothing that is missing from a folder that is not the right one counts as deleted"
    mark = root.path / os.fsdecode(STATE) / "root-id"
    match health(root, root_id, stfolders):
        case Health.OK:
            return
        case Health.STFOLDER_LOST:
            found = f"a folder in {root.path} has lost its .stfolder, so it may be a mount point without its mount"
            yield wrong(what, found, why, "Mount it, or make the empty folder .stfolder again")
        case Health.MARKER_MISSING:
            found = f"{root.path} has no mark, which the folder that was synced before has"
            yield wrong(what, found, why, _marked(mark, root_id))
        case Health.MARKER_FOREIGN:
            yield _foreign(what, root, mark, root_id, why)
        case Health.UNREADABLE:
            yield wrong(what, f"{root.path} can't be read, or what is in it", why, allow(root.path, whole=True))
        case _:
            yield wrong(what, f"{root.path} was replaced just now", why, "Mount or put back the folder")


def _foreign(what: str, root: Root, mark: Path, root_id: UUID | None, why: str) -> Finding:
    """The mark is another folder's, or none, or may only not be read."""
    try:
        read_marker(root)
    except ValueError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _FORBIDDEN:
            return wrong(what, f"{mark} may not be read", why, allow(mark))
        aside = run("mv", mark, f"{mark}.aside", first="It was not written by immich-dbsync: put it aside.")
        return wrong(what, f"{mark} is no mark of ours", why, aside)
    return wrong(what, f"{root.path} has the mark of another folder", why, _marked(mark, root_id, there=True))


def _marked(mark: Path, root_id: UUID | None, *, there: bool = False) -> str:
    """How to say that this is the right folder: never by writing through a link that somebody left in its place."""
    folder, file, aside = (shlex.quote(str(path)) for path in (mark.parent, mark, f"{mark}.aside"))
    before = f"mv {file} {aside}" if there else f"mkdir -p {folder}"
    return shell(
        f"(umask 077; {before}; set -C; echo {root_id} > {file})",
        first="Mount or put back the right folder. Only if this is it, give it its mark.",
    )


def _usable(what: str, root: Root) -> Iterator[Finding]:
    """Whether it can be read and written, and files be renamed into the quarantine; tried without doing so."""
    why = "files come from it, and go from it to the quarantine in it"
    inside = root.path / os.fsdecode(STATE)
    if os.statvfs(root.fd).f_flag & os.ST_RDONLY:
        yield wrong(what, f"{root.path} is on a file system that is mounted read-only", why, _remount(root.path))
    elif not os.access(".", _READ_WRITE, dir_fd=root.fd, effective_ids=True):
        yield wrong(what, f"{root.path} may not be read and written", why, allow(root.path, whole=True))
    try:
        state = open_state(root, create=False)
    except FileNotFoundError:
        return  # made at first sight
    except QuarantineUnsafe:
        aside = run("mv", inside, f"{inside}.aside", first="It was not made by immich-dbsync: put it aside.")
        yield wrong(what, f"{inside} is no plain folder: a link, a file or a mount point", why, aside)
        return
    except OSError as error:
        if error.errno in _FORBIDDEN:
            yield wrong(what, f"{inside} may not be opened", why, allow(inside, whole=True))
        else:
            found = f"{inside} can't be opened: {error.strerror}"
            yield wrong(what, found, why, "Have its disk looked at; do not move it away, for the quarantine is in it")
        return
    try:
        if not os.access(".", _READ_WRITE, dir_fd=state, effective_ids=True):
            yield wrong(what, f"{inside} may not be read and written", why, allow(inside, whole=True))
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
            run("umount", inside / os.fsdecode(QUARANTINE)),
        )


def _remount(path: Path) -> str:
    return (
        f"Mount it read-write, if its disk is well: see what mounted it with findmnt --target {shlex.quote(str(path))}"
    )


def _file_system(what: str, path: Path, mounted: list[Mount]) -> Iterator[Finding]:
    resolved = path.resolve()
    mount = holding(resolved, mounted)
    if mount is not None and mount.type in REMOTE:
        yield note(
            what,
            f"it is on {mount.type}, a network file system",
            "changes that other hosts make are not told, and seen only by the scan every few hours",
            f"Run immich-dbsync on the machine that has the disks, or lower {name_in_use('scan_interval')}",
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
