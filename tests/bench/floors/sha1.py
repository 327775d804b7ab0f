"""The least that a first scan takes: SHA-1 of every file's bytes, on all cores, and nothing else; or XXH3 as well."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import xxhash

from tests.bench.files import CORES, Planned, workers

_BLOCK = 1 << 20
_SHARE = 64 << 20  # bytes that a core takes at a time


def seconds(root: Path, files: Sequence[Planned], *, xxh3: bool = False) -> float:
    """How long all cores together take; with ``xxh3`` for both of the digests that a record keeps."""
    shares = sorted(_shares(files), key=lambda share: -sum(file.size for file in share))
    with workers() as pool:
        _warm(pool)
        began = time.monotonic()
        for _ in pool.map(partial(_digest, root, xxh3), shares):
            pass
        return time.monotonic() - began


def _warm(pool: ProcessPoolExecutor) -> None:
    """Have every process there before the clock starts."""
    list(pool.map(_digest_zeros, [_SHARE] * CORES))  # long enough for each to need a process of its own


def _digest_zeros(size: int) -> bytes:
    return hashlib.sha1(bytes(size), usedforsecurity=False).digest()


def _shares(files: Sequence[Planned]) -> Iterator[list[Planned]]:
    share: list[Planned] = []
    size = 0
    for file in files:
        share.append(file)
        size += file.size
        if size >= _SHARE:
            yield share
            share, size = [], 0
    if share:
        yield share


def _digest(root: Path, xxh3: bool, files: Sequence[Planned]) -> None:
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    for file in files:
        digest, other = hashlib.sha1(usedforsecurity=False), xxhash.xxh3_128() if xxh3 else None
        fd = os.open(root / file.path, os.O_RDONLY)
        while count := os.readv(fd, [buffer]):
            digest.update(view[:count])
            if other is not None:
                other.update(view[:count])
        os.close(fd)
        digest.digest()
