"""Operations relative to a directory's descriptor that the standard library lacks or spells at length."""

import ctypes
import errno
import os
import stat
import struct
import sys
from contextlib import suppress

from immich_dbsync.disk.errors import OtherDevice
from immich_dbsync.model import Stat

# What the kernel says when a path leads nowhere any more: gone, a parent is a file, or a link that is not followed.
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

_LAST_NS = (1 << 63) - 1

NAME_MAX = 255  # bytes; linux/limits.h

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REACHED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory for what lies in it by name. Opening it to be listed would be an event to whoever watches it: to us."""
_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1  # linux/fs.h
# renameat2 is in glibc since 2.28, in musl since 1.2.5; the symbol is looked up once.
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
# openat2(2), in Linux since 5.6; it has no function in the C library. Its number is the same on every architecture.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8  # linux/openat2.h
_HOW = {
    flags: struct.pack("=QQQ", flags, 0, _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH)
    for flags in (DIRECTORY, REACHED)
}
# What it says where it is not to be had (a container may forbid what it does not know), was disturbed, or where a path
# is longer or leads through a mount: for all of that there is another way.
_NOT_AT_ONCE = frozenset(
    {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EAGAIN, errno.EINTR, errno.ENAMETOOLONG, errno.EXDEV}
)
# statx is in glibc since 2.28, in musl since 1.2.4. Layout and numbers: linux/stat.h.
_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
_STATX_SIZE = 256
_STATX_BTIME = 0x800
_BTIME = struct.Struct("=qI")
_BTIME_AT = 80
_AT_SYMLINK_NOFOLLOW = 0x100


def stat_of(status: os.stat_result) -> Stat:
    """The four values that records keep."""
    mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
    if not 0 <= mtime <= _LAST_NS or not 0 <= ctime <= _LAST_NS:
        mtime, ctime = bounded(mtime), bounded(ctime)
    return Stat(status.st_size, mtime, ctime, status.st_ino)


def bounded(ns: int) -> int:
    """A time as a file may have it by accident or malice, within the 64 bits that it is kept in: to the year 2262."""
    return min(max(ns, -_LAST_NS - 1), _LAST_NS)


def born_at(parent: int, name: bytes) -> int | None:
    """When the inode at ``name`` was made, in nanoseconds; None where that is not to be had."""
    if _statx is None:
        return None
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _statx(parent, name, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer) != 0:
        return None
    if not int.from_bytes(buffer.raw[:4], sys.byteorder) & _STATX_BTIME:
        return None
    seconds, nanoseconds = _BTIME.unpack_from(buffer, _BTIME_AT)
    return bounded(seconds * 10**9 + nanoseconds)


def open_directory_at(parent: int, name: bytes, device: int, flags: int = DIRECTORY) -> int:
    """A descriptor of the directory ``name``, one component; OSError for links and files, OtherDevice for mounts.

    ``flags``: DIRECTORY, or REACHED for one that is not to be listed or synced to disk.
    """
    fd = os.open(name, flags, dir_fd=parent)
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OtherDevice(name)
    return fd


def open_directory_beneath(root: int, path: bytes, flags: int = DIRECTORY) -> int | None:
    """A descriptor of the directory at ``path``, of several components, through no link and no mount, in one call.

    None where it has to be opened component by component; OSError and ``flags`` as ``open_directory_at``. In a thread
    each call waits for Python's lock, so that their number counts for more than what they do.
    """
    fd: int = _syscall(_OPENAT2, root, path, _HOW[flags], len(_HOW[flags]))
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    if code in _NOT_AT_ONCE:
        return None
    raise OSError(code, os.strerror(code), path)


def make_directory_at(parent: int, name: bytes, device: int) -> int:
    """As ``open_directory_at``; a missing directory is made, 0700."""
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    return open_directory_at(parent, name, device)


def pin(parent: int, name: bytes) -> tuple[int, os.stat_result]:
    """Hold on to whatever is at ``name`` without opening it: no FIFO blocks, no device wakes, no link is followed.

    While the descriptor is open the kernel cannot give the inode's number to another file.
    """
    fd = os.open(name, _PIN, dir_fd=parent)
    return fd, os.fstat(fd)


def status_at(parent: int, name: bytes) -> os.stat_result | None:
    """``lstat`` of one component; None when it is gone."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise


def rename_at(source: int, name: bytes, target: int, new: bytes) -> None:
    """Rename without replacing: FileExistsError when ``new`` is taken, else as ``os.rename``.

    Some file systems (NFS, older ZFS) know no RENAME_NOREPLACE: there a hard link claims the name.
    """
    if _renameat2 is not None:
        if _renameat2(source, name, target, new, _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in {errno.EINVAL, errno.ENOSYS}:
            raise OSError(code, os.strerror(code), new if code == errno.EEXIST else name)
    _rename_by_link(source, name, target, new)


def _rename_by_link(source: int, name: bytes, target: int, new: bytes) -> None:
    try:
        os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except PermissionError:
        # A directory, or a file system without hard links. RACE: a file made at `new` after this look is replaced.
        if status_at(target, new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        return
    linked, left = status_at(target, new), status_at(source, name)
    # RACE: a file swapped in at `name` after this look would be unlinked; reached only without RENAME_NOREPLACE.
    if linked is not None and left is not None and linked.st_ino == left.st_ino:
        os.unlink(name, dir_fd=source)


def is_regular(status: os.stat_result) -> bool:
    """Whether this is an ordinary file."""
    return stat.S_ISREG(status.st_mode)
