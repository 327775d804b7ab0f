"""The directories below a root, found without following a link, and which of them can be watched."""

import os
from collections.abc import Iterator

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


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8: to watchfiles names are text, and an event about any other ends the watch."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
