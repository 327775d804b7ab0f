"""Which names are left alone, and why: path rules without a look at the disk."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache

from immich_dbsync.model import RelPath


class LeftAlone(StrEnum):
    """Why something in an owner's folder is not synced; ``status`` counts by these."""

    HIDDEN = "hidden"
    TEMPORARY = "temporary"
    NOT_MEDIA = "not_media"
    SIDECAR = "sidecar"
    EMPTY = "empty"
    EXCLUDED = "excluded"
    NOT_REGULAR = "not_regular"
    FOREIGN_LINK = "foreign_link"
    OTHER_DEVICE = "other_device"
    UNREADABLE = "unreadable"


# Syncthing's partial downloads on Unix and on Windows; the partial downloads of Firefox and of Chromium.
_TEMPORARY = re.compile(rb"(?:\.syncthing\..*\.tmp|~syncthing~.*\.tmp|.*\.part|.*\.crdownload)\Z", re.DOTALL)
_VERDICTS = 4096  # folders of which is known whether they are excluded
MARKED = b".~"  # what hidden files and Syncthing's partial downloads begin with; the others are no media by extension


@lru_cache(maxsize=64)
def _globs(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    """One pattern for all globs; ``*`` also spans ``/``. A trailing ``/`` only says that a folder is meant."""
    wanted = [translate(pattern.rstrip("/")) for pattern in patterns if pattern.rstrip("/")]
    return re.compile("|".join(wanted)) if wanted else None


def skip_directory(name: bytes) -> LeftAlone | None:
    """HIDDEN for a folder whose own name, one component, begins with a dot; nothing below it is looked at."""
    return LeftAlone.HIDDEN if name.startswith(b".") else None


@dataclass(frozen=True, slots=True)
class NameRules:
    """Judges by name alone.

    ``media`` and ``sidecar`` are lower-case extensions with their dot. ``exclude`` are shell globs, matched with their
    case against the whole path below the root, against the name, and likewise against every folder on the way: what
    lies in an excluded folder is excluded.
    """

    media: frozenset[str]
    sidecar: frozenset[str]
    exclude: tuple[str, ...] = ()
    _media: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _sidecar: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _verdicts: dict[bytes, bool] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_media", frozenset(extension.encode() for extension in self.media))
        object.__setattr__(self, "_sidecar", frozenset(extension.encode() for extension in self.sidecar))

    def file(self, path: RelPath) -> LeftAlone | None:
        """Why the file at this path is left alone, or None where its name counts."""
        *folders, name = path.split(b"/")
        if any(folder.startswith(b".") for folder in folders):
            return LeftAlone.HIDDEN
        if self.exclude and folders and self.excluded_folder(b"/".join(folders)):
            return LeftAlone.EXCLUDED
        return self.name(name, path)

    def name(self, name: bytes, path: bytes) -> LeftAlone | None:
        """The same for ``name``, the last component of ``path``, whose folders are known to count."""
        dot = name.rfind(b".")
        extension = name[dot:].lower() if dot > 0 else b""
        if _TEMPORARY.match(name):
            return LeftAlone.TEMPORARY
        if name.startswith(b"."):
            return LeftAlone.HIDDEN
        if self.exclude and self._excluded(name, path):
            return LeftAlone.EXCLUDED
        if extension in self._media:
            return None
        return LeftAlone.SIDECAR if extension in self._sidecar else LeftAlone.NOT_MEDIA

    @property
    def plain(self) -> frozenset[bytes]:
        """Extensions that make a name count at once, unless it begins with a byte of MARKED.

        Nearly all files of a phone are such, and a rescan asks for each. Empty where globs must be asked too.
        """
        return frozenset() if self.exclude else self._media

    def excluded_folder(self, path: bytes) -> bool:
        """Whether the folder at this path, or one above it, is excluded."""
        if not self.exclude:
            return False
        # What was found of a folder goes for all below it: a path may be thousands of folders deep.
        verdicts, unknown, known = self._verdicts, [], None
        while path and (known := verdicts.get(path)) is None:
            unknown.append(path)
            path = path.rpartition(b"/")[0]
        verdict = bool(known)
        for folder in reversed(unknown):
            verdict = verdict or self._excluded(folder.rpartition(b"/")[2], folder)
            if len(verdicts) >= _VERDICTS:
                verdicts.clear()
            verdicts[folder] = verdict
        return verdict

    def _excluded(self, name: bytes, path: bytes) -> bool:
        globs = _globs(self.exclude)
        return globs is not None and bool(
            globs.match(name.decode("utf-8", "surrogateescape")) or globs.match(path.decode("utf-8", "surrogateescape"))
        )


_NO_PATH = re.compile(rb"\0|(?:\A|/)\.{0,2}(?:/|\Z)")  # thousands of paths are looked at in one go


def valid_path(raw: bytes) -> RelPath:
    """``raw`` as a path below a root; ValueError when empty, absolute, with NUL, or a component ``.`` or ``..``."""
    if _NO_PATH.search(raw) is not None:
        raise ValueError(f"not a path below a root: {raw[:200]!r}")
    return RelPath(raw)
