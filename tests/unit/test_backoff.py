from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.core.backoff import Backoff

BACKOFF = Backoff(first=0.5, most=30.0)
CHANCE = st.floats(0, 1, exclude_max=True)


def test_doubles_up_to_the_most() -> None:
    assert [BACKOFF.wait(attempt, 0.0) for attempt in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 15]


@given(attempt=st.integers(0, 10**9), chance=CHANCE)
def test_stays_in_the_upper_half_for_ever(attempt: int, chance: float) -> None:
    full = min(30.0, 0.5 * 2.0 ** min(attempt, 100))
    assert full / 2 <= BACKOFF.wait(attempt, chance) <= full


@given(attempt=st.integers(0, 100), chance=CHANCE)
def test_never_waits_less_after_more_tries(attempt: int, chance: float) -> None:
    assert BACKOFF.wait(attempt, chance) <= BACKOFF.wait(attempt + 1, chance)
