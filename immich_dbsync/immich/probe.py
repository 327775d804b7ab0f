"""Questions to Immich's server that change nothing there: which one it is, and what a key may do."""

from typing import Any
from uuid import UUID, uuid4

from aiohttp import MultipartWriter

from immich_dbsync.immich.api import DEVICE_ID, PROMPT, FileRefused, NotPermitted, Server, Unavailable


class Probe(Server):
    """A server that is asked and not used."""

    @property
    def address(self) -> str:
        """Where it is asked, for people."""
        return self._api.removesuffix("/api")

    async def version(self) -> str:
        """The server's version, as in 3.1.0; raises Unavailable."""
        answer = await self._request("GET", "/server/version")
        try:
            return ".".join(str(int(answer[part])) for part in ("major", "minor", "patch"))
        except (KeyError, ValueError, TypeError) as error:
            raise Unavailable("The server does not tell its version") from error

    async def whose(self, key: str) -> UUID | None:
        """The id of the user whose key it is; None where the key may not ask (ours may not).

        Raises KeyRejected for a key that the server does not know, Unavailable.
        """
        try:
            answer = await self._request("GET", "/users/me", headers={"x-api-key": key})
            return UUID(str(answer["id"]))
        except NotPermitted:
            return None
        except (KeyError, ValueError) as error:
            raise Unavailable("The server does not tell whose key it is") from error

    async def lacking(self, key: str) -> tuple[str, ...]:
        """Which of the permissions that the service needs this key lacks, in the order of PERMISSIONS.

        Each is tried with a request that Immich checks for the permission first and then refuses, or that is about
        nothing. Raises KeyRejected for a key that the server does not know, Unavailable.
        """
        tries = {
            "asset.upload": self._upload_nothing,
            "asset.delete": self._trash_nothing,
            "asset.copy": self._copy_none,
        }
        lacking = []
        for permission, attempt in tries.items():
            try:
                await attempt(key)
            except NotPermitted:
                lacking.append(permission)
            except FileRefused:
                pass  # as expected: it may, but there was nothing to do
        return tuple(lacking)

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        # Whoever asks sits before a terminal, and none of this gives the server work to do.
        return await super()._request(method, path, **{"timeout": PROMPT, **options})

    async def _upload_nothing(self, key: str) -> None:
        """A form with neither a file nor its dates: refused with 400 once the key has been let in."""
        with MultipartWriter("form-data") as form:
            form.append(DEVICE_ID).set_content_disposition("form-data", name="deviceId")
            await self._request("POST", "/assets", data=form, headers={"x-api-key": key})

    async def _trash_nothing(self, key: str) -> None:
        await self.trash(key, [])

    async def _copy_none(self, key: str) -> None:
        """From an asset that does not exist to another: refused with 400. An Immich that can't copy answers 404."""
        body = {"sourceId": str(uuid4()), "targetId": str(uuid4())}
        try:
            await self._request("PUT", "/assets/copy", json=body, headers={"x-api-key": key})
        except Unavailable as error:
            if error.status != 404:
                raise
