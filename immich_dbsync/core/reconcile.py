"""The decision table: folder, record and Immich as a three-way merge with the record as its base.

``reconcile`` is pure. What was observed goes in as a View, what is to be done comes out as actions; the order in which
things were observed does not matter. The numbers in the comments of the three modules that it asks are the rows of the
table in docs/decisions.md.
"""

from collections.abc import Iterator, Sequence

from immich_dbsync.core.absence import absence
from immich_dbsync.core.actions import Action, Drop, Leave, PutBack, Why
from immich_dbsync.core.facts import Facts
from immich_dbsync.core.presence import presence
from immich_dbsync.core.quarantined import quarantined
from immich_dbsync.core.view import View


def reconcile(view: View) -> tuple[Action, ...]:
    """Decide what is to be done; a path has at most one action, an asset at most one Trash."""
    if not view.owner_active:  # row 17
        return ()
    facts = Facts(view)
    present, entries = presence(facts), quarantined(facts)
    absent = absence(facts, present, entries)
    # A path's old record ends before a file is put back there.
    return (*present, *absent, *_where_nothing_is_pending(facts, absent, entries))


def _where_nothing_is_pending(facts: Facts, absent: Sequence[Action], entries: Sequence[Action]) -> Iterator[Action]:
    """Put no file back where it is not decided yet what becomes of the asset of another, which is missing there."""
    decided = {a.path for a in absent if isinstance(a, Drop) or (isinstance(a, Leave) and a.why is Why.HELD)}
    for action in entries:
        entry = action.entry if isinstance(action, PutBack) else None
        taken = entry is not None and (entry.path in decided or entry.path in facts.view.files)
        if entry is None or taken or facts.overwritten(entry.path, entry.content) is None:
            yield action
