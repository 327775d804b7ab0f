"""The least that many uploads take: a bare loop that reads files and posts them.

``python -m tests.bench.floors.posting ROOT SERVER KEY AT_ONCE [DATABASE OWNER] < PATHS`` prints the seconds that all of
them took. With a database, each file is noted there before it is sent and tied to its asset afterwards, as it has to be
for nothing to be sent twice or left behind whenever this ends: both digests, one statement before, one after.
"""

import asyncio
import hashlib
import os
import sys
import time
from contextlib import AsyncExitStack
from uuid import UUID

import aiohttp
import asyncpg
import xxhash

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


_BEFORE = "insert into immich_dbsync_v1.sends (owner_id, sha1, xxh3, size, path) values ($1, $2, $3, $4, $5)"
_AFTER = """
with stored as (select id from public.asset where id = $6 and status = 'active' and checksum = $2),
sent as (delete from immich_dbsync_v1.sends where owner_id = $1 and sha1 = $2),
told as (
  insert into immich_dbsync_v1.history (owner_id, action, path, asset_id, cause)
  select $1, 'upload', $5, id, 'new in the folder' from stored
)
insert into immich_dbsync_v1.records (owner_id, path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id)
select $1, $5, $4, $7, $8, $9, false, $3, $2, id from stored
"""


async def seconds(
    root: str, server: str, key: str, at_once: int, paths: list[str], *, database: str = "", owner: str = ""
) -> float:
    """How long it takes to post all of these, so many at a time; with a ``database`` noted and tied there, too."""
    left = iter(paths)

    async def send(session: aiohttp.ClientSession, path: str, content: bytes) -> UUID:
        body, headers = form(os.path.basename(path), content)  # noqa: PTH119  # as bare as can be
        async with session.post(f"{server}/api/assets", data=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            return UUID((await answer.json())["id"]) if database else UUID(int=0)

    async def post(session: aiohttp.ClientSession, connection: "asyncpg.Connection[asyncpg.Record] | None") -> None:
        for path in left:
            with open(f"{root}/{path}", "rb") as file:  # noqa: ASYNC230, PTH123  # as bare as can be
                content, status = file.read(), os.fstat(file.fileno())
            if connection is None:
                await send(session, path, content)
                continue
            sha1 = hashlib.sha1(content, usedforsecurity=False).digest()
            note = (UUID(owner), sha1, xxhash.xxh3_128_digest(content), len(content), path.encode())
            await connection.execute(_BEFORE, *note)
            asset = await send(session, path, content)
            await connection.execute(_AFTER, *note, asset, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(headers={"x-api-key": key}))
        connections: list[asyncpg.Connection[asyncpg.Record] | None] = [None] * at_once
        if database:
            connections = [await asyncpg.connect(database) for _ in range(at_once)]
        began = time.monotonic()
        await asyncio.gather(*(post(session, connection) for connection in connections))
        return time.monotonic() - began


if __name__ == "__main__":
    _, given_root, given_server, given_key, given_at_once, *given_ours = sys.argv
    given_paths, ours = sys.stdin.read().splitlines(), dict(zip(("database", "owner"), given_ours, strict=False))
    took = asyncio.run(seconds(given_root, given_server, given_key, int(given_at_once), given_paths, **ours))
    sys.stdout.write(f"{took}\n")
