"""Our command on a kernel that misbehaves: ``python -m tests.faults.seam run`` is ``immich-dbsync run``.

For what a test can't have of the real one. Files in the folder that ``SEAM_FOLDER`` names switch it, at any time:
``exdev`` (no rename reaches another folder), ``clock`` (its text is by how many seconds the clock is off), ``eio`` (no
file can be read whose path ends so).
"""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from immich_dbsync.cli.main import main
from immich_dbsync.disk import at, marker, moving

FOLDER_VARIABLE = "SEAM_FOLDER"


def _switch(folder: Path, name: str) -> str | None:
    try:
        return (folder / name).read_text()
    except FileNotFoundError:
        return None


def set_up(folder: Path) -> None:
    """Have the kernel that the service knows go by the switches in this folder."""
    now: Callable[[], int] = time.time_ns
    preadv: Callable[..., Any] = os.preadv

    def time_ns() -> int:
        return now() + int(float(_switch(folder, "clock") or 0) * 1e9)

    def rename_at(source: int, name: bytes, target: int, new: bytes) -> None:
        if _switch(folder, "exdev") is not None and os.fstat(source).st_ino != os.fstat(target).st_ino:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        plain(source, name, target, new)

    def broken_preadv(fd: int, *rest: Any) -> Any:
        suffix = _switch(folder, "eio")
        if suffix is not None and str(Path(f"/proc/self/fd/{fd}").readlink()).endswith(suffix):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(fd, *rest)

    plain = at.rename_at
    time.time_ns = time_ns
    os.preadv = broken_preadv
    for module in (at, marker, moving):
        vars(module)["rename_at"] = rename_at


if __name__ == "__main__":
    set_up(Path(os.environ[FOLDER_VARIABLE]))
    main()
