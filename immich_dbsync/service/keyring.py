"""Writes the file of API keys: one a line, for its owner's eyes only, never half written."""

import fcntl
import os
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from immich_dbsync.credentials import size
from immich_dbsync.errors import SettingsError
from immich_dbsync.settings import Settings

_REMARK = "# {email}, written by immich-dbsync users add"
_OURS = ", written by immich-dbsync users add"


def file_of(settings: Settings) -> Path:
    """The file that new keys go to; raises SettingsError with what to set where none is configured."""
    if settings.api_keys_file is None:
        raise SettingsError(
            "No file for API keys is set. Set api_keys_file, to /etc/immich-dbsync.keys for example, in the settings"
            " file (or IMMICH_DBSYNC_API_KEYS_FILE); it is made when the first key is stored."
        )
    return settings.api_keys_file


def add_key(path: Path, key: str, email: str) -> None:
    """Add a line with the key, below a comment that says whose it is; the file is made where it is missing.

    Raises SettingsError where it can't be written.
    """

    def added(lines: list[str]) -> list[str]:
        return lines if key in map(str.strip, lines) else [*lines, _REMARK.format(email=email), key]

    _rewrite(path, added)


def take_out(path: Path, keys: Collection[str]) -> None:
    """Take the lines with these keys out, and our comments above them; raises SettingsError where we may not."""

    def remaining(lines: list[str]) -> list[str]:
        kept: list[str] = []
        for line in lines:
            if line.strip() not in keys:
                kept.append(line)
            elif kept and kept[-1].startswith("# ") and kept[-1].endswith(_OURS):
                kept.pop()
        return kept

    _rewrite(path, remaining)


def written_for(path: Path, email: str) -> list[str]:
    """The keys below our comments that say they are this user's; none where there is no file."""
    if size(path) == 0:
        return []
    with path.open(encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    remark = _REMARK.format(email=email)
    return [key for above, key in pairwise(lines) if above == remark and key and not key.startswith("#")]


def _rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    target = path.resolve()  # where the path is a link, that stays one
    if not target.parent.exists():
        raise SettingsError(
            f"The API keys can't be written to {path}: there is no folder {target.parent}. Make it with:"
            f" mkdir -p {shlex.quote(str(target.parent))}"
        )
    try:
        with _alone_in(target.parent):
            try:
                text, status = target.read_text(encoding="utf-8"), target.stat()
            except FileNotFoundError:
                text, status = "", None
            before = text.splitlines()
            after = change(before)
            if after != before or status is None:
                _replace(target, "".join(f"{line}\n" for line in after), status)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"The API keys can't be written to {path}: {reason}.") from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other commands from rewriting a file of this folder meanwhile."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _replace(target: Path, text: str, before: os.stat_result | None) -> None:
    """Write beside it, bring it to disk, and rename it over. Its owner stays."""
    temporary = target.parent / f".{target.name}.{os.urandom(8).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            if before is not None:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
