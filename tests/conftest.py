"""Fixtures that every kind of test shares."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from asyncpg.connection import Connection

from immich_dbsync.demo.tables import VERSIONS, ImmichVersion
from tests import kept
from tests.databases import Servers

_TOGETHER_S = 600  # the timeout from which a module's tests stay together

# A shell that runs the tests in its background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_as_by_default() -> Iterator[None]:
    """Undo what a command that ran in this process did to the logs; its streams are closed by now."""
    yield
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the long ones out, as their timeouts tell, so that each worker's share begins with its part of them.

    Else one worker would be left alone with them at the end. The longest of a module stay together: they share things.
    """
    shares = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long: dict[object, list[pytest.Item]] = {}
    for item in sorted((item for item in items if _timeout(item)), key=_timeout, reverse=True):
        long.setdefault(item.path if _timeout(item) >= _TOGETHER_S else item, []).append(item)
    others = iter([item for item in items if not _timeout(item)])
    dealt: list[list[pytest.Item]] = [[] for _ in range(shares)]
    for number, together in enumerate(long.values()):
        dealt[number % shares] += together
    for share in dealt:
        share.extend(islice(others, max(0, len(items) // shares - len(share))))
    items[:] = [*chain(*dealt), *others]


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays until the end: to go through it all after each few tests takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def _timeout(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker is not None else 0.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``immich_version`` is each version in turn; the newest alone where a test is marked so."""
    if "immich_version" in metafunc.fixturenames:
        newest = metafunc.definition.get_closest_marker("newest") is not None
        metafunc.parametrize("immich_version", VERSIONS[-1:] if newest else VERSIONS)


async def _introspect(connection: Any, oids: tuple[int, ...], *how: Any) -> Any:
    """What asyncpg asks of types on each new connection: a third of PostgreSQL's work in these tests, were it asked."""
    key = (connection._addr, connection._params.database, tuple(sorted(oids)))
    if key not in _types:
        _types[key] = await _ask_types(connection, oids, *how)
    return _types[key]


_ask_types: Any = vars(Connection)["_introspect_types"]
_types: dict[object, Any] = {}


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack, patch.object(Connection, "_introspect_types", _introspect):
        yield Servers(stack)


@pytest.fixture(scope="session", autouse=True)
async def connections() -> AsyncIterator[None]:
    """What one test leaves idle the next one goes on with."""
    with kept.lending(), kept.keeping(asyncio.get_running_loop()):
        yield


@pytest.fixture
def library_url(servers: Servers, immich_version: ImmichVersion) -> Iterator[str]:
    """A database like that, in which other tests may have been; our schema may be there already."""
    with servers.emptied(immich_version) as name:
        yield servers.cluster().url(name)


@pytest.fixture
def database_url(servers: Servers, immich_version: ImmichVersion) -> Iterator[str]:
    """A fresh database of the newest PostgreSQL with Immich's tables, once for each Immich version."""
    with servers.database(immich_version) as name:
        yield servers.cluster().url(name)
