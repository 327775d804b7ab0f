"""The directories below a root, found without following a link, and which of them can be watched."""

import os
from collections.abc import Iterable, Iterator

from immich_dbsync.core.names import skip_directory
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import LONGEST

_PREFIX = 96  # bytes that the kernel's longest path has to spare for what leads to the root


def folders(root: Root, prefix: bytes = b"") -> Iterator[tuple[bytes, bool]]:
    """The folder at ``prefix`` and all below it, each with whether it can be watched.

    Hidden ones are left out, and where no folder is there is nothing. Blocks.
    """
    waiting = [prefix]
    while waiting:
        path = waiting.pop()
        try:
            fd = root.open_directory(path)
        except OSError:  # vanished, a link, a mount point, unreadable: the scan reports it, and none can be watched
            continue
        below: list[bytes] = []
        text = _is_text(os.fsdecode(path))
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    text = text and _is_text(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        below.append(os.fsencode(entry.name))
        except OSError:
            text = False
        finally:
            os.close(fd)
        yield path, text and len(path) <= LONGEST - _PREFIX
        below = [path + b"/" + name if path else name for name in below if skip_directory(name) is None]
        waiting += [each for each in below if len(each) < LONGEST]


class Unwatchable:
    """Folders that can't be watched, to be asked whether they changed."""

    def __init__(self) -> None:
        self._mtimes: dict[bytes, int] = {}  # as last seen, in nanoseconds

    def __len__(self) -> int:
        return len(self._mtimes)

    def __contains__(self, path: object) -> bool:
        return path in self._mtimes

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._mtimes)

    def add(self, paths: Iterable[bytes]) -> None:
        """Mind these folders, too; all are new to the next ``changed``."""
        self._mtimes.update(dict.fromkeys(paths, 0))

    def discard(self, paths: Iterable[bytes]) -> None:
        """Mind these no longer."""
        for path in paths:
            self._mtimes.pop(path, None)

    def changed(self, root: Root) -> set[bytes]:
        """Those with entries made, renamed or deleted since the last time. Blocks."""
        now = {path: _mtime(root, path) for path in self._mtimes}
        changed = {path for path, mtime in now.items() if mtime != self._mtimes[path]}
        self._mtimes = now
        return changed


def _mtime(root: Root, path: bytes) -> int:
    """When the folder's entries last changed; 0 where no folder is."""
    try:
        fd = root.reach_directory(path)
    except OSError:
        return 0
    try:
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: to watchfiles names are text, and an event about any other ends the watch."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
