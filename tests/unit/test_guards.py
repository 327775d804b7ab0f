"""How many deletions at once are too many."""

import pytest

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
