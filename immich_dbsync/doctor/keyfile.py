"""Can the API keys be read, as `run` reads them, and can `users add` keep another one?"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from immich_dbsync.doctor.finding import Finding, note, wrong
from immich_dbsync.doctor.mending import allow, ours, run
from immich_dbsync.errors import SettingsError
from immich_dbsync.settings import Settings, name_in_use

_KEY = "API key"
_WHY = "the user's files are uploaded, and their assets trashed, with it"
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


def keys(settings: Settings) -> tuple[tuple[str, ...] | None, list[Finding]]:
    """The keys in force, None where they can't be read; and what is wrong with the file and its folder.

    Without any key nothing is wrong yet: the first is made by `users add`.
    """
    file = settings.api_keys_file
    found = [] if file is None else [*_folder(file)]
    known: tuple[str, ...] | None = None
    try:
        known = settings.api_keys_or_none()
        if known:
            settings.require_api_keys()  # what `run` asks, which takes no file that is missing
    except SettingsError as error:
        found.append(_unreadable(error, file))
    return known, found


def _folder(file: Path) -> Iterator[Finding]:
    """Whether `users add` can write the file there."""
    folder = file.resolve().parent
    why = "each user's key is kept there by users add"
    try:
        is_folder = folder.is_dir()
        there = file.exists()
    except OSError:  # it may not be looked into, so the file can't be read either, and that is said
        return
    if not folder.exists():
        yield wrong(
            _KEY, f"the folder {folder} for the file of keys is missing", why, run("mkdir", "-p", "-m", 700, folder)
        )
    elif not is_folder:
        yield wrong(_KEY, f"{folder} is no folder", why, f"Set {name_in_use('api_keys_file')} to a file in a folder")
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        say = note if there else wrong
        elsewhere = f"Set {name_in_use('api_keys_file')} to a file in a folder that may be written"
        mend = elsewhere if os.geteuid() == 0 else allow(folder)  # root may write all but what is mounted read-only
        yield say(_KEY, f"no key can be stored in {folder}: it may not be written", why, mend)


def _unreadable(error: SettingsError, file: Path | None) -> Finding:
    """What `run` says of the file, and how to mend it."""
    found, _, command = str(error).partition(" Run: ")
    cause = error.__cause__
    if command:
        mend = f"Run: {command}"
    elif isinstance(cause, FileNotFoundError) and file is not None:
        mend = run(
            *("install", "-m", 600, "/dev/null", file),
            first=f"Take {name_in_use('api_keys_file')} out, or make the file, if only for keys to come.",
        )
    elif isinstance(cause, OSError) and cause.errno in _FORBIDDEN and file is not None:
        # Not by an access control list: its mask would look as if a group might read the keys.
        mend = run("chown", "root", file) if os.geteuid() == 0 else allow(file)
    else:
        mend = ours(
            "config", "show", first=f"Set {name_in_use('api_keys_file')} to a text file. What is set, says this."
        )
    return wrong(_KEY, found.rstrip("."), _WHY, mend)
