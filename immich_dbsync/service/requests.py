"""Rows 3 and 11: moves assets to Immich's trash and takes them out of it, in batches, each after a last look."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import structlog

from immich_dbsync.immich import api
from immich_dbsync.model import AssetId

log = structlog.get_logger()

Request = Callable[[Sequence[AssetId]], Awaitable[None]]
KeyedRequest = Callable[[str, Sequence[AssetId]], Awaitable[None]]
T = TypeVar("T")


def batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """The items in runs of ``size``, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


async def send_split(request: Request, ids: Sequence[AssetId]) -> list[AssetId]:
    """Send one batch; where one id spoils it, halve it until only such ids are left over. Returns those.

    One foreign or unknown id has the whole batch refused with nothing done (seen on 2.7.5 and 3.1.0).
    """
    try:
        await request(ids)
    except api.BatchRefused as error:
        if len(ids) == 1:
            log.warning("request.refused", asset=str(ids[0]), reason=str(error))
            return list(ids)
        middle = len(ids) // 2
        return [*await send_split(request, ids[:middle]), *await send_split(request, ids[middle:])]
    return []
