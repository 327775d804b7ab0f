"""The stand-in Immich as a process that notes when each request began: ``python -m tests.bench.stand_in URL FILE``."""

import asyncio
import os
import signal
import sys
import time

from immich_dbsync.demo.server import StandIn


class Noted(list[tuple[str, str]]):
    """Requests, each written to a file with the monotonic time, which all processes share."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND)

    def append(self, request: tuple[str, str]) -> None:
        """Write it down; nothing is kept in memory."""
        os.write(self._fd, f"{time.monotonic_ns()} {' '.join(request)}\n".encode())


async def serve(database_url: str, requests: str) -> None:
    """Until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    stand_in = StandIn(database_url)
    stand_in.requests = Noted(requests)
    async with stand_in:
        sys.stdout.write(f"listening on {stand_in.url}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
