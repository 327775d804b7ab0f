"""Work in threads for which it matters how they end when nobody wants it any more."""

import asyncio
import threading
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


async def while_wanted(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run ``work`` in a thread; what it is given tells whether to stop, which is so once this is cancelled.

    For what only reads, and may read for hours: the thread is not waited for, and is not to be lost to others either.
    """
    unwanted = threading.Event()
    try:
        return await asyncio.to_thread(work, unwanted.is_set)
    except asyncio.CancelledError:
        unwanted.set()
        raise
