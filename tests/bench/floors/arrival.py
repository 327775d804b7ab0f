"""The least that an arrival takes: inotify, one read, SHA-1, one request.

``python -m tests.bench.floors.arrival ROOT SERVER KEY``: posts each file that is renamed into ROOT, until killed.
"""

import asyncio
import hashlib
import os
import sys

import aiohttp

from tests.bench.eye import CAME, Eye
from tests.bench.floors.posting import form


async def serve(root: str, server: str, key: str) -> None:
    """Until killed."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(headers={"x-api-key": key}) as session:
        with Eye([root], CAME) as eye:
            came = asyncio.Event()
            loop.add_reader(eye.fileno(), came.set)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            while True:
                await came.wait()
                came.clear()
                for name in eye.names():
                    with open(os.fsencode(root) + b"/" + name, "rb") as file:  # noqa: ASYNC230, PTH123  # as bare as can be
                        content = file.read()
                    checksum = hashlib.sha1(content, usedforsecurity=False).hexdigest()
                    body, headers = form(name.decode(), content)
                    headers["x-immich-checksum"] = checksum
                    async with session.post(f"{server}/api/assets", data=body, headers=headers) as answer:
                        assert answer.status == 201, await answer.text()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
