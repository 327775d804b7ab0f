"""Where files go instead of being unlinked: ``<root>/.immich-dbsync/quarantine/<YYYY-MM-DD>/<path as it was>``.

The mirror describes itself: a person can move files back by hand, and a crash between the rename and the database's
commit is found by looking.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from immich_dbsync.core.names import LeftAlone, valid_path
from immich_dbsync.disk.at import (
    GONE,
    REACHED,
    is_regular,
    make_directory_at,
    open_directory_at,
    rename_at,
    stat_of,
    status_at,
)
from immich_dbsync.disk.errors import Changed, NotTaken, OtherDevice, QuarantineUnread, QuarantineUnsafe
from immich_dbsync.disk.held import HeldFolders
from immich_dbsync.disk.marker import STATE, open_state
from immich_dbsync.disk.moving import (
    Looked,
    forget_left,
    is_aside,
    look,
    move,
    numbered,
    restored,
    undo_aside,
    xxh3_of_looked,
)
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import LONGEST, Walk
from immich_dbsync.model import RelPath, Stat, Xxh3

QUARANTINE = b"quarantine"
_TOP = STATE + b"/" + QUARANTINE
_LONGER = len(_TOP) + len(b"/2024-05-06/") + 256  # than in the folder a path may be in here, with some numbers
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")  # as acl(5) keeps them
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(rb"~[1-9][0-9]*\Z")


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Where a file went, relative to ``<root>/.immich-dbsync/quarantine``, and its stat there."""

    location: bytes
    stat: Stat


class QuarantineBatch:
    """Takes many files out of one root on one day, holding the directories it used last; a context manager.

    ``day`` is ``YYYY-MM-DD``; a ValueError otherwise. Not for use from two threads at once.
    """

    def __init__(self, root: Root, day: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not _DAY.fullmatch(day):
            raise ValueError(f"not a day: {day!r}")
        self._root = root
        self._day = day.encode()
        self._held = HeldFolders(clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back all descriptors."""
        self._held.close()

    def take(self, path: RelPath, expected: Stat, xxh3: Xxh3) -> Quarantined:
        """Have the last look at the file, and move it to quarantine.

        It is taken when its stat is ``expected``, all four, or else its size is, and its content's digest is ``xxh3``.
        Raises Changed when neither holds or it is swapped meanwhile, FileNotFoundError when it is gone,
        QuarantineUnsafe when something was planted where our folders should be. In all these cases it is where it was.
        """
        folder, _, name = valid_path(path).rpartition(b"/")
        with look(self._root, self._source(folder, path), name, path) as looked:
            if looked.stat != expected and (looked.stat.size != expected.size or xxh3_of_looked(looked) != xxh3):
                raise Changed(path)
            below, target = self._target(folder)
            try:
                new, after = move(looked, target, numbered(name), xxh3)
            except Changed as error:
                left = None if error.left_at is None else below + error.left_at
                raise Changed(path, left) from error
        return Quarantined(below + new, after)

    def _source(self, folder: bytes, path: RelPath) -> int:
        def opened() -> tuple[bytes, int]:
            try:
                return folder, self._root.reach_directory(folder)
            except OtherDevice as error:
                raise Changed(path) from error
            except OSError as error:
                if error.errno in GONE:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
                raise

        return self._held.hold((False, folder), opened)[1]

    def _target(self, folder: bytes) -> tuple[bytes, int]:
        location = self._day + b"/" + folder if folder else self._day
        return self._held.hold((True, location), lambda: _open_target(self._root, location))


class RestoreBatch:
    """Moves many quarantined files back, holding the directories it used last; a context manager.

    Its end removes the folders in quarantine that became empty. Not for use from two threads at once.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._held = HeldFolders()
        self._left: dict[bytes, bytes] = {}  # a location for each folder in quarantine that a file has left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.close()
        for location in self._left.values():
            _prune(self._root, location)

    def put_back(self, location: bytes, path: RelPath, expected: Stat) -> tuple[RelPath, Stat]:
        """Move a quarantined file to ``path``, or beside it where that is taken: where it is now, and its stat there.

        Missing folders are made, with owner, mode and ACLs of the nearest one that exists. ``expected`` is its stat in
        quarantine (the ctime may differ). Raises Changed when it is another file, FileNotFoundError when it is not in
        quarantine.
        """
        inside, _, name = valid_path(location).rpartition(b"/")
        _, source = self._held.hold((True, inside), lambda: (inside, _open_location(self._root, location)[0]))
        with _looked_at(self._root, source, name, location) as looked:
            if not looked.stat.same_file(expected):
                raise Changed(location)
            folder, _, last = valid_path(path).rpartition(b"/")
            above, target = self._held.hold((False, folder), lambda: _open_restored(self._root, folder))
            try:
                new, after = move(looked, target, restored(last), None)
            except FileNotFoundError as error:
                if status_at(source, name) is None:
                    raise
                raise OSError(errno.ESTALE, "the folder went away", path) from error
        self._left[inside] = location
        return RelPath(above + new), after


def _looked_at(root: Root, source: int, name: bytes, location: bytes) -> Looked:
    """As ``look``; PermissionError for a file that the root's owner may not read now: it may be theirs again later."""
    try:
        return look(root, source, name, location)
    except Changed as error:
        if isinstance(error.__cause__, NotTaken) and error.__cause__.reason is LeftAlone.FOREIGN_LINK:
            raise PermissionError(errno.EACCES, "it is somebody else's, and not the owner's to read") from error
        raise


def purge(root: Root, location: bytes, expected: Stat) -> None:
    """Unlink a quarantined file for good (row 16). Errors as ``RestoreBatch.put_back``."""
    source, name = _open_location(root, location)
    try:
        with look(root, source, name, location) as looked:
            if not looked.stat.same_file(expected):
                raise Changed(location)
            # RACE: the folder is ours, 0700; whoever could swap the file here can unlink it too.
            os.unlink(name, dir_fd=source)
    finally:
        os.close(source)
    _prune(root, location)


def entries(root: Root, left_behind: list[RelPath] | None = None) -> Iterator[tuple[bytes, RelPath, Stat]]:
    """All files in quarantine: location, the path where each was, stat. Links and other types are left out.

    The path is the mirrored one without a ``~2`` that made its name unique; of a name cut to fit, the rest is lost.
    ``left_behind`` is given, at the end, what a process that was killed left in quarantine in the middle of a move.
    Raises QuarantineUnread at the end where some of it can't be looked at, links in place of folders among them.
    """
    try:
        os.close(root.reach_directory(_TOP))
    except FileNotFoundError:
        return
    except OSError as error:
        raise QuarantineUnread(QUARANTINE, error) from error
    walk = Walk(root, None, _TOP, longest=LONGEST + _LONGER)
    for found, status in walk:
        location = found.split(b"/", 2)[2]
        day, _, path = location.partition(b"/")
        if path and _DAY.fullmatch(day.decode("ascii", "replace")):
            yield location, RelPath(_NUMBER.sub(b"", path)), stat_of(status)
    if left_behind is not None:
        left_behind += walk.left_behind
    if walk.errors:
        raise QuarantineUnread(*walk.errors[0])
    _require_days(root)


def _require_days(root: Root) -> None:
    """Raise QuarantineUnread for a link, or the like, in place of a day's folder: behind it may be what is missing."""
    fd = root.open_directory(_TOP)
    try:
        with os.scandir(fd) as days:
            for day in days:
                if _DAY.fullmatch(day.name) and not day.is_dir(follow_symlinks=False):
                    place = QUARANTINE + b"/" + os.fsencode(day.name)
                    raise QuarantineUnread(place, OSError(errno.ENOTDIR, "it is no folder"))
    finally:
        os.close(fd)


def undo_left(root: Root, path: RelPath, *, arrived: bool = False) -> RelPath | None:
    """Undo what a killed process left at this path, of the root: where an original is now, None where nothing is.

    ``arrived``: its content is where it was to go, so it only has to be unlinked.
    """
    folder, _, _ = path.rpartition(b"/")
    try:
        parent, name = root.open_parent(path)
        try:
            if arrived or not is_aside(name):
                forget_left(parent, name)
                return None
            new = undo_aside(parent, name, numbered if path.startswith(_TOP) else restored)
            return RelPath(folder + b"/" + new if folder else new)
        finally:
            os.close(parent)
    except OSError:  # it went away, or stays for the next time
        return None


def lies(root: Root, location: bytes) -> bool:
    """Whether anything is at this location in quarantine; QuarantineUnread where that can't be told."""
    names = valid_path(location).split(b"/")
    try:
        fd = root.reach_directory(_TOP)
        try:
            for folder in names[:-1]:
                if is_regular(os.stat(folder, dir_fd=fd, follow_symlinks=False)):
                    return False
                child = open_directory_at(fd, folder, root.device, REACHED)
                os.close(fd)
                fd = child
            os.stat(names[-1], dir_fd=fd, follow_symlinks=False)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return False
    except OSError as error:  # a link or a mount in place of a folder, too: behind it may be all that is missing
        raise QuarantineUnread(location, error) from error
    return True


def _open_target(root: Root, location: bytes) -> tuple[bytes, int]:
    """The directory in quarantine, made where missing, and its location; never through a link.

    Where a quarantined file has a folder's name, the folder gets a number.
    """
    fd = open_state(root, create=True)
    reached: list[bytes] = []
    for depth, name in enumerate((QUARANTINE, *location.split(b"/"))):
        try:
            new, child = _numbered_folder(fd, name, root.device) if depth > 1 else (name, _plain(fd, name, root.device))
        finally:
            os.close(fd)
        reached.append(new)
        fd = child
    return b"/".join(reached[1:]) + b"/", fd


def _numbered_folder(parent: int, name: bytes, device: int) -> tuple[bytes, int]:
    for new in numbered(name):
        status = status_at(parent, new)
        if status is None or not is_regular(status):
            return new, _plain(parent, new, device)
    raise QuarantineUnsafe(name)


def _plain(parent: int, name: bytes, device: int) -> int:
    try:
        return make_directory_at(parent, name, device)
    except OSError as error:
        if error.errno in GONE or isinstance(error, OtherDevice):
            raise QuarantineUnsafe(name) from error
        raise


def _open_location(root: Root, location: bytes) -> tuple[int, bytes]:
    try:
        return root.open_parent(RelPath(_TOP + b"/" + valid_path(location)))
    except OtherDevice as error:
        raise QuarantineUnsafe(location) from error
    except OSError as error:
        if error.errno in GONE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location) from error
        raise


def _open_restored(root: Root, folder: bytes) -> tuple[bytes, int]:
    """The folder a file goes back to, made where missing, beside it where a file or a link took its place."""
    fd = root.open_directory(b"")
    above = b""
    for name in folder.split(b"/") if folder else ():
        try:
            new, child = _child(fd, name, root)
        finally:
            os.close(fd)
        above, fd = above + new + b"/", child
    return above, fd


def _child(parent: int, name: bytes, root: Root) -> tuple[bytes, int]:
    for new in restored(name):
        # Made first where it is missing, as it mostly is not; then opened again, should somebody else have made it.
        for missing in (True, False):
            try:
                return new, open_directory_at(parent, new, root.device)
            except FileNotFoundError:
                if missing:
                    with suppress(FileExistsError):
                        return new, _make_like(root, parent, new)
            except OSError as error:
                if error.errno not in GONE and not isinstance(error, OtherDevice):
                    raise
                break
    raise FileExistsError(errno.EEXIST, "no free name", name)


def _make_like(root: Root, parent: int, name: bytes) -> int:
    """Make a folder with its parent's owner, mode and ACLs; FileExistsError where the name is taken.

    It is made and handed over in our own folder, where its owner can't exchange it for another one, and then renamed.
    """
    state = open_state(root, create=True)
    temporary = b".new-" + os.urandom(8).hex().encode()
    try:
        os.mkdir(temporary, 0o700, dir_fd=state)
        try:
            made = open_directory_at(state, temporary, root.device)
            try:
                like = os.fstat(parent)
                # RACE: only where our folder is not ours, as when its owner made it: then it is theirs what they swap.
                if os.fstat(made).st_uid == os.geteuid() and not os.listdir(made):  # noqa: PTH208  # a descriptor
                    with suppress(PermissionError):  # not root: it is ours and stays ours
                        os.fchown(made, like.st_uid, like.st_gid)
                    os.fchmod(made, like.st_mode & 0o7777)
                    _copy_acls(parent, made)
            finally:
                os.close(made)
            rename_at(state, temporary, parent, name)
        except BaseException:
            with suppress(OSError):
                os.rmdir(temporary, dir_fd=state)
            raise
    finally:
        os.close(state)
    return open_directory_at(parent, name, root.device)


def _copy_acls(source: int, target: int) -> None:
    """Give a folder the access control lists of another: who it is shared with may not be its owner."""
    for name in _ACLS:
        with suppress(OSError):  # it has none, or the file system knows none
            os.setxattr(target, name, os.getxattr(source, name))


def _prune(root: Root, location: bytes) -> None:
    """Remove the folders in quarantine that became empty; whatever is in the way stays."""
    path = location
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        try:
            parent, name = _open_location(root, path)
        except (OSError, QuarantineUnsafe):
            return
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError:
            return
        finally:
            os.close(parent)


__all__ = [
    "QUARANTINE",
    "QuarantineBatch",
    "Quarantined",
    "RestoreBatch",
    "entries",
    "lies",
    "purge",
    "undo_left",
]
