"""Reads the multipart body of an upload as it comes, part by part, without holding a file in memory.

File names are taken as Immich's own parser takes them: the last component of ``filename="…"``, as UTF-8. The other
way of RFC 8187, ``filename*=``, is understood by that parser but then decoded once more, which spoils every letter
beyond ASCII; the stand-in does the same, so that no client comes to rely on it.
"""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes
from uuid import UUID, uuid4

import aiohttp
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from immich_dbsync.demo.api_errors import ApiError
from immich_dbsync.demo.backend import Backend
from immich_dbsync.demo.jobs import remove_files
from immich_dbsync.immich.media_types import ONLY_3, extension, is_media, is_sidecar

_CHUNK = 256 * 1024
_FIELD_LIMIT = 1024 * 1024
_PARAMETER = re.compile(r';\s*([a-z]+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', re.IGNORECASE)
_FILE_FIELDS = ("assetData", "sidecarData")


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that came in: its name as sent, its size in bytes, its digest, and the path that the row will name."""

    name: str
    size: int
    sha1: bytes
    path: str


@dataclass(slots=True)
class Form:
    """The fields and files of one upload, whatever their order was."""

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, ReceivedFile] = field(default_factory=dict)

    def remove_files(self, backend: Backend) -> None:
        """Remove the bytes that were stored for it."""
        if backend.media is not None:
            remove_files(*(file.path for file in self.files.values()))


class _Sink:
    """Takes a file's bytes, to disk where there is a folder for them."""

    def __init__(self, path: Path | None) -> None:
        self.size = 0
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb") if path is not None else None

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sha1.update(chunk)
        if self._file is not None:
            self._file.write(chunk)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


async def receive(request: web.Request, backend: Backend, owner: UUID) -> Form:
    """Read the whole body. Raises ApiError 400 for what is refused, after the rest of the body has been read.

    Nothing stays on disk where it raises.
    """
    form = Form()
    try:
        await _read_parts(request, backend, owner, form)
    except ApiError:
        form.remove_files(backend)
        await _drain(request)
        raise
    except (ValueError, RuntimeError, AssertionError, OSError, aiohttp.ClientError) as error:
        # aiohttp asserts that a part is not read past the end of the body
        form.remove_files(backend)
        raise ApiError(400, "Multipart: Unexpected end of form") from error
    except HttpProcessingError as error:
        form.remove_files(backend)
        raise ApiError(400, "Malformed part header") from error
    except BaseException:
        form.remove_files(backend)
        raise
    return form


async def _read_parts(request: web.Request, backend: Backend, owner: UUID, form: Form) -> None:
    if not request.content_type.startswith("multipart/"):
        return
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            raise ApiError(400, "Multipart: Malformed part header")
        name, filename = disposition(part.headers.get("content-disposition", ""))
        if filename is None:
            form.fields[name] = (await _read_field(part)).decode(errors="replace")
            continue
        if name not in _FILE_FIELDS or name in form.files:
            raise ApiError(400, "Unexpected field")
        # a form field of that name goes before the file's own name, as soon as it has been read
        filename = form.fields.get("filename") or filename
        require_supported(backend, name, filename)
        form.files[name] = await _read_file(part, backend, owner, name, filename)
        if not form.files[name].size and not backend.version.startswith("2."):
            raise ApiError(400, "File is empty")


def require_supported(backend: Backend, field_name: str, filename: str) -> None:
    """Raise ApiError 400 where a server of that version does not take such a file in that field."""
    encoded = filename.encode(errors="replace")
    taken = is_sidecar(encoded) if field_name == "sidecarData" else is_media(encoded)
    if not taken or (backend.version.startswith("2.") and extension(encoded) in ONLY_3):
        raise ApiError(400, f"Unsupported file type {filename}")


async def _read_field(part: BodyPartReader) -> bytes:
    value = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        value += chunk
        if len(value) > _FIELD_LIMIT:
            raise ApiError(400, "Field value too long")
    return bytes(value)


async def _read_file(
    part: BodyPartReader, backend: Backend, owner: UUID, field_name: str, filename: str
) -> ReceivedFile:
    number = str(uuid4())
    suffix = ".xmp" if field_name == "sidecarData" else "." + filename.rpartition(".")[2]
    path = (backend.media or Path("/data")) / "upload" / str(owner) / number[:2] / number[2:4] / f"{number}{suffix}"
    sink = _Sink(path if backend.media is not None else None)
    try:
        while chunk := await part.read_chunk(_CHUNK):
            sink.write(chunk)
    except BaseException:
        if backend.media is not None:
            remove_files(str(path))
        raise
    finally:
        sink.close()
    return ReceivedFile(filename, sink.size, sink.sha1.digest(), str(path))


async def _drain(request: web.Request) -> None:
    """Immich answers a refused upload only after all of it was sent."""
    with suppress(OSError, aiohttp.ClientError):
        while await request.content.readany():
            pass


def disposition(header: str) -> tuple[str, str | None]:
    """A part's field name, and its file name where it has one, from its Content-Disposition header."""
    parameters = {
        match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        for match in _PARAMETER.finditer(header)
    }
    filename = None
    if "filename*" in parameters:
        decoded = unquote_to_bytes(parameters["filename*"].rpartition("'")[2]).decode(errors="replace")
        filename = bytes(ord(letter) & 0xFF for letter in decoded).decode(errors="replace")
    elif "filename" in parameters:
        # aiohttp keeps the bytes of a header that are not UTF-8 as surrogates
        filename = parameters["filename"].encode(errors="surrogateescape").decode(errors="replace")
    if filename is not None:
        filename = re.split(r"[/\\]", filename)[-1]
    return parameters.get("name", ""), filename
