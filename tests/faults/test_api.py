"""Immich's server, or what stands before it, fails in every way that servers do, with work in flight on both sides."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from immich_dbsync.demo.people import create_api_key
from immich_dbsync.demo.stage import PERMISSIONS
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import command
from tests.faults.front import Front, answers, dribbles, loses_the_answer, resets_in_the_middle
from tests.faults.parts import parts
from tests.faults.report import Report
from tests.faults.rig import Rig, picture, rigged, sha1
from tests.faults.traffic import Traffic
from tests.waiting import until

pytestmark = [pytest.mark.newest, pytest.mark.timeout(300)]

_TIMES = 3
_WAIT_S = 2
_ON_THEIR_WAY_S = 0.5  # requests that were sent before the answer was read
_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
_UPLOAD, _TRASH, _RESTORE = ("POST", "/api/assets"), ("DELETE", "/api/assets"), ("POST", "/api/trash/restore/assets")
_COPY = ("PUT", "/api/assets/copy")
_CHANGES = (_UPLOAD, _TRASH, _COPY)  # what the folder's side of the traffic asks for


@dataclass
class World:
    """The rig, what stands before its server, and what is done."""

    rig: Rig
    front: Front
    traffic: Traffic


Fault = Callable[[World], Awaitable[None]]


@asynccontextmanager
async def world_of(url: str, version: ImmichVersion, **settings: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(rigged(url, version, **settings))
        front = await stack.enter_async_context(Front(rig.stage.immich.url))
        rig.settings["IMMICH_DBSYNC_SERVER_URL"] = front.url
        rig.start()
        yield World(rig, front, Traffic(rig))


def spoilt(world: World, answer: Callable[[Front], Callable[[web.Request], Awaitable[web.StreamResponse]]]) -> None:
    """The next request of each kind is answered so, twice."""
    for method, path in _CHANGES:
        world.front.spoil(method, path, answer(world.front), times=2)


async def until_spoilt(world: World) -> None:
    async def none_left() -> bool:
        return world.front.left == 0

    await until(none_left, seconds=40)


async def down(world: World) -> None:
    """Nothing answers until the service has said so, and longer."""
    before = len(world.rig.logged("server.unavailable"))
    world.front.refusing = True
    await world.traffic.deeds()

    async def said() -> bool:
        return len(world.rig.logged("server.unavailable")) > before

    await until(said)
    world.front.refusing = False


async def slow(world: World) -> None:
    spoilt(world, lambda front: dribbles(front, 0.05))
    await world.traffic.deeds()
    await until_spoilt(world)


def plainly(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Fault:
    async def fault(world: World) -> None:
        spoilt(world, lambda _: answer)
        await world.traffic.deeds()
        await until_spoilt(world)

    return fault


async def reset_in_the_middle(world: World) -> None:
    """Of requests of all kinds; one upload is large enough to have a middle."""
    content = picture("large") + bytes(4 << 20)
    name = f"large-{sha1(content).hex()}.jpg"
    world.rig.put(name, content)
    world.rig.want({name: content})
    world.traffic.contents.append(content)
    await plainly(resets_in_the_middle)(world)


async def lost(world: World) -> None:
    spoilt(world, loses_the_answer)
    await world.traffic.deeds()
    await until_spoilt(world)


async def too_many(world: World) -> None:
    """429 with a time: no request comes before it is over, but for those that were on their way."""
    front = world.front
    asked: dict[tuple[str, str], float] = {}

    async def wait(request: web.Request) -> web.StreamResponse:
        await request.read()
        asked[request.method, request.path] = asyncio.get_running_loop().time()
        return web.json_response({"message": "ThrottlerException"}, status=429, headers={"Retry-After": f"{_WAIT_S}"})

    front.spoil(*_TRASH, wait)
    already = len(front.seen)
    await world.traffic.deeds()
    await until_spoilt(world)
    told = asked[_TRASH]

    async def again() -> bool:
        return any((method, path) == _TRASH and when > told + _ON_THEIR_WAY_S for when, method, path in seen())

    def seen() -> list[tuple[float, str, str]]:
        return [request for request in front.seen[already:] if request[1] != "GET"]

    await until(again)
    assert min(when for when, _, _ in seen() if when > told + _ON_THEIR_WAY_S) - told >= _WAIT_S


FAULTS: dict[str, Fault] = {
    "down for long": down,
    "answers in dribs": slow,
    "500": plainly(answers(500, json.dumps({"message": "Internal server error"}))),
    "503 without a body": plainly(answers(503)),
    "429 with Retry-After": too_many,
    "reset in the middle of a request": reset_in_the_middle,
    "answer lost after it was done": lost,
    "a proxy's page, 502": plainly(answers(502, _PAGE, content_type="text/html")),
    "a login page, 200": plainly(answers(200, _PAGE, content_type="text/html")),
    "redirect": plainly(answers(308, Location="http://127.0.0.1:9/api/assets")),
    "an answer that is no object": plainly(answers(200, "[]")),
}


@pytest.mark.parametrize(
    "name", parts(FAULTS, always=["down for long", "429 with Retry-After", "answer lost after it was done"])
)
async def test_faults_of_the_server(library_url: str, immich_version: ImmichVersion, name: str, report: Report) -> None:
    async with world_of(library_url, immich_version) as world:
        rig, traffic = world.rig, world.traffic
        await traffic.stock(_TIMES * 3)
        in_flight = 0
        for _ in range(_TIMES):
            in_flight = await traffic.deeds()
            await FAULTS[name](world)
            report.injected(f"server: {name}")
            in_flight += await traffic.deeds()
            await rig.agrees(seconds=60)
            assert rig.running()
        await rig.resync()
        await rig.nothing_is_lost(traffic.contents)
        assert "Traceback" not in rig.log()
        report.survived(f"server: {name}", in_flight=f"{in_flight + 6} deeds")


# --- what somebody has to mend ---


async def test_a_proxy_takes_no_such_size(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """413: the file is left alone until it changes or somebody asks; everything else goes on."""
    async with world_of(library_url, immich_version) as world:
        rig, front = world.rig, world.front
        await world.traffic.stock(3)
        large, other = picture("large"), picture("other")
        front.spoil(*_UPLOAD, answers(413, _PAGE, content_type="text/html"), times=2)
        for name, content in {"large.jpg": large, "other.jpg": other}.items():
            rig.put(name, content)
            report.injected("server: 413")

        async def refused() -> bool:
            return len(rig.logged("upload.refused")) == 2

        await until(refused)
        await world.traffic.deeds(2)
        status = json.loads((await command("status", "--json", env=rig.environment())).out)
        assert status["owners"][0]["refused"] == 2
        rig.put("other.jpg", changed := picture("changed"))
        await until_in_library(rig, changed)
        await command("resync", env=rig.environment())  # the administrator has raised the proxy's limit
        rig.want({"large.jpg": large, "other.jpg": changed})
        await rig.agrees()
        report.survived("server: 413", in_flight="12 deeds")


async def test_the_quota_is_used_up(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """Uploads wait, deletions go on both ways; once there is room a resync has it all uploaded at once."""
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        await world.traffic.stock(3)
        await rig.stage.connection.execute('update "user" set "quotaSizeInBytes" = 1 where id = $1', rig.stage.user)
        gone, trashed = sorted(rig.wanted.files)[:2]
        waiting = picture("waiting")
        rig.put("waiting.jpg", waiting)
        await until_paused(rig, "Immich takes no more uploads")
        report.injected("server: quota used up")
        (rig.folder / gone).unlink()
        contents = [rig.wanted.files.pop(name) for name in (gone, trashed)]
        await rig.trash(contents[1])
        rig.want(trashed=contents)

        async def followed() -> bool:
            files, library = rig.files(), await rig.library()
            return trashed not in files and library[sha1(contents[0])] == "trashed"

        await until(followed)
        assert sha1(waiting) not in await rig.library()
        await rig.stage.connection.execute('update "user" set "quotaSizeInBytes" = null where id = $1', rig.stage.user)
        await command("resync", env=rig.environment())
        rig.want({"waiting.jpg": waiting})
        await rig.agrees()
        report.survived("server: quota used up", in_flight="3 deeds")


async def test_the_key_is_revoked(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """Nothing is removed while the key is unknown, and it is said; with the key back all is made up for."""
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        connection, user = rig.stage.connection, rig.stage.user
        await world.traffic.stock(3)
        rig.web_key = await create_api_key(connection, user, PERMISSIONS, "the user's own")
        await connection.execute("create table revoked as select * from api_key where name = 'immich-dbsync'")
        await connection.execute("delete from api_key where name = 'immich-dbsync'")
        await world.traffic.deeds()
        await until_paused(rig, "Immich refuses the API key")
        report.injected("server: key revoked")
        await world.traffic.deeds()
        await rig.nothing_is_lost(world.traffic.contents)
        await connection.execute("insert into api_key select * from revoked")
        await connection.execute("drop table revoked")
        await command("resync", env=rig.environment())
        await rig.agrees()
        assert rig.stage.key not in rig.log()
        report.survived("server: key revoked", in_flight="12 deeds")


async def test_one_id_of_a_batch_is_refused(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """The others are done all the same, and the one as soon as it may be."""
    async with world_of(library_url, immich_version) as world:
        rig, front = world.rig, world.front
        files = {f"{number:02}.jpg": picture("batch") for number in range(12)}
        await world.traffic.stock(1)
        for name, content in files.items():
            rig.put(name, content)
        rig.want(files)
        await rig.agrees()
        poison = str(await rig.asset(files["05.jpg"]))

        async def refuses(request: web.Request) -> web.StreamResponse:
            if poison in (await request.json())["ids"]:
                return web.json_response({"message": "Not found or no asset.delete access"}, status=400)
            return await front.pass_on(request)

        front.spoil(*_TRASH, refuses, times=20)
        for name, content in files.items():
            (rig.folder / name).unlink()
            del rig.wanted.files[name]
            rig.want(trashed=[content])

        async def others() -> bool:
            library = await rig.library()
            return [name for name, content in files.items() if library[sha1(content)] == "active"] == ["05.jpg"]

        await until(others)
        report.injected("server: one id of a batch refused")
        front.calm()
        await rig.agrees()
        report.survived("server: one id of a batch refused", in_flight="12 deeds")


_CERTIFICATE = Path(__file__).with_name("self-signed.pem")  # for 127.0.0.1, until 2126, and for nothing but this


@pytest.mark.parametrize("name", parts(["certificate of nobody known", "no TLS at all"], always=["no TLS at all"]))
async def test_tls_errors(library_url: str, immich_version: ImmichVersion, name: str, report: Report) -> None:
    async with rigged(library_url, immich_version) as rig, AsyncExitStack() as stack:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_CERTIFICATE)
        front = await stack.enter_async_context(Front(rig.stage.immich.url, context=context))
        good = front.url
        bad = good if name.startswith("certificate") else rig.stage.immich.url.replace("http:", "https:")
        rig.put("a.jpg", content := picture("tls"))
        rig.settings["IMMICH_DBSYNC_SERVER_URL"] = bad
        rig.start(before=["env"])  # a process that reads the certificates anew

        async def told() -> bool:
            return any("SSL" in line["reason"] for line in rig.logged("server.unavailable"))

        await until(told)
        report.injected(f"server: {name}")
        assert rig.running()
        assert await rig.stop() == 0
        assert front.seen == []
        rig.settings |= {"IMMICH_DBSYNC_SERVER_URL": good, "SSL_CERT_FILE": str(_CERTIFICATE)}
        rig.want({"a.jpg": content})
        rig.start(before=["env"])
        await rig.agrees()
        report.survived(f"server: {name}", in_flight="1 deed")


async def until_paused(rig: Rig, reason: str) -> None:
    async def paused() -> bool:
        return any(line["reason"].startswith(reason) for line in rig.logged("owner.paused"))

    await until(paused)


async def until_in_library(rig: Rig, content: bytes) -> None:
    async def there() -> bool:
        return (await rig.library()).get(sha1(content)) == "active"

    await until(there)
