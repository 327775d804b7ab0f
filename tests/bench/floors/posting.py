"""The least that many uploads take: a bare loop that reads files and posts them.

``python -m tests.bench.floors.posting ROOT SERVER KEY AT_ONCE < PATHS`` prints the seconds that all of them took.
"""

import asyncio
import os
import sys
import time

import aiohttp

_BOUNDARY = "b0undary"
_FIELDS = {
    "fileCreatedAt": "2023-11-14T22:13:20.000Z",
    "fileModifiedAt": "2023-11-14T22:13:20.000Z",
    "deviceAssetId": "bench",
    "deviceId": "bench",
}
_HEAD = "".join(
    f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
    for name, value in _FIELDS.items()
)
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()


def form(name: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """The body of an upload, and its headers."""
    head = (
        f'{_HEAD}--{_BOUNDARY}\r\nContent-Disposition: form-data; name="assetData"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    return head + content + _TAIL, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}


async def seconds(root: str, server: str, key: str, at_once: int, paths: list[str]) -> float:
    """How long it takes to post all of these, so many at a time."""
    left = iter(paths)

    async def post(session: aiohttp.ClientSession) -> None:
        for path in left:
            with open(f"{root}/{path}", "rb") as file:  # noqa: ASYNC230, PTH123  # as bare as can be
                body, headers = form(os.path.basename(path), file.read())  # noqa: PTH119
            async with session.post(f"{server}/api/assets", data=body, headers=headers) as answer:
                assert answer.status == 201, await answer.text()

    async with aiohttp.ClientSession(headers={"x-api-key": key}) as session:
        began = time.monotonic()
        await asyncio.gather(*(post(session) for _ in range(at_once)))
        return time.monotonic() - began


if __name__ == "__main__":
    _, given_root, given_server, given_key, given_at_once = sys.argv
    took = asyncio.run(seconds(given_root, given_server, given_key, int(given_at_once), sys.stdin.read().splitlines()))
    sys.stdout.write(f"{took}\n")
