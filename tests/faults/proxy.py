"""A TCP proxy before PostgreSQL, that can be made to misbehave as networks and servers do."""

import asyncio
import socket
import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import within

_BLOCK = 1 << 16
_NOTIFICATION = b"A"  # the message type, https://www.postgresql.org/docs/current/protocol-message-formats.html
_HEADER = 5  # bytes: type and length


class Proxy:
    """Listens on loopback and passes everything to PostgreSQL's Unix socket; a context manager.

    ``refusing`` resets every new connection, ``delay_s`` delays everything that the server sends, ``mute`` drops its
    notifications. All may be set at any time.
    """

    def __init__(self, socket_path: Path) -> None:
        self._target = socket_path
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._over = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        self.mute = False
        self.delay_s = 0.0
        self.passed = 0  # connections

    def url(self, database: str, user: str = "postgres") -> str:
        """The URL of a database through this proxy."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def cut(self) -> None:
        """Reset every connection."""
        for writer in [*self._writers]:
            _reset(writer)

    def freeze(self) -> None:
        """Pass nothing any more, and say nothing about it."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass everything on again, what came meanwhile too."""
        self._flowing.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.close()
        self.cut()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        server = None
        try:
            if self.refusing:
                _reset(writer)
                return
            self.passed += 1
            with suppress(OSError):
                from_server, server = await asyncio.open_unix_connection(self._target)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, server))
                    group.create_task(self._pass_messages(from_server, writer))
        except* (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            for one in (writer, server):
                if one is not None:
                    one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(_BLOCK):
            await self._flowing.wait()
            writer.write(block)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction as well

    async def _pass_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            header = await reader.readexactly(_HEADER)
            body = await reader.readexactly(int.from_bytes(header[1:]) - 4)
            if self.delay_s and reader.at_eof() is False and header[:1] == b"Z":  # ready for the next question
                await within(self._over, self.delay_s)
            await self._flowing.wait()
            if self.mute and header[:1] == _NOTIFICATION:
                continue
            writer.write(header + body)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, as a crashed host or a firewall does."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
