"""The arithmetic of the benchmarks: percentiles and exponents."""

import pytest

from tests.bench.stats import exponent, median, percentile, summary


def test_percentiles_are_samples() -> None:
    samples = [float(number) for number in range(100, 0, -1)]
    assert percentile(samples, 50) == 50
    assert percentile(samples, 90) == 90
    assert percentile(samples, 99) == 99
    assert percentile(samples, 100) == 100
    assert percentile(samples, 0) == 1


def test_of_few_samples_the_99th_percentile_is_the_largest() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3
    assert percentile([7.0], 1) == 7


def test_the_median_of_an_even_number_lies_between_two() -> None:
    assert median([4.0, 1.0, 3.0, 2.0]) == 2.5
    assert median([9.0, 1.0, 2.0]) == 2


@pytest.mark.parametrize("of", [median, summary, lambda samples: percentile(samples, 50)])
def test_no_samples_say_nothing(of: object) -> None:
    assert callable(of)
    with pytest.raises(ValueError, match="no samples"):
        of([])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found(power: float) -> None:
    points = [(size, 0.3 * size**power) for size in (625.0, 2500.0, 10_000.0)]
    assert exponent(points) == pytest.approx(power)


def test_noise_bends_the_exponent_a_little() -> None:
    assert exponent([(1, 1.1), (4, 3.8), (16, 16.5)]) == pytest.approx(0.977, abs=0.001)


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(2.0, 1.0), (2.0, 3.0)]])
def test_growth_needs_two_sizes(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two sizes"):
        exponent(points)


@pytest.mark.parametrize("points", [[(0.0, 1.0), (1.0, 1.0)], [(1.0, 0.0), (2.0, 1.0)]])
def test_nothing_takes_no_time(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        exponent(points)


def test_a_summary_tells_all() -> None:
    said = summary([1.0, 2.0, 3.0, 10.0])
    assert (said.n, said.least, said.median, said.mean, said.p90, said.p99, said.most) == (4, 1, 2.5, 4, 10, 10, 10)
