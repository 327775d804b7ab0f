"""Is everybody synced, and does anything of theirs wait for a person?"""

from collections.abc import Iterator

from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.store.owners import PAUSED
from immich_dbsync.store.state import OwnerState

_WHY = "changes are followed while a service runs"


def sync(email: str, state: OwnerState | None, *, running: bool) -> Iterator[Finding]:
    """What is to be said of one user's sync; ``state`` is None before the first."""
    what = f"sync of {email}"
    if state is not None and PAUSED in state.problems:
        yield note(what, "paused", _WHY, f"Go on with: immich-dbsync users resume {email}")
    elif not running:
        yield wrong(
            what, "no service syncs this user now", _WHY, "Run: immich-dbsync run (as a service: docs/systemd.md)"
        )
    else:
        yield ok(what, "a service is at it", _WHY)
    if state is None:
        return
    for kind, problem in sorted(state.problems.items()):
        if kind != PAUSED:
            yield wrong(what, problem["text"].rstrip("."), "something waits for it", "As it says")
    if state.holds:
        what_waits = "1 hold waits" if state.holds == 1 else f"{state.holds} holds wait"
        yield wrong(what, what_waits, "these deletions wait for a person", "Look at: immich-dbsync holds list")
    if state.refused or state.damaged:
        found = f"{state.refused} files refused by Immich, {state.damaged} damaged"
        yield wrong(what, found, "they are not in Immich as they are in the folder", "See: immich-dbsync status")
