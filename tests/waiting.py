"""Waiting for a condition, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.005


async def until(check: Callable[[], Awaitable[T]], *, seconds: float = 10.0) -> T:
    """The first true value that ``check`` gives; AssertionError with its last value once ``seconds`` have passed."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (value := await check()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s; last seen: {value!r}"
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), _PAUSE_S)
    return value
