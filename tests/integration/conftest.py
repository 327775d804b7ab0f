"""What most tests of the service begin with."""

from collections.abc import AsyncIterator

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from tests.integration.harness import Harness, harness


@pytest.fixture
async def sync(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Harness]:
    """A user with an empty folder, and the service, which the test starts."""
    async with harness(library_url, immich_version) as made:
        yield made
