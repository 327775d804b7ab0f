import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import pytest

from immich_dbsync.demo.server import Faults, StandIn
from immich_dbsync.demo.tables import ImmichVersion
from tests.contract.target import Person, Target, picture, upload_parts
from tests.waiting import until


@pytest.fixture
async def target(library_url: str, immich_version: ImmichVersion, tmp_path: Path) -> AsyncIterator[Target]:
    database = await asyncpg.connect(library_url)
    try:
        async with (
            aiohttp.ClientSession() as session,
            StandIn(library_url, version=immich_version, media=tmp_path / "media") as stand_in,
        ):
            yield Target(stand_in.url, immich_version, database, session, stand_in=stand_in)
    finally:
        await database.close()


@pytest.fixture
async def person(target: Target) -> Person:
    return await target.person()


def stand_in_of(target: Target) -> StandIn:
    assert target.stand_in is not None
    return target.stand_in


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def content(path: Path) -> bytes:
    return path.read_bytes()


async def test_requests_are_noted_but_pings_are_not(target: Target, person: Person) -> None:
    stand_in = stand_in_of(target)
    await target.request("GET", "/server/ping")
    asset = await person.asset()
    await person.delete(asset)
    stand_in.faults.fail_next = 1
    await person.restore(asset)
    await target.request("GET", "/users/me", key="nonsense")
    assert stand_in.requests == [
        ("POST", "/api/assets"),
        ("DELETE", "/api/assets"),
        ("POST", "/api/trash/restore/assets"),
        ("GET", "/api/users/me"),
    ]


async def test_slow_answers_late(target: Target, person: Person) -> None:
    stand_in_of(target).faults.delay_s = 0.1
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await person.request("GET", "/users/me")).status == 200
    assert loop.time() - began >= 0.1


async def test_fail_answers_500_as_often_as_told_and_does_nothing(target: Target, person: Person) -> None:
    asset = await person.asset()
    stand_in_of(target).faults.fail_next = 2
    for _ in range(2):
        target.assert_refused(await person.delete(asset), 500, "Internal server error")
    assert (await target.existing(asset))["status"] == "active"
    assert (await person.delete(asset)).status == 204


async def test_reset_gives_no_answer_and_does_nothing(target: Target, person: Person) -> None:
    asset = await person.trashed()
    stand_in_of(target).faults.reset_next = 1
    with pytest.raises(aiohttp.ClientError):
        await person.restore(asset)
    assert (await target.existing(asset))["status"] == "trashed"
    assert (await person.restore(asset)).status == 200


async def test_a_delete_whose_connection_was_in_use_before_is_sent_again_by_aiohttp(person: Person) -> None:
    """What a client sees of a reset depends on its method: aiohttp repeats idempotent ones by itself, once."""
    stand_in = stand_in_of(person.target)
    asset = await person.asset()
    stand_in.faults.reset_next = 1
    assert (await person.delete(asset)).status == 204
    assert stand_in.requests[-2:] == [("DELETE", "/api/assets")] * 2


async def test_reset_is_a_reset_and_no_orderly_end(target: Target) -> None:
    stand_in = stand_in_of(target)
    stand_in.faults.reset_next = 1
    reader, writer = await asyncio.open_connection("127.0.0.1", int(target.url.rpartition(":")[2]))
    writer.write(b"GET /api/users/me HTTP/1.1\r\nHost: here\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("size", [100, 8 * 1024 * 1024])
async def test_cut_ends_an_upload_in_the_middle_and_stores_nothing(
    target: Target, person: Person, tmp_path: Path, size: int
) -> None:
    stand_in_of(target).faults.cut_next = 1
    data = os.urandom(size)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await person.upload(data, "a.jpg")
    assert await person.count() == 0
    assert files(tmp_path) == []
    await person.asset(data, "a.jpg")
    assert await person.count() == 1


async def test_lose_answer_stores_the_upload_and_says_nothing(target: Target, person: Person) -> None:
    stand_in_of(target).faults.lose_answer_next = 1
    data = picture()
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await person.upload(data)
    assert await person.count() == 1
    assert (await person.upload(data)).json["status"] == "duplicate"


async def test_faults_of_uploads_leave_other_requests_alone(target: Target, person: Person) -> None:
    faults = stand_in_of(target).faults
    faults.cut_next = faults.lose_answer_next = 1
    assert (await person.request("GET", "/users/me")).status == 200
    assert (faults.cut_next, faults.lose_answer_next) == (1, 1)


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(
    target: Target, person: Person, tmp_path: Path
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(target.url.rpartition(":")[2]))
    del reader
    body = b"".join(part.encode("b") for part in upload_parts(os.urandom(1024 * 1024), "a.jpg"))
    head = (
        f"POST /api/assets HTTP/1.1\r\nHost: here\r\nx-api-key: {person.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {2 * len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:-1000])
    await writer.drain()

    async def begun() -> bool:
        return bool(files(tmp_path))

    async def cleaned() -> bool:
        return not files(tmp_path)

    await until(begun)
    writer.close()
    await until(cleaned)
    assert await person.count() == 0


async def test_media_holds_the_bytes_while_there_is_a_row(target: Target, person: Person, tmp_path: Path) -> None:
    data, sidecar = os.urandom(700_000), b"<x/>"
    answer = await person.send(upload_parts(data, "a.jpg", sidecar=sidecar))
    asset = UUID(answer.json["id"])
    path = Path((await target.existing(asset))["originalPath"])
    assert path.is_relative_to(tmp_path)
    assert content(path) == data
    assert sorted(found.stat().st_size for found in files(tmp_path)) == [len(sidecar), len(data)]

    to = await person.asset()
    assert (await person.copy(asset, to)).status == 204
    copied = Path(f"{(await target.existing(to))['originalPath']}.xmp")
    assert content(copied) == sidecar

    assert (await person.upload(data, "again.jpg")).status == 200
    target.assert_refused(await person.upload(b"x", "a.txt"), 400)
    target.assert_refused(await person.send(upload_parts(b"x", "b.jpg", without=["fileCreatedAt"])), 400)
    assert len(files(tmp_path)) == 4

    await person.delete(asset, to, force=True)
    await stand_in_of(target).idle()
    assert files(tmp_path) == []


async def test_idle_returns_when_no_deletion_is_left(target: Target, person: Person) -> None:
    stand_in = stand_in_of(target)
    await stand_in.idle()
    still_video = await person.asset(os.urandom(64), "a.mov")
    still = await person.asset(livePhotoVideoId=str(still_video))
    await person.delete(still, force=True)
    await stand_in.idle()
    assert await person.count() == 0


async def test_ending_with_a_job_queued_leaves_the_row(library_url: str, immich_version: ImmichVersion) -> None:
    database = await asyncpg.connect(library_url)
    async with (
        aiohttp.ClientSession() as session,
        StandIn(library_url, version=immich_version, job_delay_s=60) as stand_in,
    ):
        target = Target(stand_in.url, immich_version, database, session, stand_in=stand_in)
        person = await target.person()
        asset = await person.asset()
        await person.delete(asset, force=True)
    assert (await target.existing(asset))["status"] == "deleted"
    await database.close()


async def test_faults_can_be_set_over_http(target: Target, person: Person) -> None:
    url = f"{target.url}/_faults"
    async with target.session.post(url, json={"fail_next": 1, "delay_s": 0.01}) as response:
        assert response.status == 200
    assert stand_in_of(target).faults == Faults(delay_s=0.01, fail_next=1)
    assert (await person.request("GET", "/users/me")).status == 500
    async with target.session.get(url) as response:
        assert await response.json() == {
            "delay_s": 0.01,
            "fail_next": 0,
            "reset_next": 0,
            "cut_next": 0,
            "lose_answer_next": 0,
        }


@pytest.mark.parametrize("switches", [[], {"nonsense": 1}, {"fail_next": -1}, {"fail_next": "1"}, {"fail_next": True}])
async def test_faults_that_are_none_are_refused(target: Target, switches: object) -> None:
    async with target.session.post(f"{target.url}/_faults", json=switches) as response:
        assert response.status == 400
    assert stand_in_of(target).faults == Faults()


async def test_it_runs_as_a_program_and_ends_on_sigterm(library_url: str, immich_version: ImmichVersion) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "immich_dbsync.demo.server", "--database-url", library_url, "--version", immich_version),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert line.startswith("listening on http://127.0.0.1:")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{line.split()[-1]}/api/server/version") as response,
    ):
        told = await response.json()
    assert ".".join(map(str, told.values())) == immich_version
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert (process.returncode, errors) == (0, b"")


async def test_what_it_stores_is_what_was_sent(target: Target, person: Person) -> None:
    data = os.urandom(5 * 1024 * 1024)
    row = await target.existing(await person.asset(data, "a.jpg"))
    assert row["checksum"] == hashlib.sha1(data, usedforsecurity=False).digest()
    assert content(Path(row["originalPath"])) == data


@pytest.mark.parametrize(
    ("header", "stored"),
    [
        ('filename="a\\"b.jpg"', 'a"b.jpg'),
        ('filename="folder/a.jpg"', "a.jpg"),
        ('filename="folder\\\\a.jpg"', "a.jpg"),
        ("filename=plain.jpg", "plain.jpg"),
        ("filename*=UTF-8''plain%20name.jpg", "plain name.jpg"),
        ("filename*=UTF-8''gr%C3%BCn.jpg", "gr\N{REPLACEMENT CHARACTER}n.jpg"),
    ],
)
async def test_file_names_are_read_as_immichs_parser_reads_them(
    target: Target, person: Person, header: str, stored: str
) -> None:
    parts = [part.encode("b") for part in upload_parts(b"", without=["assetData"])]
    parts.append(f'--b\r\nContent-Disposition: form-data; name="assetData"; {header}\r\n\r\n'.encode() + b"x\r\n")
    answer = await person.request(
        "POST",
        "/assets",
        data=b"".join(parts) + b"--b--\r\n",
        headers={"content-type": "multipart/form-data; boundary=b"},
    )
    assert answer.status == 201
    assert (await target.existing(UUID(answer.json["id"])))["originalFileName"] == stored


async def test_an_administrator_deletes_a_user_over_http_as_on_a_server(target: Target, person: Person) -> None:
    admin = await target.person()
    path = f"/admin/users/{person.id}"
    target.assert_refused(await admin.request("DELETE", path, json={"force": True}), 403, "Forbidden")
    await target.database.execute('update "user" set "isAdmin" = true where id = $1', admin.id)
    await person.asset()
    assert (await admin.request("DELETE", path, json={"force": True})).status == 200
    await stand_in_of(target).idle()
    assert await person.is_gone()
    assert await person.count() == 0
    target.assert_refused(await admin.request("DELETE", path, json={"force": True}), 400, "User not found")
