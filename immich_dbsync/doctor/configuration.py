"""Is set what has to be set, and does nobody else read the secrets in it?"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from immich_dbsync.doctor.finding import Finding, ok, wrong
from immich_dbsync.doctor.mending import ours, run
from immich_dbsync.errors import SettingsError
from immich_dbsync.settings import (
    DEFAULT_CONFIG,
    PREFIX,
    SNAP_VARIABLE,
    Settings,
    assignment,
    config_file,
    name_in_use,
    option,
)

_WHAT = "settings"
_URL = "postgresql://USER:PASSWORD@HOST:5432/immich"


def unreadable(error: SettingsError) -> Finding:
    """The settings could not be read at all."""
    return wrong(
        _WHAT,
        str(error).rstrip("."),
        "nothing runs on settings that make no sense",
        ours("config", "show", first="Correct it where it is set, which is told by this."),
    )


def configuration(settings: Settings) -> Iterator[Finding]:
    """What is missing, one by one, with the line to write; or that nothing is."""
    file = config_file()
    missing = [*_missing(settings, file or DEFAULT_CONFIG)]
    yield from missing
    if file is not None and (problem := _exposed(file, settings)) is not None:
        yield problem
    elif not missing:
        found = f"read from {file} and the environment" if file is not None else "read from the environment"
        yield ok(_WHAT, found, "all else follows from them")


def _missing(settings: Settings, file: Path) -> Iterator[Finding]:
    why = "Immich's database says what is in Immich, and tells of every deletion"
    try:
        settings.require_database_url()
    except SettingsError as error:
        if settings.database_url is not None:
            yield wrong(_WHAT, str(error).rstrip("."), why, f"Write {name_in_use('database_url')} as in {_URL}")
        elif settings.db_hostname is not None:
            yield wrong(_WHAT, str(error).rstrip("."), why, "Mend DB_HOSTNAME: it is a name or an address alone")
        else:
            yield _unset("database_url", _URL, file, why)
    try:
        settings.require_sync_root()
    except SettingsError as error:
        if settings.sync_root is not None:
            yield wrong(
                _WHAT, str(error).rstrip("."), "it is where the users' folders are", "Write the whole path, from / on"
            )
        else:
            yield _unset("sync_root", "/srv/immich-sync", file, "it is the folder that holds one folder for each user")
    common = os.environ.get("SNAP_COMMON")  # where a snap may write
    if settings.api_keys_file is None and not settings.api_keys_in_variable():
        yield _unset(
            "api_keys_file",
            f"{common}/dbsync/api-keys" if common else "/etc/immich-dbsync.keys",
            file,
            "each user's files are uploaded and deleted with their own API key; the file is made with the first",
        )


def _unset(name: str, example: str, file: Path, why: str) -> Finding:
    """A setting that has to be there."""
    if os.environ.get(SNAP_VARIABLE):
        return wrong(_WHAT, f"{option(name)} is not set", why, f"Set {assignment(name, example)}")
    mend = f'Set {name} = "{example}" in {file}, or {PREFIX}{name.upper()}'
    return wrong(_WHAT, f"{name} is not set", why, mend)


def _exposed(file: Path, settings: Settings) -> Finding | None:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return None
    secret = settings.database_url is not None or settings.db_password is not None or settings.api_keys is not None
    if not (mode & 0o077 and secret):
        return None
    return wrong(
        _WHAT,
        f"{file} may be read by others (mode {mode:04o})",
        "it can hold the database's password",
        run("chmod", 600, file),
    )
