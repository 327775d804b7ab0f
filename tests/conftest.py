"""Fixtures that every kind of test shares."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import structlog

from immich_dbsync.demo.tables import VERSIONS, ImmichVersion
from tests.databases import Servers


@pytest.fixture(autouse=True)
def logging_as_by_default() -> Iterator[None]:
    """Undo what a command that ran in this process did to the logs; its streams are closed by now."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(params=VERSIONS)
def immich_version(request: pytest.FixtureRequest) -> ImmichVersion:
    """Each Immich version in turn."""
    version: ImmichVersion = request.param
    return version


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
