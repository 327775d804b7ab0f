"""The directories below a root that may be watched, found without following a link."""

import os
from collections.abc import Iterator

from immich_dbsync.core.names import skip_directory
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import DEEPEST

# The kernel takes paths of up to PATH_MAX (4096) bytes; the rest is for the prefix that leads to the root.
_LONGEST = 4000


def folders(root: Root, prefix: bytes = b"") -> Iterator[bytes]:
    """The folder at ``prefix`` and all below it, hidden ones left out; nothing where no folder is. Blocks."""
    waiting = [prefix]
    while waiting:
        path = waiting.pop()
        try:
            fd = root.open_directory(path)
        except OSError:  # vanished, a link, a mount point, unreadable: the scan reports it, and none can be watched
            continue
        try:
            yield path
            if path.count(b"/") >= DEEPEST:
                continue
            with os.scandir(fd) as entries:
                names = [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        finally:
            os.close(fd)
        waiting += [path + b"/" + name if path else name for name in names if skip_directory(name) is None]


def watchable(path: bytes) -> bool:
    """Whether watchfiles can be told of this folder: names are text to it, and the kernel has a longest path."""
    if len(path) > _LONGEST:
        return False
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
