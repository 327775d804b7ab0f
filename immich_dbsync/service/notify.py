"""Tells systemd how the service is: ready, alive, a line of status, stopping. The protocol is that of sd_notify(3)."""

import asyncio
import math
import socket
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()

_STATUS_S = 5.0  # between two looks whether the line of status has changed
_SEND_S = 1.0  # systemd reads at once, or something is wrong with it


class Notifier:
    """Whoever started us and wants to know; without them nothing of this does anything.

    ``environment`` may hold NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them; ``pid`` is our own.
    """

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environment, pid) if self._address else math.inf
        self._ready = False
        self._failed = False

    def ready(self) -> None:
        """The service is up. Said once, however often it is called."""
        if not self._ready:
            self._ready = True
            self._tell("READY=1")

    def stopping(self) -> None:
        """The service begins to end."""
        self._tell("STOPPING=1", "STATUS=stopping")

    async def report_forever(self, line: Callable[[], str]) -> None:
        """Tell what ``line`` says whenever that changes, and that we are alive at half of the time that systemd gives.

        Being alive means that the event loop turns: this is one of its tasks, and nothing else says so. Returns at once
        where nobody wants to know.
        """
        if not self._address:
            return
        told = ""
        while True:
            news = [] if self._watchdog_s == math.inf else ["WATCHDOG=1"]
            if (status := " ".join(line().split())) != told:
                news.append(f"STATUS={status}")
                told = status
            self._tell(*news)
            await asyncio.sleep(min(_STATUS_S, self._watchdog_s / 2))

    def _tell(self, *assignments: str) -> None:
        if not (self._address and assignments):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_S)
                sender.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            # The service goes on. Where a watchdog waits in vain, systemd starts it anew.
            if not self._failed:
                log.warning("systemd.unreachable", reason=str(error), socket=self._address)
            self._failed = True


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float:
    """Seconds within which systemd has to hear from us; infinite where it does not care, or means another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(pid))
    if not microseconds.isdecimal() or int(microseconds) == 0 or meant != str(pid):
        return math.inf
    return int(microseconds) / 1_000_000
