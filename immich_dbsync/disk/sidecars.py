"""The ``.xmp`` files beside a picture: ``IMG.jpg.xmp``, or ``IMG.xmp`` for all pictures of that stem."""

import os
from collections.abc import Iterable
from itertools import chain

from immich_dbsync.core.names import NameRules
from immich_dbsync.disk.errors import NotTaken
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath, Stat

_EXTENSIONS = (b".xmp", b".XMP")
_LISTED = 640  # bytes of a folder (a name takes some 32) for each name looked for in it, up to which it is listed
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
    beside = {path: candidates(path) for path in paths}
    stats = root.stats(_there(root, chain.from_iterable(beside.values())))
    left: dict[RelPath, RelPath] = {}
    for path, possible in beside.items():
        there = [candidate for candidate in possible if _counts(stats.get(candidate))]
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


def _there(root: Root, possible: Iterable[RelPath]) -> list[RelPath]:
    """Those of these files that may be there; mostly none is. A file system takes as long to say of one name that it is
    not there as to tell some twenty names, so that a small folder of which much is asked is listed.
    """
    folders: dict[bytes, list[tuple[RelPath, bytes]]] = {}
    for path in possible:
        folder, _, name = path.rpartition(b"/")
        folders.setdefault(folder, []).append((path, name))
    there: list[RelPath] = []
    for folder, members in folders.items():
        try:
            fd = root.open_directory(folder)
        except OSError:
            continue
        try:
            if os.fstat(fd).st_size < _LISTED * len(members):
                names = {*os.listdir(fd)}  # noqa: PTH208  # a descriptor
                there += [path for path, name in members if os.fsdecode(name) in names]
            else:
                there += [p for p, name in members if os.access(name, os.F_OK, dir_fd=fd, follow_symlinks=False)]
        except OSError:  # it can't be listed
            there += [path for path, _ in members]
        finally:
            os.close(fd)
    return there


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
