"""What can go wrong with one file. These do not reach the user as they are: the service turns each into a decision.

::

    NotTaken            the file does not count (anything but an ordinary file of this folder); leave it alone
    ChangedWhileRead    the file changed under our eyes; look again later
    Changed             the file is not the one that was recorded; it stays where it is
    OtherDevice         a mount point below the root (an OSError, EXDEV)
    QuarantineUnsafe    something was planted where our own folder should be; nothing was moved
    QuarantineUnread    some of the quarantine can't be looked at; what is not seen there is not gone
"""

import errno

from immich_dbsync.core.names import LeftAlone
from immich_dbsync.model import RelPath


class NotTaken(Exception):
    """What is at this path does not count; ``reason`` says why."""

    def __init__(self, path: bytes, reason: LeftAlone) -> None:
        super().__init__(f"{path!r}: {reason}")
        self.path = path
        self.reason = reason


class ChangedWhileRead(Exception):
    """The file's size or times moved while it was read; the digests are worthless."""

    def __init__(self, path: RelPath) -> None:
        super().__init__(f"{path!r} changed while it was read")
        self.path = path


class Changed(Exception):
    """What is at this path is not what was recorded, so it was not moved.

    ``left_at`` is None, except when something else was swapped in during the move and its place was taken before it
    could be moved back: then it lies unharmed at this location in quarantine.
    """

    def __init__(self, path: bytes, left_at: bytes | None = None) -> None:
        super().__init__(f"{path!r} is not what was recorded")
        self.path = path
        self.left_at = left_at


class OtherDevice(OSError):
    """A directory or file on another file system than its root: something is mounted there."""

    def __init__(self, name: bytes) -> None:
        super().__init__(errno.EXDEV, "on another file system than its root", name)


class QuarantineUnsafe(Exception):
    """In place of ``.immich-dbsync`` or a folder in it is a link, a file or a mount point; nothing was moved."""

    def __init__(self, name: bytes) -> None:
        super().__init__(f"{name!r} in the quarantine is no plain folder: remove it, it was not made by immich-dbsync")


class QuarantineUnread(QuarantineUnsafe):
    """Some of the quarantine can't be looked at: what is not seen there must not be taken for gone."""

    def __init__(self, path: bytes, error: OSError) -> None:
        Exception.__init__(
            self, f"{path!r} in the quarantine can't be looked at ({error.strerror}): nothing is decided before it can"
        )
