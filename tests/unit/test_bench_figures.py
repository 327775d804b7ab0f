"""When a figure is reached, and how it is told."""

import json

import pytest
from rich.console import Console

from tests.bench import report
from tests.bench.figures import Figure, Measure, Reach, Verdict, at_least, at_most, growth
from tests.bench.sizes import Sizes, scaled, steps


def _figure(*reaches: Reach, samples: tuple[float, ...] = (2.0, 3.0, 9.0), floor: tuple[float, ...] = (1.0,)) -> Figure:
    return Figure("a thing", "ms", samples, floor, "the least", reaches)


@pytest.mark.parametrize(
    ("reach", "verdict"),
    [
        (at_most(Measure.MEDIAN, 3), Verdict.REACHED),
        (at_most(Measure.MEDIAN, 2.9), Verdict.SHORT),
        (at_most(Measure.P99, 9), Verdict.REACHED),
        (at_most(Measure.P99, 8.9), Verdict.SHORT),
        (at_most(Measure.RATIO, 3), Verdict.REACHED),
        (at_most(Measure.RATIO, 2.9), Verdict.SHORT),
        (at_least(Measure.RATIO, 3), Verdict.REACHED),
        (at_least(Measure.RATIO, 3.1), Verdict.SHORT),
        (at_most(Measure.MORE, 2), Verdict.REACHED),
        (at_most(Measure.MORE, 1.9), Verdict.SHORT),
    ],
)
def test_a_bound_is_within_reach(reach: Reach, verdict: Verdict) -> None:
    assert _figure(reach).verdict is verdict


def test_one_bound_missed_is_short() -> None:
    assert _figure(at_most(Measure.MEDIAN, 3), at_most(Measure.P99, 1)).verdict is Verdict.SHORT


def test_without_a_bound_it_is_only_told() -> None:
    assert _figure().verdict is Verdict.TOLD


@pytest.mark.parametrize("measure", [Measure.RATIO, Measure.MORE])
def test_a_bound_on_the_floor_needs_one(measure: Measure) -> None:
    with pytest.raises(ValueError, match="no floor"):
        _ = _figure(at_most(measure, 1), floor=()).verdict


def test_there_is_no_ratio_to_nothing() -> None:
    assert _figure(floor=()).ratio is None
    assert _figure(floor=(0.0,)).ratio is None


def test_a_reach_says_what_it_is() -> None:
    assert str(at_most(Measure.P99, 15)) == "p99 ≤ 15"
    assert str(at_least(Measure.RATIO, 0.9)) == "ratio ≥ 0.9"


def test_linear_growth_is_reached() -> None:
    figure = growth("a thing", {100: 1.0, 400: 4.0, 1600: 16.0})
    assert figure.summary.median == pytest.approx(1.0)
    assert figure.verdict is Verdict.REACHED
    assert figure.counts == {"seconds at 100": 1.0, "seconds at 400": 4.0, "seconds at 1600": 16.0}


def test_quadratic_growth_is_not_hidden_by_a_fixed_cost() -> None:
    times = {size: 1.0 + (size / 400) ** 2 for size in (100, 400, 1600)}
    figure = growth("a thing", times)
    assert figure.summary.median > 1.4
    assert figure.verdict is Verdict.SHORT


def test_growth_is_measured_at_three_sizes() -> None:
    assert steps(10_000) == (625, 2500, 10_000)
    assert steps(8) == (1, 2, 8)


def test_scaled_sizes_stay_useful() -> None:
    assert scaled(1) == Sizes()
    small = scaled(0.0001)
    assert small.deletions == small.bulk == 16
    assert small.first_scan_bytes == 8 << 20
    assert small.bulk_times == 1
    assert small.library > small.bulk * 4
    assert scaled(0.5).records == 500_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (-2.0, "-2.00"),
    ],
)
def test_numbers_are_told_in_three_digits(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_the_table_tells_verdicts() -> None:
    told = Console(width=160, color_system=None)
    with told.capture() as captured:
        report.show([_figure(at_most(Measure.MEDIAN, 1)), _figure()], told)
    lines = captured.get().splitlines()
    assert len(lines) == 3
    assert " ".join(lines[1].split()) == "a thing ms 3 3.00 9.00 1.00 3.00 p50 ≤ 1 short"
    assert lines[2].split()[-1] == "told"


def test_the_json_holds_everything() -> None:
    text = report.as_json(
        [_figure(at_least(Measure.RATIO, 0.9))],
        sizes=Sizes(),
        machine={"cores": 2},
        families=[{"name": "some", "seconds": 1.0}],
    )
    read = json.loads(text)
    assert read["machine"] == {"cores": 2}
    assert read["sizes"]["folder"] == 20_000
    assert read["families"] == [{"name": "some", "seconds": 1.0}]
    [figure] = read["figures"]
    assert figure["samples"]["median"] == 3
    assert figure["floor"]["n"] == 1
    assert figure["ratio"] == 3
    assert figure["to_reach"] == ["ratio ≥ 0.9"]
    assert figure["verdict"] == "reached"
