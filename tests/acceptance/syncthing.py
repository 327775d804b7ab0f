"""Real Syncthing: instances that share one folder, over this machine's loopback alone."""

import fcntl
import os
import shutil
import signal
import subprocess
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree as ET

import aiohttp

from tests.waiting import until

PROGRAM = shutil.which("syncthing")
_FOLDER = "camera"
_LISTEN = "tcp://127.0.0.1:0"
_PATIENCE_S = 30.0  # for a start, with its benchmark of hashing, on a busy machine
# It talks to its peer and to nobody else, and stays as it is installed.
_OPTIONS = {
    "listenAddress": _LISTEN,
    "globalAnnounceEnabled": "false",
    "localAnnounceEnabled": "false",
    "relaysEnabled": "false",
    "natEnabled": "false",
    "stunKeepaliveStartS": "0",
    "urAccepted": "-1",
    "crashReportingEnabled": "false",
    "autoUpgradeIntervalH": "0",
    "startBrowser": "false",
    "reconnectionIntervalS": "1",
}
_OFF = ("globalAnnounceEnabled", "localAnnounceEnabled", "relaysEnabled", "natEnabled", "crashReportingEnabled")


@dataclass(frozen=True)
class User:
    """Who runs an instance, and so owns what it writes."""

    uid: int
    gid: int

    def before(self) -> list[str]:
        """What to put before a command so that this user runs it."""
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]


class Syncthing:
    """A device with its one folder; a context manager that runs it, and switches it off as one does with a phone.

    ``home`` takes its configuration, database, socket and log.
    """

    def __init__(self, name: str, home: Path, folder: Path, user: User | None = None) -> None:
        self.name = name
        self.folder = folder
        self._home = home
        self._before = [] if user is None else user.before()
        self._api: aiohttp.ClientSession | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for made in (home, folder):
            made.mkdir(parents=True)
            if user is not None:
                os.chown(made, user.uid, user.gid)
        arguments = ("generate", "--no-default-folder", "--skip-port-probing")
        subprocess.run(self._command(*arguments), env=self._environment(), check=True, capture_output=True, cwd="/")
        self._file = home / "config.xml"
        self._config = ET.parse(self._file)
        self.id = self._element("device").attrib["id"]
        for option, value in _OPTIONS.items():
            self._element(f"options/{option}").text = value
        self._socket = home / "api"
        self._element("gui/address").text = str(self._socket)

    def share(self, peer: "Syncthing", address: str, **attributes: str) -> None:
        """Share the folder with ``peer``, which is at ``address``, or calls by itself where that is ``dynamic``.

        ``attributes`` are the folder's, as the configuration has them.
        """
        device = self._add("device", id=peer.id, name=peer.name)
        ET.SubElement(device, "address").text = address
        # The shortest time between a change and the look at it.
        folder = self._add("folder", id=_FOLDER, path=str(self.folder), fsWatcherDelayS="1", **attributes)
        for each in (self, peer):
            ET.SubElement(folder, "device", id=each.id)
        self._config.write(self._file)

    def _add(self, kind: str, **attributes: str) -> ET.Element:
        """A new device or folder, else as the web interface would make it: what the file leaves out counts as zero."""
        new = deepcopy(self._element(f"defaults/{kind}"))
        new.attrib.update(attributes)
        for child in (*new.findall("address"), *new.findall("device")):
            new.remove(child)
        self._config.getroot().append(new)
        return new

    def _element(self, path: str) -> ET.Element:
        found = self._config.find(path)
        assert found is not None, f"this Syncthing's configuration has no {path}"
        return found

    def _command(self, *arguments: str) -> list[str]:
        assert PROGRAM is not None
        return [*self._before, PROGRAM, *arguments, f"--home={self._home}"]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self._home), "STNOUPGRADE": "1", "STNORESTART": "1"}

    @property
    def _log(self) -> Path:
        return self._home / "log"

    def _start(self) -> subprocess.Popen[bytes]:
        command = self._command("serve", "--no-browser")
        with self._log.open("ab") as log:
            # In a session of its own: it is two processes, which are ended together.
            return subprocess.Popen(
                command, env=self._environment(), stdout=log, stderr=log, cwd="/", start_new_session=True
            )

    async def __aenter__(self) -> Self:
        await until(self._unlocked, seconds=_PATIENCE_S)
        self._process = self._start()
        key = self._element("gui/apikey").text or ""
        connector = aiohttp.UnixConnector(str(self._socket))
        self._api = aiohttp.ClientSession("http://syncthing", connector=connector, headers={"x-api-key": key})
        try:
            await until(self._answers, seconds=_PATIENCE_S)
            options = await self.ask("GET", "config/options")
            assert not any(options[name] for name in _OFF)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._api is not None
        assert self._process is not None
        await self._api.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if error is not None:
            error.add_note(f"{self.name}:\n" + "\n".join(self._log.read_text().splitlines()[-30:]))

    async def _unlocked(self) -> bool:
        """Whether no earlier run has the database: of two processes that were killed, one may outlive the other."""
        for lock in self._home.glob("index-*/LOCK"):
            with lock.open("r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return False
        return True

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return bool(await self.ask("GET", "system/ping"))
        except (aiohttp.ClientError, OSError):
            return False

    async def ask(self, method: str, what: str, body: object = None, **parameters: str) -> Any:
        """What its REST API answers."""
        assert self._api is not None
        async with self._api.request(method, f"/rest/{what}", params=parameters, json=body) as response:
            response.raise_for_status()
            return await response.json() if response.content_type == "application/json" else None

    async def address(self) -> str:
        """Where it listens for its peer."""
        status = await self.ask("GET", "system/status")
        [address] = status["connectionServiceStatus"][_LISTEN]["lanAddresses"]
        return str(address)

    async def scan(self) -> None:
        """Have it see now what changed in its folder, rather than when its watcher tells it."""
        await self.ask("POST", "db/scan", folder=_FOLDER)

    async def part_from(self, peer: "Syncthing") -> None:
        """Refuse to connect to ``peer`` until they meet again."""
        await self.ask("POST", "system/pause", device=peer.id)

    async def meet(self, peer: "Syncthing") -> None:
        """Let ``peer`` connect again."""
        await self.ask("POST", "system/resume", device=peer.id)

    async def until_connected(self, peer: "Syncthing") -> None:
        """Wait until it is connected to ``peer``."""

        async def connected() -> bool:
            connections = (await self.ask("GET", "system/connections"))["connections"]
            return bool(connections[peer.id]["connected"])

        await until(connected, seconds=_PATIENCE_S)

    async def troubles(self) -> list[Any]:
        """What it could not do to its folder."""
        return list((await self.ask("GET", "folder/errors", folder=_FOLDER))["errors"] or [])

    async def configuration(self) -> Any:
        """The folder as its configuration has it."""
        return await self.ask("GET", f"config/folders/{_FOLDER}")

    async def configure(self, folder: object) -> None:
        """Share the folder as ``configuration`` told, or give it up where that is None; its files stay."""
        if folder is None:
            await self.ask("DELETE", f"config/folders/{_FOLDER}")
        else:
            await self.ask("PUT", f"config/folders/{_FOLDER}", folder)
