"""Tells again and again how far something is, while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_PAUSE_S = 0.2


@asynccontextmanager
async def ticking(say: Callable[[], None]) -> AsyncIterator[None]:
    """Call ``say`` again and again while the block runs, and once more when it has."""

    async def forever() -> None:
        while True:
            await asyncio.sleep(_PAUSE_S)
            say()

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
    say()
