"""What snapd does with a snap, as far as its hooks and launchers can tell: the real one needs a whole system.

Options are kept and given out as ``snapctl`` does it, hooks run in snapd's order, and what they ask of a service is
done when they have ended. Of confinement there is what a process can give up: root's powers.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.commands import Ended, confined

_SNAPCTL = """#!{python}
import json, os, sys
from pathlib import Path

state = Path({state!r})
verb, *words = sys.argv[1:]
names = [word for word in words if not word.startswith("-")]
options = json.loads(Path(os.environ.get("STAND_IN_OPTIONS", state / "options.json")).read_text())

def find(path):
    value = options
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value

if verb == "get":
    found = {{name: value for name in names if (value := find(name)) is not None}}
    if "-d" in words:
        print(json.dumps(found, indent="\\t"))
    else:
        [name] = names
        value = found.get(name, "")
        print(value if isinstance(value, str) else json.dumps(value, indent="\\t"))
elif verb in ("start", "stop", "restart"):
    with (state / "asked").open("a") as asked:
        asked.write(json.dumps([verb, *words]) + "\\n")
else:
    sys.exit(f"error: unknown command {{verb!r}}")
"""
_END_S = 120.0
_STOP_S = 15.0


class Refused(Exception):
    """A hook failed; the message is what the person reads who ran the command."""


@dataclass
class Daemon:
    """A service of the snap: whether it is enabled, and its process."""

    enabled: bool
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(_STOP_S)
        self.process = None


@dataclass
class Snapd:
    """One snap, from a file, with folders below ``home``. ``path`` are folders where the base's programs are."""

    home: Path
    path: list[Path]
    daemons: dict[str, Daemon] = field(default_factory=dict)
    revision: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._state = self.home / "state"
        self._state.mkdir(parents=True)
        (self._state / "options.json").write_text("{}")
        self._bin = self.home / "bin"
        self._bin.mkdir()
        snapctl = self._bin / "snapctl"
        snapctl.write_text(_SNAPCTL.format(python=sys.executable, state=str(self._state)))
        snapctl.chmod(0o755)

    # --- what a person does ---

    async def install(self, file: Path) -> None:
        """``snap install``: hooks, then the services that are not disabled."""
        await asyncio.to_thread(self._install, file)

    async def set(self, **options: object) -> None:
        """``snap set``; names have underscores for hyphens and belong to the group ``dbsync``.

        Raises Refused, with the options as they were, where the hook says no.
        """
        await self.set_others(dbsync=self.options().get("dbsync", {}) | _hyphens(options))

    async def set_others(self, **options: object) -> None:
        """``snap set`` of any options."""
        await asyncio.to_thread(self._set, self.options() | _hyphens(options))

    async def disable(self, daemon: str) -> None:
        """``snap stop --disable``."""
        self.daemons[daemon].enabled = False
        await asyncio.to_thread(self.daemons[daemon].stop)

    async def run(self, app: str, *arguments: str) -> Ended:
        """Run an application of the snap, as root."""
        return await asyncio.to_thread(self._run, app, *arguments)

    async def refresh(self, file: Path) -> None:
        """``snap refresh``: services stop, data is copied, hooks of the new revision run, services start."""
        await asyncio.to_thread(self._refresh, file)

    async def remove(self) -> str:
        """``snap remove``: services stop, the hook runs, all is gone; what the hook said."""
        return await asyncio.to_thread(self._remove)

    async def close(self) -> None:
        """Stop all services."""
        await asyncio.to_thread(self._stop)

    # --- what snapd knows ---

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def snap(self) -> Path:
        return self.home / "snap" / self.name / str(self.revision)

    @property
    def data(self) -> Path:
        return self.home / "var" / self.name / str(self.revision)

    @property
    def common(self) -> Path:
        return self.home / "var" / self.name / "common"

    def options(self) -> dict[str, Any]:
        """All options of the snap."""
        return dict(json.loads((self._state / "options.json").read_text()))

    def environment(self) -> dict[str, str]:
        """The environment of hooks and applications."""
        base = {
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "PATH": os.pathsep.join(map(str, (self._bin, *self.path, "/usr/bin", "/bin"))),
            "SNAP": str(self.snap),
            "SNAP_NAME": self.name,
            "SNAP_INSTANCE_NAME": self.name,
            "SNAP_REVISION": str(self.revision),
            "SNAP_VERSION": str(self.info["version"]),
            "SNAP_DATA": str(self.data),
            "SNAP_COMMON": str(self.common),
        }
        return base | {
            "PATH": self.info["environment"]["PATH"].replace("$SNAP", base["SNAP"]).replace("$PATH", base["PATH"])
        }

    # --- how it does it ---

    def _install(self, file: Path) -> None:
        self._mount(file, 1)
        self.common.mkdir(parents=True)
        self.data.mkdir(parents=True)
        self._hook("install")
        self._daemons()
        self._hook("configure")
        self._do_what_was_asked()

    def _run(self, app: str, *arguments: str) -> Ended:
        command, *words = self.info["apps"][app]["command"].split()
        done = subprocess.run(
            [*self._confined(), self.snap / command, *words, *arguments],
            env=self.environment(),
            capture_output=True,
            timeout=_END_S,
            check=False,
            cwd="/",
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def _refresh(self, file: Path) -> None:
        self._hook("pre-refresh")
        before = self.data
        self._stop()
        self._mount(file, self.revision + 1)
        shutil.copytree(before, self.data)
        self._hook("post-refresh")
        self._daemons()
        self._hook("configure")
        self._do_what_was_asked()
        for name, daemon in self.daemons.items():
            if daemon.enabled and not daemon.running():
                self._start(name)

    def _remove(self) -> str:
        self._stop()
        said = self._hook("remove")
        shutil.rmtree(self.home / "snap")
        shutil.rmtree(self.home / "var")
        return said

    def _stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.stop()

    def _mount(self, file: Path, revision: int) -> None:
        place = self.home / "snap" / "unpacked"
        place.parent.mkdir(exist_ok=True)
        subprocess.run(["unsquashfs", "-quiet", "-no-progress", "-dest", place, file], check=True, capture_output=True)
        self.info = yaml.safe_load((place / "meta" / "snap.yaml").read_text())
        self.revision = revision
        self.snap.parent.mkdir(parents=True, exist_ok=True)
        place.rename(self.snap)

    def _daemons(self) -> None:
        for name, app in self.info["apps"].items():
            if "daemon" in app:
                enabled = app.get("install-mode") != "disable"
                self.daemons.setdefault(name, Daemon(enabled, self.home / f"{name}.log"))

    def _set(self, options: dict[str, Any]) -> None:
        # Until the hook has agreed it alone sees them.
        new = self._state / "new.json"
        new.write_text(json.dumps(options))
        self._hook("configure", STAND_IN_OPTIONS=str(new))
        new.rename(self._state / "options.json")
        self._do_what_was_asked()

    def _hook(self, name: str, **environment: str) -> str:
        hook = self.snap / "meta" / "hooks" / name
        (self._state / "asked").unlink(missing_ok=True)
        if not hook.exists():
            return ""
        done = subprocess.run(
            [*self._confined(), hook],
            env=self.environment() | environment,
            capture_output=True,
            timeout=_END_S,
            check=False,
            cwd="/",
        )
        said = (done.stdout + done.stderr).decode().strip()
        if done.returncode != 0:
            raise Refused(said)
        return said

    def _do_what_was_asked(self) -> None:
        asked = self._state / "asked"
        lines = asked.read_text().splitlines() if asked.exists() else []
        for verb, *words in map(json.loads, lines):
            snap, _, name = words[-1].partition(".")
            assert snap == self.name
            daemon = self.daemons[name]
            if verb != "start":
                daemon.stop()
            if f"--{'enable' if verb == 'start' else 'disable'}" in words:
                daemon.enabled = verb == "start"
            if verb != "stop" and not daemon.running():
                self._start(name)

    def _start(self, name: str) -> None:
        command, *words = self.info["apps"][name]["command"].split()
        daemon = self.daemons[name]
        with daemon.log.open("ab") as log:
            daemon.process = subprocess.Popen(
                [*self._confined(), self.snap / command, *words],
                env=self.environment(),
                stdout=log,
                stderr=log,
                cwd="/",
            )
        daemon.starts += 1

    def _confined(self) -> list[str]:
        return confined() if os.geteuid() == 0 and self.info["confinement"] == "strict" else []


def _hyphens(options: dict[str, object]) -> dict[str, object]:
    return {name.replace("_", "-"): value for name, value in options.items()}
