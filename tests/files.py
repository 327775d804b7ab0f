"""What files hold, read beside a service that moves them."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def files_below(root: Path, *, hidden: bool = False, linked: bool = True) -> dict[str, bytes]:
    """Every regular file below ``root``, by its path below it; hidden ones only when asked for.

    ``linked``: those with other hard links, too. A file that leaves while this reads was not there.
    """
    found: dict[str, bytes] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if hidden or not name.startswith(".")]
        for path in (Path(folder, name) for name in names if hidden or not name.startswith(".")):
            with suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and (linked or status.st_nlink == 1):
                    found[str(path.relative_to(root))] = path.read_bytes()
    return found
