"""How many deletions at once are too many."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.core import guards
from immich_dbsync.core.guards import FOLDER_MIN, FROM_FOLDER, FROM_IMMICH, Limits, large_folders
from immich_dbsync.model import RelPath


@pytest.mark.parametrize(
    ("limits", "deletions", "synced", "too_many"),
    [
        (FROM_FOLDER, 25, 25, False),  # not more than the minimum, though all there is
        (FROM_FOLDER, 26, 130, False),  # just the fraction
        (FROM_FOLDER, 26, 129, True),
        (FROM_FOLDER, 26, 10_000, False),
        (FROM_IMMICH, 100, 100, False),
        (FROM_IMMICH, 101, 202, False),
        (FROM_IMMICH, 101, 201, True),
        (Limits(0, 0.0), 0, 0, False),
        (Limits(0, 0.0), 1, 10_000, True),
    ],
)
def test_more_than_both_the_minimum_and_the_fraction_are_too_many(
    limits: Limits, deletions: int, synced: int, *, too_many: bool
) -> None:
    assert limits.exceeded(deletions, synced) is too_many


def test_a_folder_counts_with_all_below_it() -> None:
    paths = [RelPath(b"a/b/%d.jpg" % number) for number in range(FOLDER_MIN - 1)]
    assert large_folders(paths) == []
    assert large_folders([*paths, RelPath(b"a/c.jpg")]) == [b"", b"a"]
    assert large_folders([*paths, RelPath(b"a/b/c.jpg")]) == [b"", b"a", b"a/b"]


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
def test_counting_no_further_than_enough_gives_the_same_answer(fraction: float) -> None:
    limits = Limits(3, fraction)
    for deletions in range(60):
        most = limits.enough(deletions)
        for synced in range(700):
            assert limits.exceeded(deletions, synced) is limits.exceeded(deletions, min(synced, most))


@given(st.lists(st.lists(st.sampled_from([b"a", b"bb", b"c"]), min_size=1, max_size=4), max_size=60))
def test_every_folder_counts_all_that_is_below_it(paths: list[list[bytes]]) -> None:
    deleted = [RelPath(b"/".join([*folders, b"%d.jpg" % number])) for number, folders in enumerate(paths)]
    above = [b"/".join(folders[:depth]) for folders in paths for depth in range(len(folders) + 1)]
    assert large_folders(deleted) == sorted({folder for folder in above if above.count(folder) >= FOLDER_MIN})


def test_a_folder_thousands_of_folders_deep_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = b"/".join([b"d"] * 1900)
    pushed: list[int] = []

    def push(heap: list[tuple[int, bytes]], item: tuple[int, bytes]) -> None:
        pushed.append(item[0])
        heapq.heappush(heap, item)

    monkeypatch.setattr(guards, "heappush", push)
    assert len(large_folders([RelPath(deep + b"/%d.jpg" % number) for number in range(5000)])) == 1901
    assert len(pushed) == 1900
