"""Whether a root is the one we know: its marker, and the markers of the file sync tool."""

import os
from collections.abc import Callable, Collection
from enum import StrEnum
from uuid import UUID, uuid4

from immich_dbsync.disk.at import GONE, is_regular, make_directory_at, open_directory_at, rename_at, status_at
from immich_dbsync.disk.errors import OtherDevice, QuarantineUnsafe
from immich_dbsync.disk.root import Root

STATE = b".immich-dbsync"
_MARKER = b"root-id"
_LARGEST = 64  # bytes; a UUID's text is 36 and a line end
_STFOLDER = b".stfolder"


class Health(StrEnum):
    """How a root is; with anything but OK no deletion is planned for it."""

    OK = "ok"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    REPLACED = "replaced"
    MARKER_MISSING = "marker_missing"
    MARKER_FOREIGN = "marker_foreign"
    STFOLDER_LOST = "stfolder_lost"


def open_state(root: Root, *, create: bool) -> int:
    """A descriptor of ``<root>/.immich-dbsync``; the caller closes it.

    Raises FileNotFoundError when it is not there and ``create`` is false, QuarantineUnsafe when it is a link, a file or
    a mount point.
    """
    try:
        return (make_directory_at if create else open_directory_at)(root.fd, STATE, root.device)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in GONE or isinstance(error, OtherDevice):
            raise QuarantineUnsafe(STATE) from error
        raise


def read_marker(root: Root) -> UUID | None:
    """The root's id; None when it has no marker.

    Something in the marker's place that is no marker of ours (a link, too large, no UUID, its folder a link) is a
    ValueError: it was forged or damaged, and taking it for "none yet" would bless a swapped folder.
    """
    try:
        state = open_state(root, create=False)
    except FileNotFoundError:
        return None
    except QuarantineUnsafe as error:
        raise ValueError(str(error)) from error
    try:
        return _read(state)
    finally:
        os.close(state)


def _read(state: int) -> UUID | None:
    status = status_at(state, _MARKER)
    if status is None:
        return None
    if not is_regular(status):
        raise ValueError("the root's marker is not a file")
    try:
        fd = os.open(_MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=state)
    except OSError as error:
        raise ValueError("the root's marker can't be opened") from error
    try:
        text = os.read(fd, _LARGEST + 1) if is_regular(os.fstat(fd)) else b""
    except OSError as error:
        raise ValueError("the root's marker can't be read") from error
    finally:
        os.close(fd)
    if len(text) > _LARGEST:
        raise ValueError("the root's marker is too large")
    return UUID(text.decode("ascii").strip())


def write_marker(root: Root, *, new: Callable[[], UUID] = uuid4) -> UUID:
    """Give the root an id, on disk before this returns; an id that it has already is kept and returned.

    Raises ValueError when something forged is in its place, QuarantineUnsafe when its folder is no plain folder.
    """
    state = open_state(root, create=True)
    try:
        if (known := _read(state)) is not None:
            return known
        marker = new()
        temporary = b"." + _MARKER + b"-" + os.urandom(8).hex().encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600, dir_fd=state)
        try:
            try:
                os.write(fd, f"{marker}\n".encode())
                os.fsync(fd)
            finally:
                os.close(fd)
            rename_at(state, temporary, state, _MARKER)
        except BaseException as error:  # no room, say: the next try makes another
            os.unlink(temporary, dir_fd=state)
            if isinstance(error, FileExistsError):  # another instance was quicker
                return _read(state) or marker
            raise
        os.fsync(state)
        os.fsync(root.fd)
        return marker
    finally:
        os.close(state)


def stfolders(root: Root) -> frozenset[bytes]:
    """The first-level folders (``b""``: the root itself) that hold a ``.stfolder``, Syncthing's own marker."""
    found = {b""} if _has_stfolder(root.fd) else set[bytes]()
    listed = root.open_directory(b"")
    try:
        with os.scandir(listed) as entries:
            names = [os.fsencode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
    finally:
        os.close(listed)
    for name in names:
        if name.startswith(b"."):
            continue
        try:
            fd = open_directory_at(root.fd, name, root.device)
        except OSError:  # unreadable, mounted over or swapped: its marker is not to be seen, which is what counts
            continue
        try:
            if _has_stfolder(fd):
                found.add(name)
        finally:
            os.close(fd)
    return frozenset(found)


def lost_stfolders(root: Root, folders: Collection[bytes]) -> list[bytes]:
    """Which of these folders hold no ``.stfolder`` now, sorted."""
    lost: list[bytes] = []
    for folder in sorted(folders):
        try:
            fd = root.reach_directory(folder)
        except OSError:
            lost.append(folder)
            continue
        try:
            if not _has_stfolder(fd):
                lost.append(folder)
        finally:
            os.close(fd)
    return lost


def _has_stfolder(fd: int) -> bool:
    try:
        os.close(os.open(_STFOLDER, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd))
    except OSError:
        return False
    return True


def health(root: Root, expected: UUID | None, folders_with_stfolder: Collection[bytes]) -> Health:
    """How the root is now.

    ``expected`` is the id that the database knows, None before the first sight (then any readable marker will do).
    ``folders_with_stfolder`` are those that had a ``.stfolder`` before.
    """
    if not root.still_there():
        return Health.REPLACED if os.path.lexists(root.path) else Health.MISSING
    try:
        marker = read_marker(root)
        _list_some(root)
    except ValueError:
        return Health.MARKER_FOREIGN
    except OSError:
        return Health.UNREADABLE
    if expected is not None and marker is None:
        return Health.MARKER_MISSING
    if expected is not None and marker != expected:
        return Health.MARKER_FOREIGN
    # Those alone: to look into every folder at the root's top takes long where there are many, and this is asked often.
    return Health.STFOLDER_LOST if lost_stfolders(root, folders_with_stfolder) else Health.OK


def _list_some(root: Root) -> None:
    """Raise OSError where the root can't be listed."""
    fd = root.open_directory(b"")
    try:
        with os.scandir(fd) as entries:
            next(entries, None)
    finally:
        os.close(fd)
