"""What was injected and what came of it, for the table at the end of a run."""

from collections import Counter
from collections.abc import Callable


class Report:
    """The faults of one test: how often each was injected, and the work that was in flight."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record
        self._times: Counter[str] = Counter()

    def injected(self, fault: str, point: str = "", *, hit: bool = True) -> None:
        """The fault was injected once; not ``hit`` where its moment did not come."""
        if hit:
            self._times[fault] += 1
        else:
            self._record("not reached", f"{fault}: {point}")

    def times(self, fault: str) -> int:
        """How often it was injected so far."""
        return self._times[fault]

    def survived(self, fault: str, *, in_flight: object, note: str = "") -> None:
        """All of it was survived: nothing lost, nothing twice, as the test has just checked."""
        self._record("fault", [fault, self._times[fault], str(in_flight), note])
