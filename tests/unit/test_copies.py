"""What is decided of thousands of copies of one picture costs about as much as of thousands of pictures.

They are always looked at together, and all owners wait meanwhile.
"""

import time
from collections.abc import Callable, Sequence
from uuid import UUID

import pytest

from immich_dbsync.core.reconcile import reconcile
from immich_dbsync.core.view import View
from immich_dbsync.model import Asset, AssetId, Content, File, Record, RelPath, Sha1, Stat, Status, Xxh3

MANY = 4000


def content(number: int) -> Content:
    return Content(Sha1(number.to_bytes(20, "big")), Xxh3(number.to_bytes(16, "big")))


def recorded(*, copies: bool) -> list[Record]:
    """Records of so many files: of one picture, or each of its own."""
    records: list[Record] = []
    for number in range(MANY):
        which = 0 if copies else number
        path = RelPath(b"%06d.jpg" % number)
        records.append(Record(path, Stat(9, 1, 1, number + 1), content(which), AssetId(UUID(int=which))))
    return records


def renamed(records: Sequence[Record]) -> list[File]:
    return [File(RelPath(b"folder/" + r.path), r.stat, None) for r in records]


def edited(records: Sequence[Record]) -> list[File]:
    return [File(r.path, Stat(10, 2, 2, r.stat.inode), content(MANY + r.stat.inode)) for r in records]


def thinned(records: Sequence[Record]) -> list[File]:
    return [File(r.path, r.stat, None) for r in records[::2]]


def seconds(seen: Callable[[Sequence[Record]], Sequence[File]], *, copies: bool) -> float:
    """Of this thread's own time, so that nothing else that runs counts."""
    records = recorded(copies=copies)
    assets = {r.asset_id: Asset(r.asset_id, r.content.sha1, Status.ACTIVE, 1, None) for r in records if r.asset_id}
    view = View(files={f.path: f for f in seen(records)}, records={r.path: r for r in records}, assets=assets)
    began = time.thread_time()
    actions = reconcile(view)
    took = time.thread_time() - began
    assert len(actions) >= MANY / 2
    return took


@pytest.mark.parametrize("seen", [renamed, edited, thinned])
def test_copies_cost_what_pictures_cost(seen: Callable[[Sequence[Record]], Sequence[File]]) -> None:
    floor = min(seconds(seen, copies=False) for _ in range(3))
    assert min(seconds(seen, copies=True) for _ in range(3)) < 5 * floor
