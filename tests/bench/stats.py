"""What samples say: percentiles, and how a time grows with its size. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent of them do not exceed (nearest rank); ValueError where there is none."""
    if not samples:
        raise ValueError("no samples")
    rank = math.ceil(percent / 100 * len(samples))
    return sorted(samples)[max(rank, 1) - 1]


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two in the middle; ValueError where there is none."""
    if not samples:
        raise ValueError("no samples")
    ordered, middle = sorted(samples), len(samples) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The e for which ``time = c * size ** e`` fits these pairs (size, time) best: the slope of the logarithms.

    0 does not grow at all, 1 is linear, 2 is quadratic. ValueError for fewer than two sizes, or none above zero.
    """
    if any(size <= 0 or time <= 0 for size, time in points):
        raise ValueError(f"sizes and times must be above zero: {points}")
    xs, ys = [math.log(size) for size, _ in points], [math.log(time) for _, time in points]
    if len({*xs}) < 2:
        raise ValueError(f"growth needs two sizes: {points}")
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return slope / sum((x - x_mean) ** 2 for x in xs)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of some samples, in their own unit."""

    n: int
    least: float
    median: float
    mean: float
    p90: float
    p99: float
    most: float


def summary(samples: Sequence[float]) -> Summary:
    """Of these samples; ValueError where there is none."""
    return Summary(
        len(samples),
        min(samples, default=math.nan),
        median(samples),
        sum(samples) / len(samples),
        percentile(samples, 90),
        percentile(samples, 99),
        max(samples),
    )
