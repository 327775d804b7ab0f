"""``POST /api/assets``: the checks in Immich's order, then the rows in Immich's statements."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from aiohttp import web

from immich_dbsync import sql
from immich_dbsync.demo.api_errors import ApiError, Issue, invalid
from immich_dbsync.demo.backend import Backend, Caller, parse_uuid
from immich_dbsync.demo.form import Form, receive
from immich_dbsync.immich.media_types import VIDEO, extension

_UNIQUE = ("UQ_assets_owner_checksum", "asset_ownerId_libraryId_checksum_idx")
_ISO_WITH_ZONE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")
_VISIBILITIES = ("archive", "timeline", "hidden", "locked")


@dataclass(frozen=True, slots=True)
class _Details:
    """The fields of an upload after validation."""

    created: datetime
    modified: datetime
    favourite: bool
    visibility: str
    video: UUID | None
    device: tuple[str, str] | None


async def upload(request: web.Request, backend: Backend) -> web.Response:
    """Take one file: 201 with its new id, or 200 with the id of the asset that has these bytes already.

    A checksum in the header that is known is answered before anything of the body is read.
    """
    caller = await backend.caller(request, "asset.upload")
    known = _checksum(request.headers.get("x-immich-checksum", ""))
    if known:
        duplicate = await _find(backend, caller, known)
        if duplicate is not None:
            return _duplicate(duplicate)
    form = await receive(request, backend, caller.id)
    try:
        return await _take(backend, caller, form)
    except BaseException:
        form.remove_files(backend)
        raise


async def _take(backend: Backend, caller: Caller, form: Form) -> web.Response:
    if "assetData" not in form.files:
        raise ApiError(400, "Field(s) assetData should not be empty")
    details = validate(form.fields, backend.version)
    size = form.files["assetData"].size
    # The quota goes before the duplicate: bytes that are there already are refused too.
    if caller.quota is not None and caller.quota < caller.usage + size:
        raise ApiError(400, "Quota has been exceeded!")
    if details.video is not None:
        await _link(backend, caller, details.video)
    try:
        asset_id = await _insert(backend, caller, form, details)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name not in _UNIQUE:
            raise
        duplicate = await _find(backend, caller, form.files["assetData"].sha1)
        if duplicate is None:
            raise ApiError(500, "Internal server error") from error
        form.remove_files(backend)
        return _duplicate(duplicate)
    await _add_what_belongs(backend, caller, form, asset_id)
    backend.jobs.metadata(asset_id)
    return web.json_response({"id": str(asset_id), "status": "created"}, status=201)


async def _insert(backend: Backend, caller: Caller, form: Form, details: _Details) -> UUID:
    file = form.files["assetData"]
    # Immich goes by the stored path, whose extension is the file's own.
    kind = "VIDEO" if extension(file.path.encode(errors="replace")) in VIDEO else "IMAGE"
    values: tuple[object, ...] = (
        caller.id,
        file.sha1,
        file.path,
        form.fields.get("filename") or file.name,
        details.created,
        details.modified,
        kind,
        details.favourite,
        details.visibility,
        details.video,
    )
    block = "insert_asset"
    if details.device is not None:
        block, values = "insert_asset_2", (*values, *details.device)
    asset_id: UUID = await backend.pool.fetchval(sql.block("demo/server", block), *values)
    return asset_id


async def _add_what_belongs(backend: Backend, caller: Caller, form: Form, asset_id: UUID) -> None:
    """The other rows of an upload, one statement each and in no common transaction, as Immich writes them."""
    size = form.files["assetData"].size
    async with backend.pool.acquire() as connection:
        sidecar = form.files.get("sidecarData")
        if sidecar is not None:
            await connection.execute(sql.block("demo/server", "insert_sidecar"), asset_id, sidecar.path)
        await connection.execute(sql.block("demo/server", "insert_exif"), asset_id, size)
        await connection.execute(sql.block("demo/server", "add_usage"), caller.id, size)


async def _link(backend: Backend, caller: Caller, video_id: UUID) -> None:
    """Make a live photo's video ready for its still: it is hidden from then on."""
    video = await backend.pool.fetchrow(sql.block("demo/server", "asset"), video_id)
    if video is None:
        raise ApiError(400, "Live photo video not found")
    if video["type"] != "VIDEO":
        raise ApiError(400, "Live photo video must be a video")
    if video["ownerId"] != caller.id:
        raise ApiError(400, "Live photo video does not belong to the user")
    if video["visibility"] == "timeline":
        await backend.pool.execute(sql.block("demo/server", "hide"), video_id)


def validate(fields: dict[str, str], version: str) -> _Details:
    """The fields of an upload; raises ApiError 400 with every field that is missing or makes no sense."""
    issues: list[Issue] = []
    dates: list[datetime] = []
    for name in ("fileCreatedAt", "fileModifiedAt"):
        date = _date(fields.get(name), version)
        if date is None:
            issues.append(Issue(name, "must be an ISO 8601 date with time"))
        else:
            dates.append(date)
    device: tuple[str, str] | None = None
    if version.startswith("2."):
        issues += [Issue(name, "should not be empty") for name in ("deviceAssetId", "deviceId") if not fields.get(name)]
        device = (fields.get("deviceAssetId", ""), fields.get("deviceId", ""))
    visibility = fields.get("visibility", "timeline")
    if visibility not in _VISIBILITIES:
        issues.append(Issue("visibility", f"must be one of {', '.join(_VISIBILITIES)}"))
    if issues:
        raise invalid(*issues)
    video = fields.get("livePhotoVideoId")
    return _Details(
        created=dates[0],
        modified=dates[1],
        favourite=fields.get("isFavorite") == "true",
        visibility=visibility,
        video=parse_uuid(video, "livePhotoVideoId") if video else None,
        device=device,
    )


def _date(value: str | None, version: str) -> datetime | None:
    """3.x wants a time zone; 2.x takes a date without one as its own, which is UTC here."""
    if value is None or (not version.startswith("2.") and not _ISO_WITH_ZONE.fullmatch(value)):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def _checksum(header: str) -> bytes | None:
    """The SHA-1 of an ``x-immich-checksum`` header: 28 characters are base64, anything else is hexadecimal."""
    try:
        return base64.b64decode(header, validate=True) if len(header) == 28 else bytes.fromhex(header)
    except (binascii.Error, ValueError):
        return None


async def _find(backend: Backend, caller: Caller, checksum: bytes) -> UUID | None:
    found: UUID | None = await backend.pool.fetchval(sql.block("demo/server", "by_checksum"), caller.id, checksum)
    return found


def _duplicate(asset_id: UUID) -> web.Response:
    return web.json_response({"status": "duplicate", "id": str(asset_id)})
