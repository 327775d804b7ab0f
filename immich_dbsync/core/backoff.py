"""Waiting times between tries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting with full-range jitter in its upper half, in seconds."""

    first: float
    most: float
    factor: float = 2.0

    def wait(self, attempt: int, chance: float) -> float:
        """How long to wait after failed try number ``attempt`` (from 0); ``chance`` is uniform in [0, 1)."""
        # The exponent is bounded so that a service that failed for a year does not overflow a float.
        full = min(self.most, self.first * self.factor ** min(attempt, 64))
        return full * (0.5 + 0.5 * chance)
