"""The requests of the stand-in other than the upload, each with the checks and the statements that Immich has."""

import base64
import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
from aiohttp import web

from immich_dbsync import sql
from immich_dbsync.demo.api_errors import ApiError
from immich_dbsync.demo.backend import Backend, body_ids, json_object, parse_uuid
from immich_dbsync.demo.uploads import upload
from immich_dbsync.immich.media_types import IMAGE, ONLY_3, SIDECAR, VIDEO


class Routes:
    """The handlers; none keeps anything between two requests."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def table(self) -> list[web.RouteDef]:
        """Every route of the API, with its path from the server's root."""
        return [
            web.get("/api/server/ping", self.ping),
            web.get("/api/server/version", self.version),
            web.get("/api/server/media-types", self.media_types),
            web.get("/api/users/me", self.me),
            web.post("/api/assets", self.upload),
            web.delete("/api/assets", self.delete),
            web.put("/api/assets/copy", self.copy),
            web.get("/api/assets/{id}", self.asset),
            web.post("/api/trash/restore/assets", self.restore_some),
            web.post("/api/trash/restore", self.restore_all),
            web.post("/api/trash/empty", self.empty),
            web.delete("/api/admin/users/{id}", self.delete_user),
        ]

    async def ping(self, request: web.Request) -> web.Response:
        """Answers anybody."""
        del request
        return web.json_response({"res": "pong"})

    async def version(self, request: web.Request) -> web.Response:
        """Answers anybody with the three numbers."""
        del request
        numbers = map(int, self._backend.version.split("."))
        return web.json_response(dict(zip(("major", "minor", "patch"), numbers, strict=True)))

    async def media_types(self, request: web.Request) -> web.Response:
        """Answers anybody with the extensions that this version takes."""
        del request
        image = IMAGE - ONLY_3 if self._backend.version.startswith("2.") else IMAGE
        return web.json_response({"video": sorted(VIDEO), "image": sorted(image), "sidecar": sorted(SIDECAR)})

    async def me(self, request: web.Request) -> web.Response:
        """The user whose key it is."""
        caller = await self._backend.caller(request, "user.read")
        return web.json_response(
            {
                "id": str(caller.id),
                "email": caller.email,
                "name": caller.name,
                "isAdmin": caller.is_admin,
                "status": caller.status,
                "quotaSizeInBytes": caller.quota,
                "quotaUsageInBytes": caller.usage,
            }
        )

    async def upload(self, request: web.Request) -> web.Response:
        """See ``uploads``."""
        return await upload(request, self._backend)

    async def asset(self, request: web.Request) -> web.Response:
        """One asset of the caller, also out of the trash."""
        backend = self._backend
        caller = await backend.caller(request, "asset.read")
        asset_id = parse_uuid(request.match_info["id"], "id")
        await backend.require_access(caller, "asset.read", [asset_id])
        row = await backend.pool.fetchrow(sql.block("demo/server", "asset"), asset_id)
        if row is None:
            raise ApiError(400, "Asset not found")
        return web.json_response(_as_json(row))

    async def delete(self, request: web.Request) -> web.Response:
        """Trash, or with ``force`` delete for good: one UPDATE for the whole request, whatever the rows' status."""
        backend = self._backend
        caller = await backend.caller(request, "asset.delete")
        ids, body = await body_ids(request)
        await backend.require_access(caller, "asset.delete", ids)
        force = body.get("force") is True
        if ids:
            status = "deleted" if force else "trashed"
            await backend.pool.execute(sql.block("demo/server", "set_status"), ids, datetime.now(UTC), status)
        if force:
            await backend.jobs.empty_trash()
        return web.Response(status=204)

    async def restore_some(self, request: web.Request) -> web.Response:
        """Take assets out of the trash; the count is of the ids sent, not of the rows that changed."""
        backend = self._backend
        caller = await backend.caller(request, "asset.delete")
        ids, _ = await body_ids(request)
        await backend.require_access(caller, "asset.delete", ids)
        if ids:
            await backend.pool.execute(sql.block("demo/server", "restore_some"), ids)
        return web.json_response({"count": len(ids)})

    async def restore_all(self, request: web.Request) -> web.Response:
        """Take all that the caller has in the trash out of it."""
        caller = await self._backend.caller(request, "asset.delete")
        count = await self._count("restore_all", caller.id)
        return web.json_response({"count": count})

    async def empty(self, request: web.Request) -> web.Response:
        """Delete all that the caller has in the trash for good."""
        caller = await self._backend.caller(request, "asset.delete")
        count = await self._count("empty_trash", caller.id)
        if count:
            await self._backend.jobs.empty_trash()
        return web.json_response({"count": count})

    async def delete_user(self, request: web.Request) -> web.Response:
        """Delete a user at once, by a job; of an administrator's deletions only those with ``force`` are known here."""
        backend = self._backend
        caller = await backend.caller(request, "adminUser.delete", admin=True)
        user_id = parse_uuid(request.match_info["id"], "id")
        if (await json_object(request)).get("force") is not True:
            raise ApiError(501, "The stand-in deletes users with force only")
        if await backend.pool.fetchval(sql.block("demo/server", "user_exists"), user_id) is None:
            raise ApiError(400, "User not found")
        if user_id == caller.id:
            raise ApiError(403, "Cannot delete your own account")
        await backend.pool.execute(sql.block("demo/server", "user_removing"), user_id)
        backend.jobs.remove_user(user_id)
        return web.json_response({"id": str(user_id), "status": "removing"})

    async def _count(self, block: str, owner: UUID) -> int:
        tag: str = await self._backend.pool.execute(sql.block("demo/server", block), owner)
        return int(tag.rpartition(" ")[2])

    async def copy(self, request: web.Request) -> web.Response:
        """Give one asset what another has: albums, shared links, stack, favourite, sidecar, each unless declined."""
        backend = self._backend
        caller = await backend.caller(request, "asset.copy")
        body = await json_object(request)
        source_id = parse_uuid(body.get("sourceId"), "sourceId")
        target_id = parse_uuid(body.get("targetId"), "targetId")
        await backend.require_access(caller, "asset.copy", [source_id, target_id])
        source = await backend.pool.fetchrow(sql.block("demo/server", "for_copy"), source_id)
        target = await backend.pool.fetchrow(sql.block("demo/server", "for_copy"), target_id)
        if source is None or target is None:
            raise ApiError(400, "Both assets must exist")
        if source_id == target_id:
            raise ApiError(400, "Source and target id must be distinct")
        for wish, block in (("albums", "copy_albums"), ("sharedLinks", "copy_shared_links")):
            if body.get(wish, True):
                await backend.pool.execute(sql.block("demo/server", block), source_id, target_id)
        if body.get("stack", True) and source["stackId"] is not None:
            await self._copy_stack(source["stackId"], target)
        if body.get("favorite", True):
            await backend.pool.execute(sql.block("demo/server", "set_favourite"), target_id, source["isFavorite"])
        if body.get("sidecar", True) and source["sidecar"] is not None:
            await self._copy_sidecar(source, target)
        return web.Response(status=204)

    async def _copy_stack(self, stack_id: UUID, target: asyncpg.Record) -> None:
        pool = self._backend.pool
        if target["stackId"] is None:
            await pool.execute(sql.block("demo/server", "set_stack"), target["id"], stack_id)
        elif target["stackId"] != stack_id:
            await pool.execute(sql.block("demo/server", "merge_stacks"), stack_id, target["stackId"])
            await pool.execute(sql.block("demo/server", "delete_stack"), stack_id)

    async def _copy_sidecar(self, source: asyncpg.Record, target: asyncpg.Record) -> None:
        path = f"{target['originalPath']}.xmp"
        if self._backend.media is not None:
            _copy_file(source["sidecar"], path)
        await self._backend.pool.execute(sql.block("demo/server", "insert_sidecar"), target["id"], path)
        self._backend.jobs.metadata(target["id"])


def _copy_file(source: str, target: str) -> None:
    shutil.copyfile(Path(source), Path(target))


def _as_json(row: asyncpg.Record) -> dict[str, object]:
    """What the stand-in tells of an asset: the fields that say whose, what and where, as Immich names them."""
    return {
        "id": str(row["id"]),
        "ownerId": str(row["ownerId"]),
        "type": row["type"],
        "originalPath": row["originalPath"],
        "originalFileName": row["originalFileName"],
        "checksum": base64.b64encode(row["checksum"]).decode(),
        "fileCreatedAt": row["fileCreatedAt"].isoformat(),
        "fileModifiedAt": row["fileModifiedAt"].isoformat(),
        "updatedAt": row["updatedAt"].isoformat(),
        "isFavorite": row["isFavorite"],
        "isTrashed": row["deletedAt"] is not None,
        "visibility": row["visibility"],
        "livePhotoVideoId": str(row["livePhotoVideoId"]) if row["livePhotoVideoId"] else None,
        "exifInfo": {"fileSizeInByte": row["fileSizeInByte"]},
    }
