"""Batches of ids, and the one that spoils a batch."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immich_dbsync.immich.api import BatchRefused, Unavailable
from immich_dbsync.model import AssetId
from immich_dbsync.service.requests import batches, send_split


@given(st.lists(st.integers()), st.integers(1, 7))
def test_batches_are_all_there_in_order(items: list[int], size: int) -> None:
    runs = list(batches(items, size))
    assert [item for run in runs for item in run] == items
    assert all(0 < len(run) <= size for run in runs)


@given(st.sets(st.integers(0, 40), min_size=1), st.sets(st.integers(0, 40)))
async def test_only_the_refused_are_left_over(wanted: set[int], foreign: set[int]) -> None:
    done: list[AssetId] = []
    refused = {AssetId(UUID(int=n)) for n in foreign}

    async def request(ids: Sequence[AssetId]) -> None:
        if refused & set(ids):
            raise BatchRefused("Not found or no asset.delete access")
        done.extend(ids)

    ids = [AssetId(UUID(int=n)) for n in sorted(wanted)]
    assert set(await send_split(request, ids)) == refused & set(ids)
    assert sorted(done) == [i for i in ids if i not in refused]


async def test_server_that_goes_away_ends_the_whole() -> None:
    async def request(_: Sequence[AssetId]) -> None:
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        await send_split(request, [AssetId(UUID(int=1)), AssetId(UUID(int=2))])
