"""A figure: what was measured, the floor beside it, what is to be reached, and whether it was. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.bench.stats import Summary, exponent, summary


class Measure(StrEnum):
    """What of a figure a reach speaks of."""

    MEDIAN = "p50"
    P99 = "p99"
    RATIO = "ratio"  # of the medians, to the floor's
    MORE = "more"  # the median less the floor's


class Verdict(StrEnum):
    """What became of a figure; TOLD where nothing was to be reached."""

    REACHED = "reached"
    SHORT = "short"
    TOLD = "told"


@dataclass(frozen=True, slots=True)
class Reach:
    """A bound on one measure: at most ``bound``, or at least where ``least``."""

    measure: Measure
    bound: float
    least: bool = False

    def holds(self, value: float) -> bool:
        """Whether the measure's value is within the bound."""
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.measure} {'≥' if self.least else '≤'} {self.bound:g}"


def at_most(measure: Measure, bound: float) -> Reach:
    """This measure is to be no more than that."""
    return Reach(measure, bound)


def at_least(measure: Measure, bound: float) -> Reach:
    """This measure is to be no less than that."""
    return Reach(measure, bound, least=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """Samples in ``unit`` and those of the floor in the same; ``floor_is`` says in a few words what the floor does.

    ``counts`` is what was counted besides, for the JSON file.
    """

    name: str
    unit: str
    samples: Sequence[float]
    floor: Sequence[float] = ()
    floor_is: str = ""
    reaches: tuple[Reach, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        """Of the samples."""
        return summary(self.samples)

    @property
    def floor_summary(self) -> Summary | None:
        """Of the floor's; None where none was measured."""
        return summary(self.floor) if self.floor else None

    @property
    def ratio(self) -> float | None:
        """The median over the floor's median; None without a floor, or where that is zero."""
        floor = self.floor_summary
        return self.summary.median / floor.median if floor is not None and floor.median else None

    def value(self, measure: Measure) -> float:
        """What a reach is held against; ValueError where it needs a floor and there is none."""
        match measure:
            case Measure.MEDIAN:
                return self.summary.median
            case Measure.P99:
                return self.summary.p99
            case Measure.RATIO if self.ratio is not None:
                return self.ratio
            case Measure.MORE if self.floor_summary is not None:
                return self.summary.median - self.floor_summary.median
            case _:
                raise ValueError(f"{self.name}: no floor for {measure}")

    @property
    def verdict(self) -> Verdict:
        """SHORT as soon as one of the reaches is missed."""
        if not self.reaches:
            return Verdict.TOLD
        missed = [reach for reach in self.reaches if not reach.holds(self.value(reach.measure))]
        return Verdict.SHORT if missed else Verdict.REACHED


LINEAR = 1.1
"""An exponent up to which a growth counts as linear: what fits a few noisy points is never just 1."""


def growth(of: str, times: Mapping[int, float]) -> Figure:
    """How the time of something grows with its size, by ``{size: seconds}``.

    A fixed cost bends the small end down and would hide a growth that only shows at the large one, so that the step
    between the two largest sizes is told, too, and the larger of the two exponents counts.
    """
    points = sorted(times.items())
    steps = [exponent(points), exponent(points[-2:])]
    counts = {f"seconds at {size}": seconds for size, seconds in points}
    reaches = (at_most(Measure.MEDIAN, LINEAR),)
    return Figure(f"growth: {of}", "exponent", [max(steps)], reaches=reaches, counts=counts)
