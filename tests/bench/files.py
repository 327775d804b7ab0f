"""The files that everything is measured on: the same ones in every run.

A file begins with a text of its own, or has a size of its own, and is a hole else. Read once, its pages are in the page
cache like any others, at the cost of no disk; neither the service nor a floor can tell.
"""

import hashlib
import math
import os
import random
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from uuid import UUID

import xxhash

CORES = os.cpu_count() or 1
OLD = 1_700_000_000  # an mtime that is not fresh
SMALL = range(4 << 10, 132 << 10)
"""The sizes of small pictures: 68 KiB in the mean."""

_PART = 1_000  # files that a process makes at a time
_SHARES = 8 * CORES  # of what is removed
_MIB = 1 << 20
_SIGN = 1 << 63


@dataclass(frozen=True, slots=True)
class Planned:
    """A file to be made: its path below the root, its size in bytes, and whether it is a mere hole.

    That takes no block of the disk, so that it is made and removed sooner, and is known by its size alone.
    """

    path: str
    size: int
    hole: bool = False

    @property
    def head(self) -> bytes:
        """How its bytes begin, unlike any other's; nothing of a hole."""
        return b"" if self.hole else f"picture {self.path} of {self.size}\n".encode()[: self.size]


def asset_of(path: str) -> UUID:
    """The id of the asset that a path's file has in a library made for it: a version 4 UUID, always the same."""
    return UUID(bytes=hashlib.md5(path.encode(), usedforsecurity=False).digest(), version=4)


# --- what is made ---


def tiny(folder: str, count: int, *, first: int = 0) -> list[Planned]:
    """So many files of less than a hundred bytes, for what never reads them."""
    return [Planned(f"{folder}/IMG_{number:07}.jpg", 80) for number in range(first, first + count)]


def in_folders(folder: str, count: int, *, each: int = 1_000) -> list[Planned]:
    """So many tiny files in folders of ``each``."""
    return [
        file
        for first in range(0, count, each)
        for file in tiny(f"{folder}/{first // each:04}", min(each, count - first), first=first)
    ]


def resized(files: Sequence[Planned], *, seed: int, holes: bool = False) -> list[Planned]:
    """These files as small pictures: of ``SMALL`` bytes, no two of one size, which is all that tells ``holes`` apart.

    A size that is known makes a file look like a copy, which large pictures seldom do.
    """
    sizes = random.Random(seed).sample(SMALL, len(files))
    return [Planned(file.path, size, holes) for file, size in zip(files, sizes, strict=True)]


def mixed(folder: str, total: int, *, seed: int) -> list[Planned]:
    """Files of about ``total`` bytes together as a phone has them: two fifths in videos, the rest mostly photos."""
    chosen = random.Random(seed)
    kinds = ((0.4, 25 * _MIB, 200 * _MIB, "VID_{}.mp4"), (0.55, 2 * _MIB, 8 * _MIB, "IMG_{}.jpg"))
    rest = (0.05, 16 << 10, 256 << 10, "Screenshot_{}.png")
    found: list[Planned] = []
    for share, least, most, name in (*kinds, rest):
        left = int(total * share)
        while left > 0:
            size = min(left, int(math.exp(chosen.uniform(math.log(least), math.log(most)))))
            found.append(Planned(f"{folder}/{len(found) // 500:03}/{name.format(f'{len(found):06}')}", size))
            left -= size
    return found


# --- making ---


def write(root: Path, file: Planned, *, mtime: float | None = None, unread: bool = False) -> os.stat_result:
    """Make one file; with ``mtime`` as old as that, like a file sync tool's; ``unread``: of its size alone."""
    fd = os.open(f"{root}/{file.path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        written = os.write(fd, file.head) if file.head and not unread else 0
        if file.size > written:
            os.ftruncate(fd, file.size)
        if mtime is not None:
            os.utime(fd, (mtime, mtime))
        return os.fstat(fd)
    finally:
        os.close(fd)


def make_folders(root: Path, files: Iterable[Planned]) -> None:
    """The folders that these files lie in."""
    for folder in sorted({file.path.rpartition("/")[0] for file in files}):
        (root / folder).mkdir(parents=True, exist_ok=True)


def make(root: Path | None, files: Sequence[Planned], *, unread: bool = False) -> Iterator[bytes]:
    """Make all these files on all cores, none without a root; yields what `fill` copies into its table, by parts.

    What nobody reads may be made ``unread``: as a hole, though its digests are told as if it had its text.
    """
    if root is not None:
        make_folders(root, files)
    parts = [files[first : first + _PART] for first in range(0, len(files), _PART)]
    with workers() as pool:
        yield from pool.map(partial(_make_part, root, unread), parts)


def workers() -> ProcessPoolExecutor:
    """A process for each core; Ctrl-C is for whoever waits for them."""
    return ProcessPoolExecutor(CORES, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))


def _make_part(root: Path | None, unread: bool, files: Sequence[Planned]) -> bytes:
    return b"".join(_line(file, write(root, file, unread=unread) if root is not None else None) for file in files)


def _line(file: Planned, status: os.stat_result | None) -> bytes:
    """A line of COPY's text format: path, size, mtime, ctime, inode, XXH3, SHA-1, asset."""
    sha1, xxh3 = digests(file)
    mtime, ctime, inode = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino) if status is not None else (0, 0, 0)
    inode = inode - 2 * _SIGN if inode >= _SIGN else inode
    path = os.fsencode(file.path).hex()
    return (
        rf"\\x{path}" + f"\t{file.size}\t{mtime}\t{ctime}\t{inode}\t" + rf"\\x{xxh3.hex()}" + "\t" + rf"\\x{sha1.hex()}"
        f"\t{asset_of(file.path)}\n"
    ).encode()


_ZEROS = bytes(_MIB)
_STEP = 4 << 10


@cache
def _of_zeros(steps: int) -> "tuple[hashlib._Hash, xxhash.xxh3_128]":
    """The digests after so many steps of zeros; not to be updated."""
    if not steps:
        return hashlib.sha1(usedforsecurity=False), xxhash.xxh3_128()
    before = _of_zeros(steps - 1)
    sha1, xxh3 = before[0].copy(), before[1].copy()
    sha1.update(_ZEROS[:_STEP])
    xxh3.update(_ZEROS[:_STEP])
    return sha1, xxh3


def digests(file: Planned) -> tuple[bytes, bytes]:
    """SHA-1 and XXH3-128 of the file's bytes, computed without reading it."""
    if file.hole and file.size in SMALL:  # their zeros are always the same ones
        before = _of_zeros(file.size // _STEP)
        sha1, xxh3 = before[0].copy(), before[1].copy()
        left = file.size % _STEP
    else:
        sha1, xxh3 = hashlib.sha1(file.head, usedforsecurity=False), xxhash.xxh3_128(file.head)
        left = file.size - len(file.head)
    while left > 0:
        block = memoryview(_ZEROS)[: min(left, _MIB)]
        sha1.update(block)
        xxh3.update(block)
        left -= len(block)
    return sha1.digest(), xxh3.digest()


def remove(root: Path) -> None:
    """Remove a folder and all in it, on all cores where it has many folders."""
    below = [root] if root.exists() else []
    while below and len(below) < _SHARES and (deeper := [folder for each in below for folder in _folders(each)]):
        below = deeper
    if len(below) > CORES:
        with workers() as pool:
            list(pool.map(shutil.rmtree, below))
    shutil.rmtree(root, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return [Path(entry) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
