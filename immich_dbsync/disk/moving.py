"""Moves one file that was looked at, and looks again afterwards. Never replaces, never follows, never destroys.

Where rename does not reach, a file is copied, and the original set aside and unlinked. What a process that is killed
meanwhile leaves behind bears names of its own, by which the next one finds it.
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import xxhash

from immich_dbsync.disk.at import NAME_MAX, is_regular, pin, rename_at, stat_of, status_at
from immich_dbsync.disk.errors import Changed, NotTaken
from immich_dbsync.disk.hashing import BLOCK, xxh3_of
from immich_dbsync.disk.root import Root
from immich_dbsync.model import Stat, Xxh3

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_COPY, _ASIDE = b".immich-dbsync-copy-", b".immich-dbsync-aside-"
_LEFT = re.compile(rb"\.immich-dbsync-(copy|aside)-([0-9a-f]{12})-[0-9a-f]{16}(?:-(.+))?\Z", re.DOTALL)
_ROOM = 190  # bytes that are left for a name behind what marks it as set aside
_XATTRS = ("user.", "system.posix_acl_")  # what extended attributes begin with that go with a file
_MANY = 10_000  # names tried before giving up; a folder with so many copies of one name is no accident


@dataclass(frozen=True, slots=True)
class Looked:
    """A file that was looked at, at ``name`` in ``parent``; a context manager.

    ``fd`` pins its inode (O_PATH), so that its number can't pass to another file; ``stat`` is of that look.
    """

    parent: int
    name: bytes
    fd: int
    stat: Stat

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)


def look(root: Root, parent: int, name: bytes, path: bytes) -> Looked:
    """Pin the file at ``name``: Changed(``path``) when that does not count, FileNotFoundError when it is gone."""
    fd, status = pin(parent, name)
    try:
        root.check(status, path)
    except NotTaken as error:
        os.close(fd)
        raise Changed(path) from error
    return Looked(parent, name, fd, stat_of(status))


def xxh3_of_looked(looked: Looked) -> Xxh3 | None:
    """The digest of the pinned file; None when something else is at ``name`` by now, or it changes under the read."""
    fd = _reopen(looked)
    if fd is None:
        return None
    try:
        digest = xxh3_of(fd, looked.stat.size)
        return digest if stat_of(os.fstat(fd)) == looked.stat else None
    finally:
        os.close(fd)


def move(looked: Looked, target: int, names: Iterator[bytes], xxh3: Xxh3 | None) -> tuple[bytes, Stat]:
    """Move the pinned file from its place to the first free one of ``names`` in ``target``: that name and its stat.

    Where the file system can't rename between the two it is copied, compared (with ``xxh3`` where given), and only then
    taken from its place. Raises Changed when it is not the pinned file, unmodified, that arrived: it is moved back.
    """
    source, name = looked.parent, looked.name
    for new in names:
        try:
            # RACE: what is at `name` may be swapped for something else between the look and this rename, so the
            # arrived file is looked at again, and goes back when it is another one or was written to.
            rename_at(source, name, target, new)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copied = _copy(looked, target, new, xxh3)
            if copied is None:
                continue
            return new, copied
        status = status_at(target, new)
        if status is not None and (after := stat_of(status)).same_file(looked.stat):
            return new, after
        left = _move_back(source, name, target, new) if status is not None else None
        raise Changed(name, left)
    raise FileExistsError(errno.EEXIST, "no free name", name)


def _move_back(source: int, name: bytes, target: int, new: bytes) -> bytes | None:
    """Undo a rename; where the place is taken by now the file stays, and its name there is returned."""
    try:
        rename_at(target, new, source, name)
    except OSError:
        return new
    return None


def _reopen(looked: Looked) -> int | None:
    """Open the pinned file for reading, by name; None when the name leads to something else."""
    try:
        fd = os.open(looked.name, _READ, dir_fd=looked.parent)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            return None
        raise
    if os.path.sameopenfile(fd, looked.fd):
        return fd
    os.close(fd)
    return None


class _Process:
    """Tells what this process does now from what one before it left behind."""

    def __init__(self) -> None:
        self.token = b""
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.token = os.urandom(6).hex().encode()

    def name(self, mark: bytes) -> bytes:
        """A name that nobody has."""
        return mark + self.token + b"-" + os.urandom(8).hex().encode()


_process = _Process()


def left_behind(name: bytes) -> bool:
    """Whether a process that was killed left this: a copy that was not whole yet, or an original that was set aside."""
    match = _LEFT.match(name)
    return match is not None and match[2] != _process.token


def is_aside(name: bytes) -> bool:
    """Whether what was left behind is an original, and not a copy of one."""
    return name.startswith(_ASIDE)


def forget_left(parent: int, name: bytes) -> None:
    """Unlink a file that was left behind and is elsewhere as well; what is no file stays."""
    status = status_at(parent, name)
    if status is not None and is_regular(status):
        os.unlink(name, dir_fd=parent)


def undo_aside(parent: int, name: bytes, names: Callable[[bytes], Iterator[bytes]]) -> bytes:
    """Give an original that was set aside its name back, or the next free one of ``names``; returns it."""
    match = _LEFT.match(name)
    assert match is not None
    for new in names(match[3] or name.lstrip(b".")):
        try:
            rename_at(parent, name, parent, new)
        except FileExistsError:
            continue
        return new
    raise FileExistsError(errno.EEXIST, "no free name", name)


def _copy(looked: Looked, target: int, new: bytes, xxh3: Xxh3 | None) -> Stat | None:
    """The move where rename says EXDEV; None when ``new`` is taken. The copy is on disk before the source goes."""
    temporary = _process.name(_COPY)
    fd = _reopen(looked)
    if fd is None:
        raise Changed(looked.name)
    try:
        if not _write_copy(fd, looked, target, temporary, xxh3):
            raise Changed(looked.name)
    finally:
        os.close(fd)
    try:
        rename_at(target, temporary, target, new)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=target)
        if isinstance(error, FileExistsError):
            return None
        raise
    removed = False
    try:
        os.fsync(target)
        removed = _remove(looked)
    finally:
        if not removed:  # the original stays where it is: else each further try would leave a copy more
            os.unlink(new, dir_fd=target)
    if not removed:
        raise Changed(looked.name)
    return stat_of(os.stat(new, dir_fd=target, follow_symlinks=False))


def _write_copy(fd: int, looked: Looked, target: int, temporary: bytes, xxh3: Xxh3 | None) -> bool:
    """Copy, bring to disk, read it back; False, and no copy, when either differs from what was looked at."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = os.open(temporary, flags, 0o600, dir_fd=target)
    good = False
    try:
        digest = xxhash.xxh3_128()
        length = 0
        while length <= looked.stat.size and (block := os.read(fd, BLOCK)):
            digest.update(block)
            length += len(block)
            if block.count(0) == len(block):  # a hole stays one, else a file of holes would fill the disk
                os.lseek(copy, len(block), os.SEEK_CUR)
                continue
            view = memoryview(block)
            while view:
                view = view[os.write(copy, view) :]
        os.ftruncate(copy, length)
        status = os.fstat(fd)
        os.fchown(copy, status.st_uid, status.st_gid)
        os.fchmod(copy, status.st_mode & 0o777)
        _copy_attributes(fd, copy)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(copy)
        read = Xxh3(digest.digest())
        good = stat_of(status) == looked.stat and read == (xxh3 or read) and xxh3_of(copy, length) == read
    finally:
        os.close(copy)
        if not good:
            os.unlink(temporary, dir_fd=target)
    return good


def _copy_attributes(source: int, copy: int) -> None:
    """Extended attributes that a file's owner gave it, and access control lists."""
    names: list[str] = []
    with suppress(OSError):  # the file system knows none
        names = sorted(name for name in os.listxattr(source) if name.startswith(_XATTRS))  # the lists first
    for name in names:
        with suppress(OSError):
            os.setxattr(copy, name, os.getxattr(source, name))


def _remove(looked: Looked) -> bool:
    """Unlink the pinned file. Set aside first, so that a file swapped in is put back and not unlinked."""
    source, name = looked.parent, looked.name
    aside = _process.name(_ASIDE) + b"-" + fitted(name, b"", b"", most=_ROOM)
    try:
        rename_at(source, name, source, aside)
    except FileNotFoundError:
        return False
    status = status_at(source, aside)
    if status is not None and stat_of(status).same_file(looked.stat):
        # RACE: the name is fresh and hidden; only its folder's owner could swap it, for a file of their own.
        try:
            os.unlink(aside, dir_fd=source)
        except FileNotFoundError:
            pass  # another service has come since, found it, and did that
        except OSError:
            if _move_back(source, name, source, aside) is not None:
                return True  # it stays aside, and is found by the next service; the copy must stay as well
            raise
        return True
    if status is not None and _move_back(source, name, source, aside) is not None:
        undo_aside(source, aside, restored)  # its place is taken by yet another: beside it
    return False


def numbered(name: bytes) -> Iterator[bytes]:
    """``IMG.jpg``, ``IMG.jpg~2``, ``IMG.jpg~3``, …: the names of a file in quarantine."""
    yield name
    for number in range(2, _MANY):
        yield fitted(name, b"", b"~%d" % number)


def restored(name: bytes) -> Iterator[bytes]:
    """``IMG.jpg``, ``IMG (restored).jpg``, ``IMG (restored 2).jpg``, …: the names of a file that comes back."""
    yield name
    yield fitted(name, b" (restored)", b"")
    for number in range(2, _MANY):
        yield fitted(name, b" (restored %d)" % number, b"")


def fitted(name: bytes, infix: bytes, suffix: bytes, *, most: int = NAME_MAX) -> bytes:
    """``name`` with ``infix`` before its extension and ``suffix`` behind it, the stem cut so that it fits in ``most``.

    The cut falls between UTF-8 characters where the name is UTF-8.
    """
    dot = name.rfind(b".")
    stem, extension = (name[:dot], name[dot:]) if dot > 0 else (name, b"")
    room = most - len(infix) - len(extension) - len(suffix)
    if room < 1:  # hardly an extension: the whole name is cut
        stem, extension, room = name, b"", most - len(infix) - len(suffix)
    if len(stem) > room:
        cut = room
        while cut > max(room - 4, 1) and stem[cut] & 0xC0 == 0x80:  # a byte that continues a character
            cut -= 1
        stem = stem[:cut]
    return stem + infix + extension + suffix
