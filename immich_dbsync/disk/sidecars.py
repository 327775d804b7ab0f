"""The ``.xmp`` files beside a picture: ``IMG.jpg.xmp``, or ``IMG.xmp`` for all pictures of that stem."""

import os
from collections.abc import Iterable, Sequence
from itertools import chain

from immich_dbsync.core.names import NameRules
from immich_dbsync.disk.errors import NotTaken
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath, Stat

_EXTENSIONS = (b".xmp", b".XMP")
_SUFFIXES = tuple(os.fsdecode(extension) for extension in _EXTENSIONS)
_LISTED = 2560  # bytes of a folder (a name takes some 32) for each picture looked for in it, up to which it is listed
LARGEST = 16 << 20
"""Bytes above which a file is no sidecar that anybody would want in memory; real ones have a few thousand."""


def candidates(path: RelPath) -> tuple[RelPath, ...]:
    """Where the sidecars of the picture at this path may be; the picture's very own come first."""
    folder, slash, name = path.rpartition(b"/")
    stem = name[: name.rfind(b".")] if b"." in name[1:] else name
    return tuple(RelPath(folder + slash + base + extension) for base in (name, stem) for extension in _EXTENSIONS)


def sidecars(root: Root, path: RelPath) -> list[RelPath]:
    """The sidecars there are of the picture at this path, the one to upload first. Blocks."""
    stats = root.stats(candidates(path))
    return [found for found, stat in stats.items() if _counts(stat)]


def left_behind(root: Root, paths: Iterable[RelPath], names: NameRules) -> dict[RelPath, RelPath]:
    """The sidecars that belong to no picture now that those at these paths are gone: each to its picture. Blocks."""
    folders: dict[bytes, list[RelPath]] = {}
    for path in paths:
        folders.setdefault(path.rpartition(b"/")[0], []).append(path)
    left: dict[RelPath, RelPath] = {}
    for folder, pictures in folders.items():
        beside = _beside(root, folder, pictures)
        stats = root.stats(chain.from_iterable(beside.values()))
        for path, possible in beside.items():
            there = [candidate for candidate in possible if _counts(stats[candidate])]
            own = [found for found in there if found.startswith(path + b".")]
            left |= dict.fromkeys(own, path)
            if len(there) > len(own) and not _has_siblings(root, path, names):
                left |= {found: path for found in there if found not in left}
    return left


def _names(root: Root, folder: bytes) -> set[bytes] | None:
    """What is in the folder; None where it can't be read."""
    try:
        fd = root.open_directory(folder)
        try:
            with os.scandir(fd) as entries:
                return {os.fsencode(entry.name) for entry in entries}
        finally:
            os.close(fd)
    except OSError:
        return None


def _beside(root: Root, folder: bytes, pictures: Sequence[RelPath]) -> dict[RelPath, list[RelPath]]:
    """What may be there of the sidecars of these pictures of one folder; pictures that have none are left out.

    A file system takes as long to say of one name that it is not there as to tell some twenty names, so that a small
    folder of which much is asked is listed.
    """
    try:
        fd = root.open_directory(folder)
    except OSError:
        return {}
    beside: dict[RelPath, list[RelPath]] = {}
    try:
        if os.fstat(fd).st_size < _LISTED * len(pictures):
            there = {os.fsencode(name) for name in os.listdir(fd) if name.endswith(_SUFFIXES)}  # noqa: PTH208
            if there:  # mostly there is none
                beside = {path: [c for c in candidates(path) if _name(c) in there] for path in pictures}
        else:
            beside = {path: [c for c in candidates(path) if _may_be_at(fd, _name(c))] for path in pictures}
    except OSError:  # it can't be listed
        return {path: [*candidates(path)] for path in pictures}
    finally:
        os.close(fd)
    return {path: possible for path, possible in beside.items() if possible}


def _name(path: RelPath) -> bytes:
    return path.rpartition(b"/")[2]


def _may_be_at(fd: int, name: bytes) -> bool:
    return os.access(name, os.F_OK, dir_fd=fd, follow_symlinks=False)


def _counts(stat: Stat | OSError | None) -> bool:
    return isinstance(stat, Stat) and 0 < stat.size <= LARGEST


def read(root: Root, path: RelPath) -> bytes | None:
    """A sidecar's bytes; None where it can't be had or is none. Blocks."""
    try:
        fd, stat = root.open_file(path)
    except (OSError, NotTaken):
        return None
    try:
        return os.pread(fd, stat.size, 0) if 0 < stat.size <= LARGEST else None
    finally:
        os.close(fd)


def _has_siblings(root: Root, path: RelPath, names: NameRules) -> bool:
    """Whether another picture with the same stem is in the folder, as a raw file beside its JPEG."""
    folder, _, name = path.rpartition(b"/")
    stem = name[: name.rfind(b".")] + b"."
    others = _names(root, folder)
    return (
        others is None
        or any(  # nothing is moved on a guess
            other.startswith(stem)
            and other != name
            and b"." not in other[len(stem) :]
            and names.name(other, folder + b"/" + other) is None
            for other in others
        )
    )
