"""What gives access: the database's URL and the file of API keys, checked as they are read, and masked to be shown."""

import os
import shlex
import stat
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from immich_dbsync.errors import SettingsError

MASK = "***"
"""Stands for a password or a key, however long that is."""


def checked_url(url: str) -> str:
    """The URL itself, if it can be read in one way only. The message must not quote it: a password may be in it."""
    scheme, _, rest = url.partition("://")
    if scheme not in {"postgresql", "postgres"}:
        raise SettingsError("The database URL must begin with postgresql://")
    credentials = rest.rpartition("@")[0]
    try:
        _ = urlsplit(url).port
    except ValueError:
        readable = False
    else:
        readable = not any(character in credentials for character in "@/#?[]") and url.isprintable()
    if not readable:
        raise SettingsError("The database URL can't be read: write special characters in its password as %XX.")
    return url


def masked_url(url: str) -> str:
    """The URL with a mask for each password; the mask alone where it can't be told for sure what is one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return MASK
    user, at, host = parts.netloc.rpartition("@")
    told = url.startswith(f"{parts.scheme}://") and parts.scheme and url.isprintable() and not parts.fragment
    if not told or any(character in user for character in "@/#?[]") or "@" in f"{parts.path}{parts.query}":
        return MASK
    name, colon, _password = user.partition(":")
    netloc = f"{name}{colon}{MASK if colon else ''}{at}{host}"
    query = [(key, MASK if _is_secret(key) else value) for key, value in parse_qsl(parts.query)]
    return urlunsplit((parts.scheme, netloc, parts.path, urlencode(query, safe="/*"), ""))


def url_of_role(url: str, role: str) -> str:
    """The URL of the same database for another role, without a password; of one that ``checked_url`` let pass."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    query = [(key, value) for key, value in parse_qsl(parts.query) if not (_is_secret(key) or key == "user")]
    netloc = f"{quote(role, safe='')}@{host}"
    return urlunsplit((parts.scheme, netloc, parts.path, urlencode(query, safe="/*"), ""))


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in ("pass", "pwd", "secret", "token", "key"))


def size(path: Path) -> int:
    """Bytes in the file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise SettingsError(f"The API keys can't be read from {path}: {error.strerror}.") from error


def read_keys(path: Path) -> list[str]:
    """The keys in the file, in its order; raises SettingsError where it can't be read, or others may read it."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                command = shlex.join(["chmod", "600", str(path)])
                raise SettingsError(f"{path} may be read by others (mode {mode:04o}). Run: {command}")
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"The API keys can't be read from {path}: {reason}.") from error
    return [line for line in lines if line and not line.startswith("#")]
