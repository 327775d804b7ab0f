"""Lists an owner's folder: every file that counts, in the order of its path's bytes, to be compared as a stream."""

import errno
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from stat import S_ISREG

from immich_dbsync.core.names import MARKED, LeftAlone, NameRules, skip_directory
from immich_dbsync.disk.at import GONE, open_directory_at
from immich_dbsync.disk.errors import OtherDevice
from immich_dbsync.disk.moving import left_behind
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath

# os.scandir of a descriptor gives str; this is how os.fsencode takes them back to bytes, without its overhead.
_ENCODING = sys.getfilesystemencoding()
_OPEN = 16  # descriptors held at a time; directories further up are opened again on the way back
LONGEST = 4096
"""How many bytes the path of a folder below the root may have: PATH_MAX of Linux.

A tool that names files by their paths can't make longer ones, but a program that goes down step by step can, without
end, and each file below would cost as much memory as its path is long.
"""
_MOST = 1000  # errors and the like that are kept; `unreadable` is always complete


Found = tuple[RelPath, os.stat_result]
"""A file that counts, as ``lstat`` tells of it. No class of its own: to make one took a third of a walk."""


@dataclass(slots=True)
class _Folder:
    """A directory on the way down. ``left`` has what is still to do, last first; names of folders end in ``/``."""

    prefix: bytes
    fd: int
    identity: tuple[int, int]
    left: list[bytes]


class Walk:
    """One walk, in ``memcmp`` order of the whole path; iterable once, whole or by ``take``.

    Holds one path's directories in memory and at most a few descriptors, whatever the depth. What vanishes during the
    walk is not an error. Ask for the root's health afterwards: a root that was emptied looks like an empty one.

    - ``left_alone`` counts what does not count, a skipped folder once.
    - ``unreadable`` holds every path that could not be looked at; ``b""`` is the whole root. Nothing at or below such
      a path may be taken for deleted. Mount points and folders replaced during the walk are among them.
    - ``errors`` has the first 1,000 of these with their OSError.
    - ``left_behind`` has the first 1,000 files that a process of ours left in a move, when it was killed.
    """

    def __init__(self, root: Root, rules: NameRules | None, prefix: bytes = b"", *, longest: int = LONGEST) -> None:
        """``longest``: the most bytes that a folder's path may have."""
        self.left_alone: Counter[LeftAlone] = Counter()
        self.unreadable: set[bytes] = set()
        self.errors: list[tuple[bytes, OSError]] = []
        self.left_behind: list[RelPath] = []
        self._root = root
        self._rules = rules
        self._longest = longest
        self._stack: list[_Folder] = []
        self._found = self._run(prefix)

    def __iter__(self) -> Iterator[Found]:
        return self._found

    def take(self, count: int) -> list[Found]:
        """The next ``count`` files, fewer at the end, none after it. For use from a thread, one call at a time."""
        return list(islice(self._found, count))

    def close(self) -> None:
        """Give back the descriptors of a walk that is not carried to its end."""
        self._found.close()

    def _run(self, prefix: bytes) -> Generator[Found, None, None]:
        root, left_alone, stack = self._root, self.left_alone, self._stack
        device, owner = root.device, root.status.st_uid
        try:
            self._begin(prefix)
            while stack:
                folder = stack[-1]
                left = folder.left
                if not left or not self._reopened(folder):
                    self._leave()
                    continue
                fd, above = folder.fd, folder.prefix
                while left:
                    name = left.pop()
                    if name.endswith(b"/"):
                        self._descend(fd, above + name)
                        break
                    try:
                        status = os.lstat(name, dir_fd=fd)
                    except OSError as error:
                        self._failed(above + name, error)
                        continue
                    if not S_ISREG(status.st_mode):
                        left_alone[LeftAlone.NOT_REGULAR] += 1
                    elif not status.st_size:
                        left_alone[LeftAlone.EMPTY] += 1
                    elif status.st_dev != device:
                        self._failed(above + name, OtherDevice(name))
                    elif status.st_uid != owner and not root.owner.may_read(status):
                        left_alone[LeftAlone.FOREIGN_LINK] += 1
                    else:
                        yield RelPath(above + name), status
        finally:
            while stack:
                self._leave()

    def _begin(self, prefix: bytes) -> None:
        if self._rules is not None and prefix:
            if any(skip_directory(name) for name in prefix.split(b"/")):
                self.left_alone[LeftAlone.HIDDEN] += 1
                return
            if self._rules.excluded_folder(prefix):
                self.left_alone[LeftAlone.EXCLUDED] += 1
                return
        try:
            fd = self._root.open_directory(prefix)
        except OSError as error:
            self._failed(prefix, error)
        else:
            self._enter(fd, prefix + b"/" if prefix else b"")

    def _descend(self, parent: int, prefix: bytes) -> None:
        if len(prefix) > self._longest:
            self._failed(prefix[:-1], OSError(errno.ENAMETOOLONG, f"a path of more than {self._longest} bytes"))
            return
        name = prefix[prefix.rfind(b"/", 0, -1) + 1 : -1]
        try:
            fd = open_directory_at(parent, name, self._root.device)
        except OSError as error:
            self._failed(prefix[:-1], error)
        else:
            self._enter(fd, prefix)

    def _enter(self, fd: int, prefix: bytes) -> None:
        status = os.fstat(fd)
        folder = _Folder(prefix, fd, (status.st_dev, status.st_ino), [])
        self._stack.append(folder)
        try:
            folder.left = self._list(fd, prefix)
        except OSError as error:  # half a listing is none: what it lacks is not gone
            self._failed(prefix[:-1], error)
        if len(self._stack) > _OPEN:
            _close(self._stack[-1 - _OPEN])

    def _leave(self) -> None:
        _close(self._stack.pop())

    def _reopened(self, folder: _Folder) -> bool:
        """Whether the folder has a descriptor (again) and is still the same directory."""
        if folder.fd >= 0:
            return True
        path = folder.prefix[:-1]
        try:
            folder.fd = self._root.open_directory(path)
        except OSError as error:
            self._failed(path, error)
            return False
        status = os.fstat(folder.fd)
        if (status.st_dev, status.st_ino) == folder.identity:
            return True
        self._failed(path, OSError(errno.ESTALE, "replaced by another folder during the walk"))
        return False

    def _list(self, fd: int, prefix: bytes) -> list[bytes]:
        """The names that count by name and type, in descending order; directories with a ``/``, as their paths sort."""
        rules, left_alone = self._rules, self.left_alone
        plain = rules.plain if rules is not None else frozenset[bytes]()
        names: list[bytes] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, "surrogateescape")
                reason: LeftAlone | None
                if entry.is_file(follow_symlinks=False):
                    if name[0] not in MARKED and name[name.rfind(b".") :].lower() in plain:
                        names.append(name)  # what `rules` would say, at a third of the cost
                        continue
                    reason = rules.name(name, prefix + name) if rules else skip_directory(name)
                    if reason is not None and left_behind(name) and len(self.left_behind) < _MOST:
                        self.left_behind.append(RelPath(prefix + name))
                elif entry.is_dir(follow_symlinks=False):
                    reason = skip_directory(name)
                    if reason is None and rules is not None and rules.exclude and rules.excluded_folder(prefix + name):
                        reason = LeftAlone.EXCLUDED
                    name += b"/"
                else:
                    reason = skip_directory(name) or LeftAlone.NOT_REGULAR
                if reason is None:
                    names.append(name)
                else:
                    left_alone[reason] += 1
        names.sort(reverse=True)
        return names

    def _failed(self, path: bytes, error: OSError) -> None:
        """Vanished is fine, a link swapped in is left alone; everything else makes the path unreadable."""
        if error.errno == errno.ENOENT:
            return
        if error.errno in GONE:
            self.left_alone[LeftAlone.NOT_REGULAR] += 1
            return
        reason = LeftAlone.OTHER_DEVICE if isinstance(error, OtherDevice) else LeftAlone.UNREADABLE
        self.left_alone[reason] += 1
        self.unreadable.add(path)
        if len(self.errors) < _MOST:
            self.errors.append((path, error))


def walk(root: Root, rules: NameRules, prefix: bytes = b"") -> Walk:
    """Walk the folder at ``prefix`` (``b""``: the whole root); no folder there, or a file, yields nothing."""
    return Walk(root, rules, prefix)


def _close(folder: _Folder) -> None:
    fd, folder.fd = folder.fd, -1
    if fd >= 0:
        os.close(fd)
