"""The client against the stand-in of both versions, and against proxies and servers that are no Immich."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.stage import PERMISSIONS
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.immich import api, probe
from immich_dbsync.immich.api import Server, Upload, Uploaded
from immich_dbsync.model import AssetId, Sha1
from tests.waiting import until

MTIME_NS = 1_700_000_000_123_456_789


@dataclass
class Place:
    """A stand-in with one user, and our client of it."""

    immich: StandIn
    server: Server
    database: "asyncpg.Connection[asyncpg.Record]"
    user: UUID
    key: str
    sent: list[int] = field(default_factory=list)

    async def upload(self, data: bytes, name: bytes = b"a.jpg", *, key: str | None = None) -> Uploaded:
        return await self.server.upload(self.key if key is None else key, _of(data, name), _body(data))

    async def count(self) -> int:
        count: int = await self.database.fetchval("select count(*) from asset")
        return count

    async def status(self, asset: AssetId) -> str:
        status: str = await self.database.fetchval("select status::text from asset where id = $1", asset)
        return status


def _of(data: bytes, name: bytes = b"a.jpg") -> Upload:
    return Upload(name, len(data), MTIME_NS, Sha1(hashlib.sha1(data, usedforsecurity=False).digest()))


async def _body(data: bytes, chunk: int = 1 << 20) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), chunk):
        yield data[offset : offset + chunk]


@pytest.fixture
async def place(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Place]:
    database = await asyncpg.connect(library_url)
    try:
        async with StandIn(library_url, version=immich_version) as immich, Server(immich.url) as server:
            user = await create_user(database, email="ada@example.org")
            yield Place(immich, server, database, user, await create_api_key(database, user, PERMISSIONS))
    finally:
        await database.close()


# --- what works ---


@pytest.mark.parametrize("suffix", ["", "/", "/api", "/api/"])
async def test_the_url_may_end_in_api_or_a_slash(place: Place, suffix: str) -> None:
    async with Server(place.immich.url + suffix) as server:
        await server.ping()


async def test_an_upload_arrives_whole_with_its_name_and_times(place: Place) -> None:
    data = bytes(range(256)) * 20_000
    uploaded = await place.upload(data, b"IMG_1.jpg")
    assert not uploaded.duplicate
    row = await place.database.fetchrow("select * from asset where id = $1", uploaded.asset_id)
    assert row is not None
    assert row["checksum"] == hashlib.sha1(data, usedforsecurity=False).digest()
    assert row["originalFileName"] == "IMG_1.jpg"
    assert row["fileModifiedAt"].isoformat() == "2023-11-14T22:13:20.123000+00:00"
    size = 'select "fileSizeInByte" from asset_exif where "assetId" = $1'
    assert await place.database.fetchval(size, uploaded.asset_id) == len(data)


async def test_the_same_bytes_again_are_a_duplicate(place: Place) -> None:
    first = await place.upload(b"a" * 100)
    assert await place.upload(b"a" * 100, b"b.jpg") == Uploaded(first.asset_id, duplicate=True)


NAMES = {
    b"IMG_1.JPG": "IMG_1.JPG",
    "Grüße aus Kōbe 🌸.jpg".encode(): "Grüße aus Kōbe 🌸.jpg",
    b"it's; a=b %41.jpg": "it's; a=b %41.jpg",
    b'say "cheese".jpg': "say %22cheese%22.jpg",
    b"two\r\nlines.jpg": "two%0D%0Alines.jpg",
    b"\x1b[31mred\x7f\t.jpg": "%1B[31mred%7F%09.jpg",
    b"\xff\xfe.jpg": "\N{REPLACEMENT CHARACTER}" * 2 + ".jpg",
    b" .jpg": " .jpg",
    b"e\xcc\x81.jpg": "e\N{COMBINING ACUTE ACCENT}.jpg",
    b"x" * 251 + b".jpg": "x" * 251 + ".jpg",
}


async def test_odd_names_arrive_as_a_browser_would_send_them(place: Place) -> None:
    for number, (name, stored) in enumerate(NAMES.items()):
        uploaded = await place.upload(b"%d" % number, name)
        row = 'select "originalFileName" from asset where id = $1'
        assert await place.database.fetchval(row, uploaded.asset_id) == stored


async def test_trash_and_restore(place: Place) -> None:
    assets = [(await place.upload(b"%d" % number)).asset_id for number in range(3)]
    await place.server.trash(place.key, assets[:2])
    assert [await place.status(asset) for asset in assets] == ["trashed", "trashed", "active"]
    await place.server.restore(place.key, assets[:1])
    assert [await place.status(asset) for asset in assets] == ["active", "trashed", "active"]


async def test_a_batch_has_1000_ids_at_most(place: Place) -> None:
    with pytest.raises(ValueError, match="1001 ids in one request"):
        await place.server.trash(place.key, [AssetId(uuid4()) for _ in range(1001)])
    assert place.immich.requests == []


# --- what is refused ---


async def test_a_batch_with_a_foreign_or_unknown_id_is_refused_whole(place: Place) -> None:
    mine = (await place.upload(b"mine")).asset_id
    bob = await create_user(place.database, email="bob@example.org")
    theirs = (await place.upload(b"theirs", key=await create_api_key(place.database, bob, PERMISSIONS))).asset_id
    for other in (theirs, AssetId(uuid4())):
        for request in (place.server.trash, place.server.restore):
            with pytest.raises(api.BatchRefused, match=r"asset\.delete access"):
                await request(place.key, [mine, other])
    assert [await place.status(asset) for asset in (mine, theirs)] == ["active", "active"]


async def test_a_wrong_key_is_rejected_even_while_a_large_body_is_sent(place: Place) -> None:
    for data in (b"small", b"x" * 20_000_000):
        with pytest.raises(api.KeyRejected, match="Invalid API key"):
            await place.upload(data, key="wr0ng")
    with pytest.raises(api.KeyRejected):
        await place.server.trash("wr0ng", [AssetId(uuid4())])
    assert await place.count() == 0


async def test_a_missing_permission_is_named(place: Place) -> None:
    asset = (await place.upload(b"a")).asset_id
    reading = await create_api_key(place.database, place.user, ["asset.read"])
    with pytest.raises(api.KeyRejected, match=r"Missing required permission: asset\.upload"):
        await place.upload(b"b", key=reading)
    with pytest.raises(api.KeyRejected, match=r"Missing required permission: asset\.delete"):
        await place.server.trash(reading, [asset])


async def test_a_used_up_quota_is_no_fault_of_the_file(place: Place) -> None:
    await place.database.execute('update "user" set "quotaSizeInBytes" = 10')
    with pytest.raises(api.QuotaExceeded):
        await place.upload(b"x" * 100)


async def test_an_unsupported_type_is_refused(place: Place) -> None:
    with pytest.raises(api.FileRefused, match=r"Unsupported file type a\.txt"):
        await place.upload(b"x", b"a.txt")


async def test_an_empty_file_is_refused_by_3_alone(place: Place, immich_version: ImmichVersion) -> None:
    if immich_version.startswith("2."):
        assert not (await place.upload(b"")).duplicate
    else:
        with pytest.raises(api.FileRefused, match="File is empty"):
            await place.upload(b"")


# --- what goes wrong on the way ---


@pytest.mark.parametrize("fault", ["fail_next", "reset_next", "cut_next"])
@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_a_failed_upload_is_unavailable_and_the_next_one_works(place: Place, fault: str, size: int) -> None:
    setattr(place.immich.faults, fault, 1)
    with pytest.raises(api.Unavailable) as caught:
        await place.upload(b"x" * size)
    assert caught.value.retry_after is None
    assert len(str(caught.value).splitlines()) == 1
    assert await place.count() == 0
    assert not (await place.upload(b"x" * size)).duplicate


async def test_a_lost_answer_is_unavailable_and_the_next_try_a_duplicate(place: Place) -> None:
    place.immich.faults.lose_answer_next = 1
    with pytest.raises(api.Unavailable):
        await place.upload(b"x")
    assert await place.count() == 1
    assert (await place.upload(b"x")).duplicate
    assert await place.count() == 1


@pytest.mark.parametrize("fault", ["fail_next", "reset_next"])
async def test_a_failed_batch_is_unavailable(place: Place, fault: str) -> None:
    asset = (await place.upload(b"x")).asset_id
    for request in (place.server.trash, place.server.restore):
        # On a connection that is used again aiohttp itself asks once more, where the method is idempotent as DELETE is.
        setattr(place.immich.faults, fault, 2)
        with pytest.raises(api.Unavailable):
            await request(place.key, [asset])
        setattr(place.immich.faults, fault, 0)
    assert await place.status(asset) == "active"


async def test_a_slow_server_is_waited_for(place: Place) -> None:
    place.immich.faults.delay_s = 0.3
    assert not (await place.upload(b"x" * 2_000_000)).duplicate


async def test_a_server_that_is_down_is_unavailable(place: Place) -> None:
    async with Server("http://127.0.0.1:1") as server:
        for request in (server.ping(), server.trash(place.key, [AssetId(uuid4())])):
            with pytest.raises(api.Unavailable, match="does not answer") as caught:
                await request
            assert place.key not in str(caught.value)


async def test_a_body_that_gives_up_stores_nothing(place: Place) -> None:
    class GaveUp(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise GaveUp

    with pytest.raises(GaveUp):
        await place.server.upload(place.key, _of(b"x" * 200_000), body())
    assert not (await place.upload(b"next")).duplicate
    assert await place.count() == 1


# --- servers that are none ---

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _answered(status: int, text: str, content_type: str = "text/html", **headers: str) -> Exception:
    """What our upload raises when the server answers it so."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, text=text, content_type=content_type, headers=headers)

    async with _serving(handler) as url, Server(url) as server:
        with pytest.raises(api.ApiError) as caught:
            await server.upload("s3cret", _of(b"data"), _body(b"data"))
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


PAGE = "<html><body>Please log in</body></html>"


@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 404, 500, 502, 503])
async def test_a_page_in_place_of_an_answer_is_no_verdict_on_key_or_file(status: int) -> None:
    assert type(await _answered(status, PAGE)) is api.Unavailable


@pytest.mark.parametrize("text", ["", "[]", "null", '"id"', "{}", '{"id": 7}', '{"id": "none"}', '{"id": null}'])
async def test_an_answer_that_names_no_asset_is_unavailable(text: str) -> None:
    assert type(await _answered(201, text, "application/json")) is api.Unavailable


async def test_a_proxy_that_takes_no_such_size_refuses_the_file() -> None:
    error = await _answered(413, PAGE)
    assert type(error) is api.FileRefused
    assert str(error) == "The server, or a proxy before it, takes no file of this size"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("86400", 300.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Thu, 31 Dec 2099 23:59:59 GMT", 300.0),
        ("soon", None),
        ("-1", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_told(status: int, header: str, seconds: float | None) -> None:
    error = await _answered(status, '{"message": "slow down"}', "application/json", **{"Retry-After": header})
    assert isinstance(error, api.Unavailable)
    assert error.retry_after == seconds
    assert "slow down" in str(error)


async def test_a_list_of_messages_is_one_line() -> None:
    error = await _answered(400, json.dumps({"message": ["a must be b", "c must be d"]}), "application/json")
    assert type(error) is api.FileRefused
    assert str(error) == "a must be b; c must be d"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_its_target_never_sees_the_key(status: int) -> None:
    asked: list[str] = []

    async def target(request: web.Request) -> web.Response:
        asked.append(request.headers.get("x-api-key", ""))
        return web.json_response({"res": "pong", "id": str(uuid4())}, status=201)

    async with _serving(target) as elsewhere:

        async def redirect(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(status=status, headers={"Location": f"{elsewhere}{request.path}"})

        async with _serving(redirect) as url, Server(url) as server:
            requests: Sequence[Awaitable[object]] = (
                server.ping(),
                server.upload("s3cret", _of(b"data"), _body(b"data")),
                server.trash("s3cret", [AssetId(uuid4())]),
                server.restore("s3cret", [AssetId(uuid4())]),
            )
            for request in requests:
                with pytest.raises(api.Unavailable, match="set that as server URL") as caught:
                    await request
                assert elsewhere in str(caught.value)
    assert asked == []


async def test_why_there_is_no_connection_is_said_in_plain_words() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        async with Server(f"http://127.0.0.1:{port}") as server:
            with pytest.raises(api.Unavailable) as refused:
                await server.ping()
    assert str(refused.value) == f"Immich's server does not answer: 127.0.0.1:{port}: Connection refused"


async def test_what_gives_the_server_no_work_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and never answers. An upload or a deletion may take long; a question may not."""
    assert api.PROMPT.total == 10
    short = aiohttp.ClientTimeout(total=0.2)
    monkeypatch.setattr(api, "PROMPT", short)
    monkeypatch.setattr(probe, "PROMPT", short)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with Server(url) as server, probe.Probe(url) as asked:
            for question in (server.ping(), asked.ping(), asked.version(), asked.whose("k"), asked.lacking("k")):
                with pytest.raises(api.Unavailable, match="does not answer: it took too long"):
                    await asyncio.wait_for(question, 5)


async def test_another_server_that_answers_a_ping_is_no_immich() -> None:
    async def handler(request: web.Request) -> web.Response:
        del request
        return web.json_response({"res": "ok"})

    async with _serving(handler) as url, Server(url) as server:
        with pytest.raises(api.Unavailable, match="no Immich server"):
            await server.ping()


async def test_the_length_of_the_body_is_announced_to_the_byte() -> None:
    seen: list[tuple[int | None, int]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.content_length, len(await request.read())))
        return web.json_response({"id": str(uuid4()), "status": "created"}, status=201)

    async with _serving(handler) as url, Server(url) as server:
        for data, name in ((b"", b"a"), (b"x" * 3_000_001, 'ü"\n'.encode()), (b"x", b"\xff" * 200)):
            await server.upload("key", _of(data, name), _body(data))
    assert len(seen) == 3
    assert all(announced == read for announced, read in seen)


async def test_no_request_of_ours_ever_forces() -> None:
    bodies: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(status=204)

    asset = AssetId(uuid4())
    async with _serving(handler) as url, Server(url) as server:
        await server.trash("key", [asset])
        await server.restore("key", [asset])

    async def both() -> bool:
        return len(bodies) == 2

    await until(both)
    assert [json.loads(body) for body in bodies] == [{"ids": [str(asset)]}] * 2


async def test_a_server_that_stops_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp waits for an answer only so long, but for room to send for ever."""
    monkeypatch.setattr(api, "_STALLED_S", 0.2)
    monkeypatch.setattr(api, "_SLOWEST", 1 << 30)
    over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()
        writer.close()

    listening = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    data = bytes(32 << 20)
    async with listening, Server(f"http://127.0.0.1:{port}") as server:
        try:
            with pytest.raises(api.Unavailable, match="takes no more of a file"):
                async with asyncio.timeout(20):
                    await server.upload("key", _of(data), _body(data))
        finally:
            over.set()
