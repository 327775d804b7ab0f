"""An owner's folder. The service is root and the owner may be hostile: every path is opened from here.

One component at a time, never through a link, type and device looked at after opening.
"""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from immich_dbsync.core.names import LeftAlone, valid_path
from immich_dbsync.disk.access import READ, SEARCH, Reader
from immich_dbsync.disk.at import (
    DIRECTORY,
    GONE,
    REACHED,
    born_at,
    is_regular,
    open_directory_at,
    open_directory_beneath,
    stat_of,
    status_at,
)
from immich_dbsync.disk.errors import NotTaken, OtherDevice
from immich_dbsync.errors import RootUnusable
from immich_dbsync.model import RelPath, Stat

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


class Root:
    """An owner's folder, opened once; a context manager that closes it.

    ``fd`` is its descriptor, ``device`` and ``inode`` its identity, ``status`` and ``owner`` say whose it is. What is
    renamed over its path later does not change what this object means; ``still_there`` tells.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, DIRECTORY)
        except OSError as error:
            raise RootUnusable(_advice(path, error)) from error
        status = os.fstat(self.fd)
        self.device, self.inode, self.status = status.st_dev, status.st_ino, status
        self.owner = Reader(status.st_uid, status.st_gid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def open_directory(self, path: bytes) -> int:
        """A new descriptor of the directory at ``path``; ``b""`` is the root itself. The caller closes it.

        Raises OSError as ``open`` does (ELOOP or ENOTDIR for links), OtherDevice where something is mounted, and
        ValueError for what is no path below a root.
        """
        return self._open(path, DIRECTORY)

    def reach_directory(self, path: bytes) -> int:
        """As ``open_directory``, for what lies in it by name: it can't be listed, and nobody is told of it."""
        return self._open(path, REACHED)

    def _open(self, path: bytes, flags: int) -> int:
        if path and (found := open_directory_beneath(self.fd, valid_path(path), flags)) is not None:
            if os.fstat(found).st_dev != self.device:  # a subvolume, say
                os.close(found)
                raise OtherDevice(path)
            return found
        # Not dup: descriptors that are dups share one position, and two listings at once would share the entries.
        fd = os.open(b".", flags, dir_fd=self.fd)
        for name in valid_path(path).split(b"/") if path else ():
            try:
                child = open_directory_at(fd, name, self.device, flags)
            finally:
                os.close(fd)
            fd = child
        return fd

    def open_parent(self, path: RelPath) -> tuple[int, bytes]:
        """A descriptor of the directory that holds ``path``, and the last component, as ``reach_directory``."""
        folder, _, name = valid_path(path).rpartition(b"/")
        return self.reach_directory(folder), name

    def open_file(self, path: RelPath) -> tuple[int, Stat]:
        """A descriptor for reading and the file's stat after opening. The caller closes it.

        Raises FileNotFoundError when the path leads nowhere (also: through a link), NotTaken when what is there does
        not count, other OSError as ``open`` does.
        """
        try:
            parent, name = self.open_parent(path)
        except OtherDevice as error:
            raise NotTaken(path, LeftAlone.OTHER_DEVICE) from error
        except OSError as error:
            raise _gone_or(error, path) from error
        try:
            try:
                before = status_at(parent, name)
            except OSError as error:
                raise _gone_or(error, path) from error
            if before is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self.check(before, path)  # before opening too: opening a device may do something
            fd = _open_reading(parent, name, path)
        finally:
            os.close(parent)
        try:
            status = os.fstat(fd)
            self.check(status, path)
            if not self.owner.owns(status):
                os.close(fd)
                fd = -1
                fd, status = self._open_foreign(path)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            raise
        return fd, stat_of(status)

    def _open_foreign(self, path: RelPath) -> tuple[int, os.stat_result]:
        """Open somebody else's file, as far as the root's owner may do so: each folder on the way is asked as well.

        From one open folder to the next, so that what was asked is what leads there. Errors as ``open_file``.
        """
        *folders, name = path.split(b"/")
        parent = os.open(b".", DIRECTORY, dir_fd=self.fd)
        try:
            for folder in folders:
                child = open_directory_at(parent, folder, self.device)
                os.close(parent)
                parent = child
                if not self.owner.may(SEARCH, parent, os.fstat(parent)):
                    raise NotTaken(path, LeftAlone.FOREIGN_LINK)
            fd = _open_reading(parent, name, path)
        except OSError as error:  # it was exchanged since
            raise _gone_or(error, path) from error
        finally:
            os.close(parent)
        try:
            status = os.fstat(fd)
            self.check(status, path)
            if not self.owner.may(READ, fd, status):
                raise NotTaken(path, LeftAlone.FOREIGN_LINK)  # noqa: TRY301  # the descriptor is closed below
        except BaseException:
            os.close(fd)
            raise
        return fd, status

    def check(self, status: os.stat_result, path: bytes) -> None:
        """Raise NotTaken unless this is an ordinary file of this root's device and no link to a stranger's file."""
        if not is_regular(status):
            raise NotTaken(path, LeftAlone.NOT_REGULAR)
        if status.st_dev != self.device:
            raise NotTaken(path, LeftAlone.OTHER_DEVICE)
        if not self.owner.may_read(status):
            raise NotTaken(path, LeftAlone.FOREIGN_LINK)

    def stat(self, path: RelPath) -> Stat | None:
        """The stat of the regular file at ``path``; None when there is none any more.

        A link, or a link or file in place of a parent, is None too: the file is not in this tree. A mount point raises
        OtherDevice, for what it covers may still be there; other OSErrors pass through.
        """
        found = self.stats([path])[path]
        if isinstance(found, OSError):
            raise found
        return found

    def stats(self, paths: Iterable[RelPath]) -> dict[RelPath, Stat | OSError | None]:
        """What ``stat`` returns for each of these paths, or raises; a folder is opened once for all that lie in it."""
        found: dict[RelPath, Stat | OSError | None] = {}
        for folder, members in _by_folder(paths).items():
            try:
                parent = self.reach_directory(folder)
            except OSError as error:
                found |= dict.fromkeys((path for path, _ in members), None if error.errno in GONE else error)
                continue
            try:
                found |= {path: self._stat_at(parent, name, path) for path, name in members}
            finally:
                os.close(parent)
        return found

    def _stat_at(self, parent: int, name: bytes, path: RelPath) -> Stat | OSError | None:
        try:
            status = status_at(parent, name)
        except OSError as error:
            return error
        if status is None or not is_regular(status):
            return None
        return stat_of(status) if status.st_dev == self.device else OtherDevice(path)

    def absent(self, paths: Iterable[RelPath]) -> set[RelPath]:
        """At which of these paths nothing at all is, no folder or link either, as far as that can be told."""
        found: set[RelPath] = set()
        for folder, members in _by_folder(paths).items():
            try:
                parent = self.reach_directory(folder)
            except OSError as error:
                found |= {path for path, _ in members} if error.errno in GONE else set()
                continue
            try:
                found |= {path for path, name in members if _is_absent(parent, name)}
            finally:
                os.close(parent)
        return found

    def born(self, path: RelPath) -> int | None:
        """When the inode at ``path`` was made, in nanoseconds since 1970; None where that is not to be had."""
        try:
            parent, name = self.open_parent(path)
        except OSError:
            return None
        try:
            return born_at(parent, name)
        finally:
            os.close(parent)

    def still_there(self) -> bool:
        """Whether ``path`` leads to this very directory, and its last component is no link."""
        try:
            status = self.path.stat(follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) == (self.device, self.inode)


def _by_folder(paths: Iterable[RelPath]) -> dict[bytes, list[tuple[RelPath, bytes]]]:
    """The paths and their last components, by the folder that they lie in."""
    folders: dict[bytes, list[tuple[RelPath, bytes]]] = {}
    for path in paths:
        folder, _, name = valid_path(path).rpartition(b"/")
        folders.setdefault(folder, []).append((path, name))
    return folders


def _is_absent(parent: int, name: bytes) -> bool:
    try:
        return status_at(parent, name) is None
    except OSError:
        return False


def _open_reading(parent: int, name: bytes, path: RelPath) -> int:
    try:
        return os.open(name, _FILE | os.O_NOATIME, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EPERM:  # O_NOATIME is for the file's owner and for root
            raise _gone_or(error, path) from error
    try:
        return os.open(name, _FILE, dir_fd=parent)
    except OSError as error:
        raise _gone_or(error, path) from error


def _gone_or(error: OSError, path: RelPath) -> Exception:
    """What a failed open means for the file: gone, unreadable, or a fault that the caller must see as it is."""
    if error.errno in GONE:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return NotTaken(path, LeftAlone.UNREADABLE) if error.errno in _FORBIDDEN else error


def _advice(path: Path, error: OSError) -> str:
    if error.errno not in _FORBIDDEN and path.is_symlink():  # where we may not look it would raise
        return f"{str(path)!r} is a link: put the folder itself there, or mount it there"
    if error.errno == errno.ENOENT:
        return f"{str(path)!r} does not exist: create it, or mount it, and let the file sync tool fill it"
    if error.errno == errno.ENOTDIR:
        return f"{str(path)!r} is not a folder: move what is there away and create the folder"
    return f"{str(path)!r} can't be opened ({os.strerror(error.errno or 0)}): give the service the right to read it"
