"""Makes a user's folder below the sync root."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from immich_dbsync.disk.at import DIRECTORY
from immich_dbsync.errors import RootUnusable

_OTHERS = 0o007


@dataclass(frozen=True, slots=True)
class Folder:
    """A user's folder: whether it was just ``made``, whose it is, and its permissions (as in ``0o750``)."""

    path: Path
    made: bool
    uid: int
    gid: int
    mode: int


def make_folder(
    sync_root: Path, name: str, *, uid: int | None = None, gid: int | None = None, mode: int | None = None
) -> Folder:
    """Make ``<sync root>/<name>``, with owner, group and mode of the sync root where none are given.

    Others get no rights by themselves: a sync root that `mkdir` made can be read by everybody, which nobody decided.
    One that is there stays as it is. Raises RootUnusable where the sync root is not there, something else has the name,
    or we may not.
    """
    path = sync_root / name
    try:
        above = os.open(sync_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RootUnusable(
            f"The sync root {str(sync_root)!r} can't be opened ({error.strerror}): make it, or mount it, first."
        ) from error
    try:
        like = os.fstat(above)
        wanted = (
            like.st_uid if uid is None else uid,
            like.st_gid if gid is None else gid,
            stat.S_IMODE(like.st_mode) & ~_OTHERS if mode is None else mode,
        )
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            return _there(path, above, name)
        try:
            _hand_over(above, name, *wanted)
        except OSError as error:
            with suppress(OSError):
                os.rmdir(name, dir_fd=above)
            raise RootUnusable(
                f"{str(path)!r} can't be given to user {wanted[0]} and group {wanted[1]} ({error.strerror}):"
                " run as root, or name another with --folder-owner."
            ) from error
        return Folder(path, True, *wanted)
    except OSError as error:
        raise RootUnusable(
            f"{str(path)!r} can't be made ({error.strerror}): run as root, or as the owner of {str(sync_root)!r}."
        ) from error
    finally:
        os.close(above)


def _hand_over(above: int, name: str, uid: int, gid: int, mode: int) -> None:
    fd = os.open(name, DIRECTORY, dir_fd=above)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _there(path: Path, above: int, name: str) -> Folder:
    status = os.stat(name, dir_fd=above, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise RootUnusable(f"{str(path)!r} is {what}: move it away; the folder itself has to be there.")
    return Folder(path, False, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
