"""Prints the table of faults at the end of the run."""

from collections.abc import Callable

import pytest

from tests.faults.report import Report


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Takes what a test injects; only what was survived is in the table."""
    return Report(record_property)


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    properties = [p for result in terminalreporter.stats.get("passed", []) for p in result.user_properties]
    rows = [value for kind, value in properties if kind == "fault"]
    if not rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':48} {'times':>5}  {'in flight':12} lost  twice")
    for fault, times, in_flight, note in sorted(rows):
        terminalreporter.write_line(f"{fault:48} {times:>5}  {in_flight:12} 0     0      {note}".rstrip())
    for kind, point in properties:
        if kind == "not reached":
            terminalreporter.write_line(f"its moment did not come: {point}")
