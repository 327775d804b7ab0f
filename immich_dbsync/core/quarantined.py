"""Rows 15 and 16: a file is in quarantine."""

from collections.abc import Iterator

from immich_dbsync.core.actions import Action, NoteGone, Purge, PutBack, Supersede
from immich_dbsync.core.facts import Facts
from immich_dbsync.core.view import View
from immich_dbsync.model import AssetId, Content, Entry, RelPath, Status


def quarantined(facts: Facts) -> tuple[Action, ...]:
    """What is to be done about the files in quarantine; nothing while the root is not healthy."""
    return tuple(_entries(facts)) if facts.view.healthy else ()


def _entries(facts: Facts) -> Iterator[Action]:
    view = facts.view
    back: set[tuple[RelPath, Content]] = set()
    for entry in sorted(view.entries, key=lambda entry: entry.id):
        asset = view.assets.get(entry.asset_id)
        if asset is None:
            if entry.gone and view.purge_before_ns is not None and entry.at_ns < view.purge_before_ns:
                yield Purge(entry)  # row 16
            elif not entry.gone and entry.asset_id in view.deleted:
                yield NoteGone(entry)
            continue
        if entry.superseded or asset.status is not Status.ACTIVE or facts.lost_still(asset) is not None:
            continue
        if entry.path in facts.contents and facts.contents[entry.path] is None:
            continue  # whether the same content is there shows once that file is identified
        there = facts.contents.get(entry.path) == entry.content or (entry.path, entry.content) in back
        back.add((entry.path, entry.content))
        yield Supersede(entry) if there else PutBack(entry, _own_asset(facts, entry))  # row 15


def deleted_for_good(entry: Entry, view: View) -> bool:
    """Whether it is known by evidence that the asset which brought a file to quarantine will never be restored."""
    return entry.asset_id not in view.assets and (entry.gone or entry.asset_id in view.deleted)


def _own_asset(facts: Facts, entry: Entry) -> AssetId | None:
    """The active asset of the file's own content: another than brought it here for a live photo's video, none for a
    sidecar.
    """
    asset = facts.by_sha1.get(entry.content.sha1)
    return asset.id if asset is not None and asset.status is Status.ACTIVE else None
