"""Waiting for a condition, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.005  # at first; a check may be a query, so that many in a row cost more than the later answer
_GROWTH = 1.15
_LONGEST_PAUSE_S = 0.03
_BUSY = 4.0  # times as long as it should take at most: a machine may be busy with others


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set before so many seconds have passed; returns as soon as it is."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def until(check: Callable[[], Awaitable[T]], *, seconds: float = 10.0) -> T:
    """The first true value that ``check`` gives; AssertionError with its last value when it should have long had one.

    ``seconds``: within which it is true where nothing else keeps the machine busy.
    """
    deadline, pause = asyncio.get_running_loop().time() + seconds * _BUSY, _PAUSE_S
    while not (value := await check()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds * _BUSY} s; last seen: {value!r}"
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)
    return value
