from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.core.settle import Glance, settled
from immich_dbsync.model import Stat

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
STAT = Stat(size=10, mtime_ns=NOW, ctime_ns=NOW, inode=1)


@pytest.mark.parametrize(("age", "expected"), [(0, False), (SECOND - 1, False), (SECOND, True), (10**18, True)])
def test_an_old_mtime_is_settled_at_once(age: int, expected: bool) -> None:
    assert settled(replace(STAT, mtime_ns=NOW - age), NOW, None, SECOND) is expected


def test_an_mtime_in_the_future_is_settled_when_two_looks_agree() -> None:
    future = replace(STAT, mtime_ns=NOW + 10**18)
    assert not settled(future, NOW, None, SECOND)
    assert not settled(future, NOW, Glance(future, NOW - SECOND + 1), SECOND)
    assert settled(future, NOW, Glance(future, NOW - SECOND), SECOND)


@given(field=st.sampled_from(["size", "mtime_ns", "ctime_ns", "inode"]), by=st.integers(1, 100))
def test_two_looks_that_differ_settle_nothing(field: str, by: int) -> None:
    before = replace(STAT, **{field: getattr(STAT, field) - by})
    assert not settled(STAT, NOW, Glance(before, NOW - 3600 * SECOND), SECOND)


def test_a_settle_time_of_nothing_settles_all_that_is_not_in_the_future() -> None:
    assert settled(STAT, NOW, None, 0)
    assert not settled(replace(STAT, mtime_ns=NOW + 1), NOW, None, 0)
    assert settled(replace(STAT, mtime_ns=NOW + 1), NOW, Glance(replace(STAT, mtime_ns=NOW + 1), NOW), 0)


def test_a_clock_that_went_back_settles_nothing() -> None:
    assert not settled(STAT, NOW - SECOND, Glance(STAT, NOW), SECOND)
