"""What the contract suite talks to: the stand-in, or a real server with its database."""

import io
import json
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg

from immich_dbsync.demo.server import StandIn, create_api_key, create_user, delete_user
from tests.waiting import until

Row = asyncpg.Record
CREATED = "2024-05-06T07:08:09.123+02:00"
MODIFIED = "2024-05-07T00:00:00Z"


def picture(note: bytes | None = None) -> bytes:
    """A PNG of one pixel that decodes, with a comment that makes its bytes unlike any other's."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    comment = b"Comment\0" + (secrets.token_hex(16).encode() if note is None else note)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
            chunk(b"tEXt", comment),
            chunk(b"IDAT", zlib.compress(b"\0\x10\x20\x30")),
            chunk(b"IEND", b""),
        )
    )


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, and its body as text."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Part:
    """One part of a multipart body; with a file name it is a file. Names go out as they are, in UTF-8."""

    name: str
    data: bytes
    filename: str | None = None

    def encode(self, boundary: str) -> bytes:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{self.name}"'
        if self.filename is not None:
            head += f'; filename="{self.filename}"\r\nContent-Type: application/octet-stream'
        return head.encode() + b"\r\n\r\n" + self.data + b"\r\n"


def upload_parts(
    data: bytes,
    name: str = "a.png",
    *,
    without: Sequence[str] = (),
    sidecar: bytes | None = None,
    fields: dict[str, str] | None = None,
) -> list[Part]:
    """The parts of an upload that both versions take, but those named in ``without``."""
    known = {"fileCreatedAt": CREATED, "fileModifiedAt": MODIFIED, "deviceAssetId": "one", "deviceId": "contract"}
    parts = [Part(key, value.encode()) for key, value in (known | (fields or {})).items()]
    parts.append(Part("assetData", data, name))
    if sidecar is not None:
        parts.append(Part("sidecarData", sidecar, f"{name}.xmp"))
    return [part for part in parts if part.name not in without]


@dataclass
class Target:
    """One server. Every test makes people of its own in it, and nothing of anybody else's is touched."""

    url: str
    version: str
    database: "asyncpg.Connection[Row]"
    session: aiohttp.ClientSession
    stand_in: StandIn | None = None
    admin_key: str = ""
    people: list["Person"] = field(default_factory=list)

    @property
    def is_2(self) -> bool:
        return self.version.startswith("2.")

    async def person(self, *, quota: int | None = None, permissions: Sequence[str] = ("all",)) -> "Person":
        """A new user with an API key."""
        user_id = await create_user(
            self.database, email=f"contract-{uuid4()}@example.org", name="contract", quota=quota
        )
        person = Person(self, user_id, "")
        self.people.append(person)
        person.key = await create_api_key(self.database, user_id, permissions, "contract")
        return person

    async def delete_user(self, person: "Person") -> None:
        """Delete a user at once; the stand-in does by SQL what an administrator's request starts on a server."""
        if self.stand_in is not None:
            await delete_user(self.database, person.id)
        else:
            answer = await self.request("DELETE", f"/admin/users/{person.id}", key=self.admin_key, json={"force": True})
            assert answer.status == 200, answer

    async def clean_up(self) -> None:
        """Take everybody off a real server again; a stand-in's database is dropped as a whole."""
        for person in self.people if self.stand_in is None else ():
            if await self.database.fetchval('select 1 from "user" where id = $1', person.id):
                await self.delete_user(person)
                await until(lambda person=person: person.is_gone(), seconds=30)  # type: ignore[misc]

    def slow_jobs(self, seconds: float = 0.3) -> None:
        """Hold the stand-in's deletion jobs back, so that there is time to act while one is queued."""
        if self.stand_in is not None:
            self.stand_in.job_delay_s = seconds

    async def request(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Answer:
        headers = options.pop("headers", {}) | ({} if key is None else {"x-api-key": key})
        async with self.session.request(method, f"{self.url}/api{path}", headers=headers, **options) as response:
            return Answer(response.status, await response.text())

    async def row(self, asset_id: UUID) -> Row | None:
        return await self.database.fetchrow("select * from asset where id = $1", asset_id)

    async def existing(self, asset_id: UUID) -> Row:
        row = await self.row(asset_id)
        assert row is not None
        return row

    async def gone(self, *ids: UUID) -> None:
        """Wait until none of these rows is there."""

        async def none_left() -> bool:
            return not await self.database.fetchval("select count(*) from asset where id = any($1::uuid[])", ids)

        await until(none_left)

    def assert_refused(self, answer: Answer, status: int, message: str | None = None) -> None:
        """The answer has this status and message, in a body of the shape that this version has."""
        assert answer.status == status, answer
        body = answer.json
        if self.is_2:
            assert body.keys() == {"message", "error", "statusCode", "correlationId"}
            assert body["statusCode"] == status
        else:
            assert {"message"} <= body.keys() <= {"message", "errors"}
        if message is not None:
            assert body["message"] == message
            assert "errors" not in body

    def assert_invalid(self, answer: Answer, *fields: str) -> None:
        """The answer says of these fields that they do not validate."""
        self.assert_refused(answer, 400)
        if self.is_2:
            said = [problem.split()[0] for problem in answer.json["message"]]
        else:
            said = [error["path"][0] for error in answer.json["errors"]]
        assert set(said) == set(fields)


@dataclass
class Person:
    """A user of the target, and what they can ask for."""

    target: Target
    id: UUID
    key: str

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        return await self.target.request(method, path, key=self.key, **options)

    async def send(self, parts: Sequence[Part], headers: dict[str, str] | None = None) -> Answer:
        boundary = secrets.token_hex(16)
        body = b"".join(part.encode(boundary) for part in parts) + f"--{boundary}--\r\n".encode()
        sent = {"content-type": f"multipart/form-data; boundary={boundary}"} | (headers or {})
        return await self.request("POST", "/assets", data=io.BytesIO(body), headers=sent)

    async def upload(self, data: bytes, name: str = "a.png", **fields: str) -> Answer:
        return await self.send(upload_parts(data, name, fields=fields))

    async def asset(self, data: bytes | None = None, name: str = "a.png", **fields: str) -> UUID:
        """The id of a new asset."""
        answer = await self.upload(picture() if data is None else data, name, **fields)
        assert answer.status == 201, answer
        assert answer.json.keys() == {"id", "status"}
        assert answer.json["status"] == "created"
        return UUID(answer.json["id"])

    async def delete(self, *ids: UUID, **options: bool) -> Answer:
        return await self.request("DELETE", "/assets", json={"ids": [str(asset) for asset in ids]} | options)

    async def trashed(self, data: bytes | None = None) -> UUID:
        """The id of a new asset in the trash."""
        asset = await self.asset(data)
        assert (await self.delete(asset)).status == 204
        return asset

    async def at_deleted(self, data: bytes | None = None) -> UUID:
        """The id of a new asset at ``deleted`` that no job has been queued for."""
        asset = await self.trashed(data)
        await self.target.database.execute("update asset set status = 'deleted' where id = $1", asset)
        return asset

    async def destroyed(self, data: bytes | None = None) -> UUID:
        """The id of an asset whose row is gone."""
        asset = await self.asset(data)
        assert (await self.delete(asset, force=True)).status == 204
        await self.target.gone(asset)
        return asset

    async def restore(self, *ids: UUID) -> Answer:
        return await self.request("POST", "/trash/restore/assets", json={"ids": [str(asset) for asset in ids]})

    async def copy(self, source: UUID, to: UUID, **options: bool) -> Answer:
        return await self.request("PUT", "/assets/copy", json={"sourceId": str(source), "targetId": str(to)} | options)

    async def count(self) -> int:
        """How many assets they have, of whatever status."""
        found: int = await self.target.database.fetchval('select count(*) from asset where "ownerId" = $1', self.id)
        return found

    async def usage(self) -> int:
        used: int = await self.target.database.fetchval('select "quotaUsageInBytes" from "user" where id = $1', self.id)
        return used

    async def is_gone(self) -> bool:
        return not await self.target.database.fetchval('select 1 from "user" where id = $1', self.id)

    async def assets_by_sql(self, count: int) -> list[UUID]:
        """Many active assets at once, without an upload."""
        device, values = ('"deviceAssetId", "deviceId",', "'sql', 'sql',") if self.target.is_2 else ("", "")
        rows = await self.target.database.fetch(
            f"""insert into asset ("ownerId", checksum, "checksumAlgorithm", "fileCreatedAt", "fileModifiedAt",
                  "localDateTime", "originalFileName", "originalPath", {device} type)
                select $1, uuid_send(gen_random_uuid()), 'sha1', now(), now(), now(), 'a.png',
                  '/nowhere/' || gen_random_uuid() || '.png', {values} 'IMAGE'
                from generate_series(1, $2) returning id""",
            self.id,
            count,
        )
        return [row["id"] for row in rows]
