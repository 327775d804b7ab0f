"""What every request of the stand-in works with, and whose request it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
from aiohttp import web

from immich_dbsync import sql
from immich_dbsync.demo.api_errors import ApiError, Issue, invalid, no_access
from immich_dbsync.demo.jobs import Jobs
from immich_dbsync.demo.tables import ImmichVersion


@dataclass(frozen=True, slots=True)
class Caller:
    """The user whose API key a request carries; ``quota`` and ``usage`` in bytes, as they were when it came in."""

    id: UUID
    email: str
    name: str
    status: str
    is_admin: bool
    quota: int | None
    usage: int


@dataclass(frozen=True, slots=True)
class Backend:
    """The database, the jobs, and the folder that takes the uploads' bytes, if any."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    version: ImmichVersion
    jobs: Jobs
    media: Path | None

    async def caller(self, request: web.Request, permission: str, *, admin: bool = False) -> Caller:
        """Who sent the request; raises ApiError 401 where the key is unknown, then 403 where it lacks the right."""
        secret = request.headers.get("x-api-key") or request.query.get("apiKey")
        if not secret:
            raise ApiError(401, "Authentication required")
        row = await self.pool.fetchrow(sql.block("demo/server", "caller"), hashlib.sha256(secret.encode()).digest())
        if row is None:
            raise ApiError(401, "Invalid API key")
        if admin and not row["isAdmin"]:
            raise ApiError(403, "Forbidden")
        if not {"all", permission} & set(row["permissions"]):
            raise ApiError(403, f"Missing required permission: {permission}")
        return Caller(
            id=row["id"],
            email=row["email"],
            name=row["name"],
            status=row["status"],
            is_admin=row["isAdmin"],
            quota=row["quota"],
            usage=row["usage"],
        )

    async def require_access(self, caller: Caller, permission: str, ids: Sequence[UUID]) -> None:
        """Raise ApiError 400 unless every id is an asset of the caller's: one foreign or unknown id refuses all."""
        if ids:
            rows = await self.pool.fetch(sql.block("demo/server", "owned"), list(ids), caller.id)
            if {row["id"] for row in rows} != set(ids):
                raise no_access(permission)


def parse_uuid(value: object, field: str) -> UUID:
    """The version 4 UUID that a request gives in ``field``; raises ApiError 400 where it gives none."""
    try:
        parsed = UUID(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.version != 4:
        raise invalid(Issue(field, "must be a UUID"))
    return parsed


async def json_object(request: web.Request) -> dict[str, object]:
    """The request's body as a JSON object; raises ApiError 400 where it is none."""
    try:
        body = await request.json()
    except ValueError as error:
        raise ApiError(400, str(error)) from error
    if not isinstance(body, dict):
        raise invalid(Issue("", "must be an object"))
    return body


async def body_ids(request: web.Request) -> tuple[list[UUID], dict[str, object]]:
    """The ``ids`` of a JSON body, and the body; raises ApiError 400 where they are no list of UUIDs."""
    body = await json_object(request)
    ids = body.get("ids")
    if not isinstance(ids, list):
        raise invalid(Issue("ids", "must be an array"))
    return [parse_uuid(value, "ids") for value in ids], body
