"""Errors that reach the user: each a sentence that says what to do, with a stable exit code.

::

    DbsyncError
    ├── SettingsError            3   a setting is missing or makes no sense
    ├── DatabaseUnreachable      4   PostgreSQL does not answer
    ├── LoginRefused             4   PostgreSQL refuses the login
    ├── NotImmich                5   the database holds no Immich that is supported
    ├── TriggersDiffer           6   our schema or triggers are missing, old or changed
    ├── DatabaseRightMissing     7   our role lacks a right
    ├── DatabaseBusy             8   a lock was not to be had in time
    ├── KeyRefused               9   an API key belongs to nobody, or lacks a permission
    ├── RootUnusable            10   an owner's folder is missing, unreadable or not theirs
    ├── ServerUnreachable       11   Immich's API does not answer
    ├── NoSuchHold              13   there is no such hold, or it is decided already
    ├── NoSuchUser              13   Immich has no such user, or they are not synced
    ├── NoSuchFile              13   the quarantine or the history has no such file
    ├── NotConfirmed            14   nobody could be asked, or the answer was no
    └── OutputLost              15   standard output is closed, or what it is written to is full

Exit code 0 is success, 1 a bug of ours, 2 a mistyped command line, and 12 says that a command could tell or do all that
it was asked and something needs somebody. Ctrl-C ends a command with 130, and a reader of its output that has gone,
with 141.
"""

from typing import ClassVar

NEEDS_SOMEBODY = 12
"""The exit code of `status`, `doctor` and others when something needs somebody."""


class DbsyncError(Exception):
    """The root of all errors that a user can do something about; ``str()`` is one line that says what."""

    exit_code: ClassVar[int] = 1


class SettingsError(DbsyncError):
    """A setting is missing or makes no sense."""

    exit_code = 3


class DatabaseUnreachable(DbsyncError):
    """PostgreSQL does not answer; waiting may mend it."""

    exit_code = 4


class LoginRefused(DbsyncError):
    """PostgreSQL refuses the login: its user, password or database name is wrong."""

    exit_code = 4


class NotImmich(DbsyncError):
    """The database is no Immich's, or of a version whose tables are not supported."""

    exit_code = 5


class TriggersDiffer(DbsyncError):
    """Our schema or triggers are missing, disabled, old or changed; ``differences`` has a line for each."""

    exit_code = 6

    def __init__(self, message: str, differences: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.differences = differences


class DatabaseRightMissing(DbsyncError):
    """Our database role lacks a right; the message names it and the statement that grants it."""

    exit_code = 7


class DatabaseBusy(DbsyncError):
    """A lock was not to be had in time; nothing was changed."""

    exit_code = 8


class KeyRefused(DbsyncError):
    """An API key belongs to no user, or lacks a permission. Never carries the key itself."""

    exit_code = 9


class RootUnusable(DbsyncError):
    """An owner's folder is missing, unreadable or not theirs."""

    exit_code = 10


class ServerUnreachable(DbsyncError):
    """Immich's API does not answer."""

    exit_code = 11


class NoSuchHold(DbsyncError):
    """There is no such hold, or it is decided already."""

    exit_code = 13


class NoSuchUser(DbsyncError):
    """Immich has no such user, or they are not in the state that the command is for."""

    exit_code = 13


class NoSuchFile(DbsyncError):
    """The quarantine or the history has no such file."""

    exit_code = 13


class NotConfirmed(DbsyncError):
    """Nobody could be asked whether to go on, or the answer was no; nothing was changed."""

    exit_code = 14


class OutputLost(DbsyncError):
    """Standard output is closed, or what it is written to is full; what was asked may be done all the same."""

    exit_code = 15
