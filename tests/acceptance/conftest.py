"""Prints the times that acceptance tests took, at the end of the run: shown, never judged."""

from collections.abc import Callable

import pytest

TIMES: list[str] = []


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Note what took how many seconds."""
    name = request.node.name

    def note(what: str, seconds: float) -> None:
        TIMES.append(f"{name}: {what} {seconds * 1000:.0f} ms")

    return note


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TIMES:
        terminalreporter.section("times")
        for line in TIMES:
            terminalreporter.write_line(line)
