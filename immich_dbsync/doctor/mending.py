"""How a mend is worded: a command that can be pasted as it is, in the words of whoever runs it."""

import os
import pwd
import shlex
from pathlib import Path

from immich_dbsync.settings import SNAP_VARIABLE, program


def shell(command: str, *, first: str = "") -> str:
    """A line for a shell, with nothing behind it; ``first``: sentences that are to be read before."""
    return f"{first} Run: {command}".lstrip()


def run(*words: object, first: str = "") -> str:
    """A command of these words, quoted as a shell needs it."""
    return shell(shlex.join(map(str, words)), first=first)


def ours(*words: str, first: str = "") -> str:
    """A command of this program."""
    return run(program(), *words, first=first)


def allow(path: Path, *, whole: bool = False) -> str:
    """What to do where only the right to read or write ``path`` is missing; ``whole``: also what is in it."""
    if os.geteuid() == 0:
        below = ("--recursive", "--modify", "u:root:rwX,d:u:root:rwX") if whole else ("--modify", "u:root:rwX")
        first = "Even root has no right here, as in a snap or on a network file system: give it one."
        return run("setfacl", *below, path, first=first)
    try:
        uid = path.stat().st_uid
    except OSError:  # in a folder that may not be looked into
        return "Run as its owner, or as root"
    return f"Run as its owner ({_name(uid)}), or as root"


def log() -> str:
    """Where the service tells more."""
    snap = os.environ.get(SNAP_VARIABLE)
    words = ("snap", "logs", snap) if snap else ("journalctl", "-u", "immich-dbsync", "--since", "-1h")
    return run(*words, first="The service's log says more.")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
