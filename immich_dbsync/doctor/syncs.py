"""Is everybody synced, and does anything of theirs wait for a person?"""

import os
from collections.abc import Iterator

from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.doctor.mending import log, ours, run
from immich_dbsync.doctor.watches import raised
from immich_dbsync.settings import SNAP_VARIABLE, option
from immich_dbsync.store.owners import PAUSED
from immich_dbsync.store.state import OwnerState

_WHY = "changes are followed while a service runs"


def sync(email: str, state: OwnerState | None, *, running: bool, better_key: str) -> Iterator[Finding]:
    """What is to be said of one user's sync; ``state`` is None before the first.

    ``better_key`` is how they come to another API key.
    """
    what = f"sync of {email}"
    if state is not None and PAUSED in state.problems:
        yield note(what, "paused", _WHY, ours("users", "resume", email, first="It goes on with this."))
    elif not running:
        yield wrong(what, "no service syncs this user now", _WHY, _started())
    else:
        yield ok(what, "a service is at it", _WHY)
    if state is None:
        return
    for kind, problem in sorted(state.problems.items()):
        if kind != PAUSED:
            yield wrong(
                what,
                problem["text"].rstrip("."),
                "something waits for it",
                _mended(kind, problem["text"], email, better_key),
            )
    if state.holds:
        what_waits = "1 hold waits" if state.holds == 1 else f"{state.holds} holds wait"
        yield wrong(what, what_waits, "these deletions wait for a person", ours("holds", "list"))
    if state.refused or state.damaged:
        found = f"{state.refused} files refused by Immich, {state.damaged} damaged"
        yield wrong(what, found, "they are not in Immich as they are in the folder", ours("status"))


def _started() -> str:
    if snap := os.environ.get(SNAP_VARIABLE):
        first = f"If it is enabled, see why it does not run: snap logs {snap}. Else enable it."
        return run("snap", "set", snap, f"{option('enabled')}=true", first=first)
    return ours("run", first="docs/systemd.md makes it a service that starts with the system; for now this will do.")


def _mended(kind: str, text: str, email: str, better_key: str) -> str:
    """What ends a problem that the service wrote down."""
    match kind:
        case "key":
            return better_key
        case "quota":
            first = (
                "Raise the user's quota in Immich, or free space. Uploads go on by themselves, or at once with this."
            )
            return ours("resync", "--user", email, first=first)
        case "root":
            return f"Mend what is said above of the folder of {email}; the service then goes on by itself"
        case "watch" if "kernel" in text:
            return raised()
        case "watch":  # it has more folders than are watched at all
            return "Move away what holds no pictures"
        case "copy":
            return "Give the API key the permission asset.copy in Immich, and restart the service"
        case "owner":
            return ours("users", "remove", email, first="Restore the user in Immich, or have them synced no more.")
        case _:
            return log()
