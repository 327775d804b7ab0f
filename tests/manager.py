"""A service manager's end of sd_notify(3): the socket that systemd would read."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until


class Manager:
    """What a service told, in order."""

    def __init__(self, receiver: socket.socket, address: str) -> None:
        self._receiver = receiver
        self.address = address
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """All assignments so far."""
        self._receiver.settimeout(0)
        while True:
            try:
                datagram = self._receiver.recv(4096)
            except BlockingIOError:
                return self.heard
            self.heard += datagram.decode().split("\n")

    def statuses(self) -> list[str]:
        """The lines of status so far."""
        return [told.removeprefix("STATUS=") for told in self.hear() if told.startswith("STATUS=")]

    async def until_told(self, assignment: str, *, times: int = 1, seconds: float = 15.0) -> None:
        """Wait until it was told so often."""

        async def told() -> bool:
            return self.hear().count(assignment) >= times

        await until(told, seconds=seconds)

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long, in which the event loop of this thread stands still."""
        self.hear()
        self._receiver.settimeout(seconds)
        try:
            self.heard += self._receiver.recv(4096).decode().split("\n")
        except TimeoutError:
            return True
        return False


@contextmanager
def managed(address: Path | str) -> Iterator[Manager]:
    """Listen at a path, or at an abstract address that begins with ``@``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{address[1:]}" if isinstance(address, str) else str(address))
        yield Manager(receiver, str(address))
