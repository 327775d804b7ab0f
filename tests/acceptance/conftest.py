"""Databases for acceptance tests; and the times that these took, printed at the end: shown, never judged."""

from collections.abc import Callable, Iterator

import pytest

from tests.databases import Servers


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """The name of a database with the newest Immich's tables."""
    with servers.database() as name:
        yield name


@pytest.fixture
def other_database(servers: Servers) -> Iterator[str]:
    """The URL of another one."""
    with servers.database() as name:
        yield servers.cluster().url(name)


@pytest.fixture
def timed(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[str, float], None]:
    """Note what took how many seconds."""
    name = request.node.name

    def note(what: str, seconds: float) -> None:
        record_property("took", f"{name}: {what} {seconds * 1000:.0f} ms")

    return note


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [line for report in reports for kind, line in report.user_properties if kind == "took"]
    if lines:
        terminalreporter.section("times")
        for line in lines:
            terminalreporter.write_line(str(line))
