"""Immich's HTTP API, as far as it changes something: upload, trash, restore.

::

    ApiError
    ├── Unavailable      no answer, or one that another try may better: 5xx, 429, resets, time-outs, a proxy's page
    ├── KeyRejected      401: the key is wrong
    │   └── NotPermitted 403: the key lacks a permission
    ├── QuotaExceeded    400: the owner's storage quota is used up
    ├── BatchRefused     400: one id of the batch is unknown or another owner's, and nothing was done
    └── FileRefused      400, 413, 415: this file will not be taken until it changes
"""

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp

from immich_dbsync.metrics import REQUESTS
from immich_dbsync.model import AssetId, Sha1

BATCH = 1000
"""Ids in one request; more are refused by some versions (design facts, section 7)."""

LONGEST_WAIT_S = 300.0
"""However much later a server asks us to come again; a try in five minutes hurts nobody."""

DEVICE_ID = "immich-dbsync"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUOTA = "quota has been exceeded"
_STALLED_S = 300.0  # for which a server may take nothing of what is sent; aiohttp's own time begins when all is sent
_SLOWEST = 8192  # bytes a second; a server that takes them so slowly is waited for
# Connecting is quick or fails; an answer may wait for a large body to be stored.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
PROMPT = aiohttp.ClientTimeout(total=10)
"""For what the server has nothing to do for but to answer."""


class ApiError(Exception):
    """Immich did not do what was asked; the message is one line."""


class Unavailable(ApiError):
    """No usable answer; another try may get one, not before ``retry_after`` seconds. ``status``: HTTP's, if any."""

    def __init__(self, message: str, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


class KeyRejected(ApiError):
    """The key is unknown or lacks a permission."""


class QuotaExceeded(ApiError):
    """The owner's storage quota is used up."""


class NotPermitted(KeyRejected):
    """The key is good, but lacks the permission for this request."""


class BatchRefused(ApiError):
    """An id of the batch is unknown or another owner's; nothing was done."""


class FileRefused(ApiError):
    """Immich does not take this file."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The answer to an upload. ``duplicate``: the asset was there before, perhaps in the trash."""

    asset_id: AssetId
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """What is sent besides the bytes. ``name`` is the file's own name; ``mtime_ns`` counts from 1970.

    ``sha1``: None where the bytes are hashed while they are sent; then the server can't tell a duplicate before it has
    them all.
    """

    name: bytes
    size: int
    mtime_ns: int
    sha1: Sha1 | None
    sidecar: tuple[bytes, bytes] | None = None  # its name and its bytes


class Server:
    """One Immich server. A context manager that holds the connections, so many at most; 0: any number."""

    def __init__(self, url: str, *, connections: int = 8) -> None:
        self._api = f"{url.rstrip('/').removesuffix('/api')}/api"
        self._connections = connections

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=self._connections), auto_decompress=True
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ping(self) -> None:
        """Return when the server answers; raises Unavailable when it does not."""
        answer = await self._request("GET", "/server/ping", timeout=PROMPT)
        if answer.get("res") != "pong":
            raise Unavailable(f"What answers at {self._api} is no Immich server")

    async def upload(self, key: str, upload: Upload, body: AsyncIterator[bytes]) -> Uploaded:
        """Send one file; ``body`` yields exactly ``upload.size`` bytes and may raise to abandon the upload."""
        boundary = secrets.token_hex(16)
        head, tail = _frame(upload, boundary)

        gave_up: list[Exception] = []
        progress, loop = asyncio.timeout(None), asyncio.get_running_loop()

        async def framed() -> AsyncIterator[bytes]:
            # Head and tail go with the first and the last bytes: one call, and the server is woken once.
            before, left = head, upload.size
            try:
                async for chunk in body:
                    progress.reschedule(loop.time() + _STALLED_S + len(before + chunk) / _SLOWEST)
                    left -= len(chunk)
                    yield b"".join((before, chunk, b"" if left else tail))
                    before = b""
                if before:
                    yield head + tail
                progress.reschedule(None)
            except Exception as error:
                gave_up.append(error)
                raise

        headers = {
            "x-api-key": key,
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + upload.size + len(tail)),
        }
        if upload.sha1 is not None:
            headers["x-immich-checksum"] = upload.sha1.hex()
        try:
            async with progress:
                answer = await self._request("POST", "/assets", data=framed(), headers=headers)
        except TimeoutError as error:
            raise Unavailable(f"The server takes no more of a file that is sent, for {_STALLED_S:.0f} s") from error
        except Unavailable:
            if gave_up:  # aiohttp hides it behind an error of the connection
                raise gave_up[0] from None
            raise
        try:
            return Uploaded(AssetId(UUID(str(answer["id"]))), answer.get("status") == "duplicate")
        except (KeyError, ValueError, TypeError) as error:
            raise Unavailable("The server's answer to an upload names no asset") from error

    async def trash(self, key: str, ids: Sequence[AssetId]) -> None:
        """Move up to 1,000 assets to Immich's trash. Never sends ``force``."""
        await self._batch("DELETE", "/assets", key, ids)

    async def restore(self, key: str, ids: Sequence[AssetId]) -> None:
        """Take up to 1,000 assets out of Immich's trash."""
        await self._batch("POST", "/trash/restore/assets", key, ids)

    async def copy(self, key: str, source: AssetId, target: AssetId) -> None:
        """Copy albums, favourite, shared links, stack and sidecar from one asset to another.

        Raises NotPermitted without the permission ``asset.copy`` or on a server that has no such request, BatchRefused
        when one of the two is unknown.
        """
        body = {"sourceId": str(source), "targetId": str(target)}
        try:
            await self._request("PUT", "/assets/copy", json=body, headers={"x-api-key": key})
        except FileRefused as error:
            raise BatchRefused(str(error)) from error
        except Unavailable as error:
            if error.status == 404:
                raise NotPermitted("This Immich can't copy from one asset to another; update it") from error
            raise

    async def _batch(self, method: str, path: str, key: str, ids: Sequence[AssetId]) -> None:
        if len(ids) > BATCH:
            raise ValueError(f"{len(ids)} ids in one request; {BATCH} at most")
        try:
            await self._request(method, path, json={"ids": [str(i) for i in ids]}, headers={"x-api-key": key})
        except FileRefused as error:
            raise BatchRefused(str(error)) from error

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        outcome, began = "none", time.monotonic()
        try:
            async with (
                _unavailable_when_broken(),
                # A redirect would carry the key to wherever it points.
                self._session.request(method, self._api + path, allow_redirects=False, **options) as response,
            ):
                outcome = str(response.status)
                text = await response.text(errors="replace")
                return _answer(response, text)
        finally:
            REQUESTS.labels(method, f"/api{path}", outcome).observe(time.monotonic() - began)


@asynccontextmanager
async def _unavailable_when_broken() -> AsyncIterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise Unavailable(f"Immich's server does not answer: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Why there is no connection, in the system's words where it has some: aiohttp's are for programmers."""
    if isinstance(error, TimeoutError) and not str(error):
        return "it took too long"
    if not isinstance(error, aiohttp.ClientConnectorError) or isinstance(error, aiohttp.ClientSSLError):
        return str(error) or type(error).__name__
    code = error.os_error.errno or 0
    # Numbers below 0 are of names that were not found; of others asyncio says itself what is in the error's text.
    words = os.strerror(code) if code > 0 else error.os_error.strerror or str(error.os_error)
    return f"{error.host}:{error.port}: {words}"


def _answer(response: aiohttp.ClientResponse, text: str) -> dict[str, Any]:
    """The decoded body of a success; raises the ApiError that fits anything else."""
    status = response.status
    if status == 204:
        return {}
    try:
        decoded = json.loads(text) if text else {}
    except ValueError:
        decoded = None
    message = _message(decoded) if isinstance(decoded, dict) else None
    if status in {200, 201}:
        if isinstance(decoded, dict):
            return decoded
        raise Unavailable("What answers is not Immich's API: it sent no JSON object; check the server URL")
    if status == 403 and message is not None:
        raise NotPermitted(message)
    if status == 401 and message is not None:
        raise KeyRejected(message)
    if status in {400, 413, 415, 422} and (message is not None or status == 413):
        if message is not None and _QUOTA in message.lower():
            raise QuotaExceeded(message)
        raise FileRefused(message or "The server, or a proxy before it, takes no file of this size")
    if 300 <= status < 400:
        raise Unavailable(
            f"The server redirects to {response.headers.get('Location', 'nowhere')!r}; set that as server URL"
        )
    raise Unavailable(
        f"The server answered {status} {message or response.reason or ''}".strip(), _retry_after(response), status
    )


def _message(decoded: dict[str, Any]) -> str | None:
    message = decoded.get("message")
    if isinstance(message, list):  # validation errors of 2.x
        message = "; ".join(map(str, message))
    # A NUL or a lone surrogate is no text to PostgreSQL, where this may end up.
    return str(message).encode("utf-8", "replace").decode().replace("\0", "") if message else None


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds from now: the header gives them, or a date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return min(float(value), LONGEST_WAIT_S)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    seconds = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def _frame(upload: Upload, boundary: str) -> tuple[bytes, bytes]:
    """What stands before and after the file's bytes in the multipart body."""
    # Nobody knows when the picture was taken but Immich, who reads its EXIF data; this is what it falls back on.
    time = _iso(upload.mtime_ns)
    fields = {
        "fileCreatedAt": time,
        "fileModifiedAt": time,
        # 2.x refuses an upload without these two, and looks no further at them.
        "deviceAssetId": upload.sha1.hex() if upload.sha1 is not None else boundary,
        "deviceId": DEVICE_ID,
    }
    head = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()
    )
    if upload.sidecar is not None:
        name, content = upload.sidecar
        head += _file_head(boundary, "sidecarData", name) + content + b"\r\n"
    return head + _file_head(boundary, "assetData", upload.name), f"\r\n--{boundary}--\r\n".encode()


def _file_head(boundary: str, field: str, name: bytes) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{_file_name(name)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


def _file_name(name: bytes) -> str:
    """A name as browsers send it: UTF-8, the quote and line ends as %XX; other control characters, on which Immich's
    parser refuses the whole form, likewise.
    """
    text = name.decode("utf-8", "replace")
    return "".join(f"%{ord(c):02X}" if c == '"' or c < " " or c == "\x7f" else c for c in text)


def _iso(mtime_ns: int) -> str:
    """ISO 8601 in UTC, milliseconds; years that a date can't hold become the nearest that it can."""
    milliseconds = mtime_ns // 1_000_000
    try:
        time = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        time = datetime.max.replace(tzinfo=UTC) if milliseconds > 0 else datetime.min.replace(tzinfo=UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
