"""Work in threads that must not outlive those who asked for it."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_the_end(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run ``work`` in a thread; when cancelled, be cancelled only once it has ended.

    A session that follows must not find files still being moved by the one before.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **options))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
