"""Which fault tests `make test` runs, and which only `make faults` does."""

from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet


def parts(names: Iterable[str], *, always: Iterable[str]) -> list[ParameterSet]:
    """Each name as a parameter; those that are not run ``always`` are marked ``long``."""
    chosen = {*always}
    known = [*names]
    assert chosen <= {*known}, chosen - {*known}
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.long, id=name) for name in known]
