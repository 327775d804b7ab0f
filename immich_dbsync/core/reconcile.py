"""The decision table: folder, record and Immich as a three-way merge with the record as its base.

``reconcile`` is pure. What was observed goes in as a View, what is to be done comes out as actions; the order in which
things were observed does not matter. The numbers in the comments of the three modules that it asks are the rows of the
table in docs/decisions.md.
"""

from immich_dbsync.core.absence import absence
from immich_dbsync.core.actions import Action
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
    # A path's old record ends before a file is put back there.
    return (*present, *absence(facts, present, entries), *entries)
