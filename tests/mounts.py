"""File systems of a test's own, for which it has to be root."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(place: Path, *, megabytes: int = 8, inodes: int = 0) -> Iterator[Path]:
    """A small empty file system in memory at ``place``, which is there already; it holds ``inodes`` files, 0: any."""
    options = f"size={megabytes}m,nr_inodes={inodes},mode=1777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Such a file system at a place of its own that everybody reaches."""
    with tempfile.TemporaryDirectory(prefix="dbsync-disk-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder, "disk")
        place.mkdir()
        with mounted(place, megabytes=megabytes):
            yield place
