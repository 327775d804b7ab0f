"""Does Syncthing, where its configuration can be read, bring pictures in and take deletions out?"""

import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from immich_dbsync.doctor.finding import Finding, note, ok, wrong

_WHAT = "Syncthing"
_WHY = "pictures come from the phone with it, and deletions in Immich reach the phone with it"
# Where it keeps config.xml, below a user's home: since 1.27, before, and in the snap; and elsewhere.
_IN_HOMES = (".local/state/syncthing", ".config/syncthing", "snap/syncthing/common/syncthing")
_ELSEWHERE = ("/var/lib/syncthing", "/var/lib/syncthing/.config/syncthing", "/var/syncthing/config")
_VARIABLES = ("STCONFDIR", "STHOMEDIR")
_LARGEST = 16 << 20  # bytes of a configuration that is read


@dataclass(frozen=True, slots=True)
class Share:
    """A folder that Syncthing syncs, as its configuration says."""

    label: str
    path: Path
    type: str
    paused: bool = False
    ignores_deletes: bool = False
    watched: bool = True


def configurations(folders: Iterable[Path]) -> list[Path]:
    """The configurations of those whose folders these are, of us, and in the usual places, as far as they are there."""
    homes: set[Path] = set()
    with suppress(RuntimeError):  # a user without one
        homes.add(Path.home())
    for folder in folders:
        with suppress(OSError, KeyError):
            homes.add(Path(pwd.getpwuid(folder.stat().st_uid).pw_dir))
    places = [home / inside for home in sorted(homes) for inside in _IN_HOMES]
    places += [Path(folder) for folder in _ELSEWHERE]
    places += [Path(value) for name in _VARIABLES if (value := os.environ.get(name))]
    return [file for place in dict.fromkeys(places) if _is_file(file := place / "config.xml")]


def _is_file(path: Path) -> bool:
    """Whether it is one; what may not even be looked at, as in somebody else's home, counts as missing."""
    try:
        return path.is_file()
    except OSError:
        return False


def shares(file: Path) -> list[Share]:
    """What a configuration shares; raises OSError and ValueError where it can't be read."""
    if file.stat().st_size > _LARGEST:
        raise ValueError("it is too large to be one")
    try:
        tree = ET.fromstring(file.read_bytes())  # noqa: S314  # expat bounds what entities may grow to
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    return [
        Share(
            element.get("label") or element.get("id") or "",
            Path(os.path.expanduser(element.get("path") or "")),  # noqa: PTH111  # leaves what is nobody's home
            element.get("type") or "sendreceive",
            element.findtext("paused") == "true",
            element.findtext("ignoreDelete") == "true",
            element.get("fsWatcherEnabled") != "false",
        )
        for element in tree.iter("folder")
        if element.get("path")
    ]


def syncthing(files: Iterable[Path], roots: Iterable[Path]) -> Iterator[Finding]:
    """What these configurations say of folders at, above and below the users' own."""
    owned = [root.resolve() for root in roots]
    for file in files:
        try:
            found = shares(file)
        except (OSError, ValueError) as error:
            yield note(
                _WHAT, f"{file} can't be read: {error}", _WHY, "Look yourself: the folders have to send and receive"
            )
            continue
        for share in found:
            path = Path(os.path.realpath(share.path))  # also where links lead round in a circle
            for root in owned:
                if path.is_relative_to(root) or root.is_relative_to(path):
                    yield from judged(share, path, root)


def none_found() -> Finding:
    """There is nothing to be said of it, which is no reason to say nothing."""
    return ok(_WHAT, "none of its folders, as far as its configuration is found here, is a user's", _WHY)


def judged(share: Share, path: Path, root: Path) -> Iterator[Finding]:
    """What is to be said of one share in, at or above a user's folder."""
    name = f"folder {share.label!r} ({path})"
    troubles = [*_troubles(share, name, inside=path != root and path.is_relative_to(root))]
    yield from troubles or [ok(_WHAT, f"{name} sends and receives", _WHY)]


def _troubles(share: Share, name: str, *, inside: bool) -> Iterator[Finding]:
    to_both = "In Syncthing, Edit Folder, Advanced, Folder Type: Send & Receive"
    match share.type:
        case "sendonly":
            yield wrong(_WHAT, f"{name} only sends, so nothing comes from the phone", _WHY, to_both)
        case "receiveonly":
            yield wrong(_WHAT, f"{name} only receives, so no deletion in Immich reaches the phone", _WHY, to_both)
        case "receiveencrypted":
            yield wrong(_WHAT, f"{name} is encrypted, so there is no picture to be seen", _WHY, "Share it unencrypted")
    if not inside:
        yield wrong(
            _WHAT,
            f"{name} holds a user's own folder",
            "that folder also holds the quarantine, which would be sent to the phone",
            "Share a folder below it, as in <user id>/Camera",
        )
    if share.ignores_deletes:
        yield note(_WHAT, f"{name} ignores deletions", _WHY, "Switch ignoreDelete off, if they are to be followed")
    if share.paused:
        yield note(_WHAT, f"{name} is paused", _WHY, "Resume it in Syncthing")
    if not share.watched:
        found = f"{name} is not watched, so what leaves it is seen by the next scan only"
        yield note(_WHAT, found, _WHY, "In Syncthing, Edit Folder, Scanning: Watch for Changes")
