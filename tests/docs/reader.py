"""An administrator who does what a page says, in a world of their own: a PostgreSQL, a stand-in, a file system."""

import asyncio
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from immich_dbsync.cli import snapped
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage
from tests.acceptance.commands import PROGRAM, Ended, Service, command, environment, on_terminal, put
from tests.acls import grant
from tests.docs.blocks import OURS, Block, commands
from tests.waiting import until

RUN = frozenset({"chmod", "cp", "find", "install", "ls", "mkdir", "mv", "rm"})
"""Programs that are run, on files of the world alone."""

INTERPRETED = frozenset({"setfacl", "snap", "systemctl"})
"""Programs that are played: options become settings, the service starts and stops, lists are set as setfacl would."""

INSTALLING = frozenset({"python3", "/opt/immich-dbsync/bin/pip", "ln"})
"""Programs that install from this checkout. It takes a quarter of a minute: test_installing.py has them run once."""

NOT_RUN: MappingProxyType[str, str] = MappingProxyType(
    {
        "docker": "it would need an Immich in containers",
        "journalctl": "the journal is this machine's",
        "make": "its verbs are whole test runs, the demo, or a snap; it says what it would do",
        "sysctl": "the limits are this machine's",
        "timedatectl": "the clock is this machine's",
        "export": "the values are for a server of one's own",
        ".venv/bin/python": "our own tests",
    }
)
"""Programs that are not run, by their exact first word, and why. test_blocks.py looks at what can be told of them."""

SOMEBODY = 1000
"""The user by number whom the pages give folders to."""

ADA = "ada@example.org"
_PATH = re.compile(r"(?<![\w.:/*])/(?=(?:etc|mnt|opt|srv|usr|var)/)")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OVERWRITTEN = re.compile(r"[^\n]*\r")  # a line that told of progress
_URL = "postgresql://postgres:PASSWORD@127.0.0.1:5432/immich"
_SERVERS = ("http://127.0.0.1:2283", "http://127.0.0.1:3001")
_FINE = {0, 12}  # 12: something needs somebody, as it may
_SNAPS = [f"var/snap/{snap}/common/sync" for snap in ("immich-dbsync", "immich-distribution")]  # their hooks make these
_PICTURES = 12  # of a folder that is emptied, so that a hold waits


class Reader:
    """Runs blocks in order. ``settings`` are variables; a block of TOML becomes the settings file."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.world = stage.home / "world"
        self.here = self.world / "here"
        self.settings: dict[str, str] = {}
        self.last: Ended | None = None
        self._service: Service | None = None
        self._trips = 0
        self._stack = ExitStack()
        for folder in (
            "etc/systemd/system",
            "mnt/photos",
            "opt/immich-dbsync",
            "srv",
            "usr/local/bin",
            "here",
            *_SNAPS,
        ):
            (self.world / folder).mkdir(parents=True)
        (self.world / "usr/local/bin/immich-dbsync").symlink_to(PROGRAM[0])
        (self.world / "etc/systemd/system/immich-dbsync.service").touch()
        (self.here / "picture.jpg").write_bytes(picture(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @property
    def config(self) -> Path:
        return self.world / "etc" / "immich-dbsync.toml"

    def environment(self) -> dict[str, str]:
        """Where the commands find this world."""
        config = {"IMMICH_DBSYNC_CONFIG": str(self.config)} if self.config.exists() else {}
        # A picture that is waited for would keep the reader waiting.
        quick = {"IMMICH_DBSYNC_MOVE_GRACE": "0.1", "IMMICH_DBSYNC_SETTLE_TIME": "0.1"}
        path = os.pathsep.join([str(Path(PROGRAM[0]).parent), os.environ["PATH"]])
        return environment(quick | config | self.settings) | {"PATH": path}

    def here_for(self, text: str) -> str:
        """What a page says, with the places and names of this world for those of the page."""
        text = text.replace(_URL, self.stage.database_url).replace("USER-ID", str(self.stage.user))
        for server in _SERVERS:
            text = text.replace(server, self.stage.immich.url)
        if os.geteuid() != 0:  # who is not root may give nothing to others
            text = text.replace(f"{SOMEBODY}:{SOMEBODY}", f"{os.getuid()}:{os.getgid()}")
            text = text.replace(f"-o {SOMEBODY} -g {SOMEBODY}", f"-o {os.getuid()} -g {os.getgid()}")
        return _PATH.sub(f"{self.world}/", text)

    async def do(self, block: Block) -> None:
        """Whatever this block is for."""
        match block.language:
            case "sh":
                for line in block.lines():
                    await self._line(line)
            case "toml":
                self.config.write_text(self.here_for(block.text))
            case "sql":
                await self._sql(block.text)
            case _:
                pass

    async def start(self) -> None:
        """Start the service, unless it runs."""
        if self._service is None:
            self._service = self._stack.enter_context(Service(self.environment(), self.stage.log))
            await self._service.until_logged("owner.started")

    async def stop(self) -> None:
        """Stop the service, if it runs."""
        if self._service is not None:
            assert (await self._service.stop())[0] == 0
            self._service = None

    async def _line(self, line: str) -> None:
        first, *others = commands(line)
        if words_not_run := {words[0] for words in (first, *others)} & {*NOT_RUN, *INSTALLING}:
            assert len([first, *others]) == 1, (
                f"{words_not_run} would keep the rest of this line from being run: {line}"
            )
            return
        line = self.here_for(line)
        [[program, *words], *_] = commands(line)
        if program in INTERPRETED:
            await self._play(program, words)
        elif program in OURS and shlex.split(line)[1:] == words:
            await self._ours(words)
        else:
            await self._shell(line)

    async def _ours(self, words: Sequence[str]) -> None:
        if words == ["run"]:
            return await self.start()
        if words[:1] == ["holds"] and words[-1:] == ["1"]:
            words = [*words[:-1], await self.hold()]
        if words[0] in {"history", "quarantine"}:
            await self.taken()
        self.last = await self.run(words)
        assert self.last.code in _FINE, (words, self.last)
        return None

    async def run(self, words: Sequence[str]) -> Ended:
        """One of our commands, on a terminal where somebody says yes."""
        ended = await asyncio.to_thread(on_terminal, *words, env=self.environment(), dialogue=[("[y/N]", "y\n")])
        shown = _OVERWRITTEN.sub("", _COLOURS.sub("", ended.out))
        return Ended(ended.code, shown, ended.err)

    async def _shell(self, line: str) -> None:
        """Only ours, and programs on files of this world."""
        for program, *words in commands(line):
            assert program in {*OURS, *RUN}, line
            if program in RUN:
                assert all(word.startswith(str(self.world)) for word in words if word.startswith("/")), line
        done = await asyncio.to_thread(
            lambda: subprocess.run(
                ["bash", "-euo", "pipefail", "-c", line],
                cwd=self.here,
                env=self.environment(),
                capture_output=True,
                check=False,
            )
        )
        assert done.returncode == 0, (line, done.stderr)

    async def _play(self, program: str, words: Sequence[str]) -> None:
        match (program, *words):
            case ("snap", "set", _, option):
                name, _, value = option.removeprefix("dbsync.").partition("=")
                document: object = True if value == "true" else False if value == "false" else value
                settings, enabled = snapped.parse(json.dumps({"dbsync": {name: document}}))
                self.settings |= settings
                if name == "enabled":
                    await (self.start() if enabled else self.stop())
            case ("systemctl", "enable", "--now", _) | ("systemctl", "start", _):
                await self.start()
            case ("systemctl", "disable", "--now", _) | ("systemctl", "stop", _):
                await self.stop()
            case ("setfacl", "--recursive", "--modify", entries, folder):
                self._grant(entries, Path(folder))
            case ("snap", "connect" | "get" | "install" | "logs" | "remove" | "unset", *_):
                pass
            case ("systemctl", "daemon-reload" | "status" | "show", *_):
                pass
            case _:
                raise AssertionError(f"what does this do? {program} {shlex.join(words)}")

    def _grant(self, entries: str, folder: Path) -> None:
        """All rights to each who is named twice: for what is there, and for what comes."""
        named = re.findall(r"(?:^|,)(d:)?u:(\w+):rwX(?=,|$)", entries)
        assert len(named) == entries.count(",") + 1, entries
        now, later = ({user for default, user in named if bool(default) is each} for each in (False, True))
        assert now == later, entries
        assert folder.is_relative_to(self.world)
        grant(folder, *(int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid for user in now))

    async def _sql(self, text: str) -> None:
        grants = self.here / "grants.sql"
        if r"\i grants.sql" in text and not grants.exists():
            await self._shell(f"immich-dbsync triggers sql --role dbsync > {grants}")
        if "DROP TRIGGER immich_dbsync" in text:
            await self.stop()  # as the page says; they would wait for each other
        text = re.sub(r"^\\i grants\.sql.*$", lambda _: grants.read_text(), text, flags=re.MULTILINE)
        await self.stage.connection.execute(text)

    # --- a world in order ---

    async def settle_in(self) -> None:
        """Have everything set up and the service running, as on a server where all is well."""
        if not self.config.exists():
            root = self.world / "srv" / "immich-sync"
            root.mkdir(exist_ok=True)
            lines = {
                "database_url": self.stage.database_url,
                "server_url": self.stage.immich.url,
                "sync_root": str(root),
                "api_keys_file": str(self.world / "etc" / "immich-dbsync.keys"),
            }
            self.config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
            self.config.chmod(0o600)
        if self._service is None:
            for words in (["triggers", "install"], ["users", "add", ADA]):
                ended = await command(*words, env=self.environment())
                assert ended.code == 0, ended
            (self.folder / "Camera").mkdir(exist_ok=True)  # the folder that the pages speak of
            await self.start()

    @property
    def folder(self) -> Path:
        root = self.settings.get("IMMICH_DBSYNC_SYNC_ROOT", self.world / "srv" / "immich-sync")
        return Path(root) / str(self.stage.user)

    async def synced(self, count: int, *, below: str = "") -> None:
        """Wait until so many files, whose paths begin so, are tied to an asset."""
        tied = "select count(*) from immich_dbsync_v1.records where asset_id is not null"
        records = f"{tied} and position($1 in path) = 1"

        async def check() -> bool:
            return bool(await self.stage.connection.fetchval(records, below.encode()) == count)

        await until(check, seconds=20)

    async def hold(self) -> str:
        """The number of a hold that waits; a folder is emptied for it, where there is none."""
        waiting = "select id::text from immich_dbsync_v1.holds where closed_at is null and decision = 'waiting'"
        if (number := await self.stage.connection.fetchval(waiting)) is not None:
            return str(number)
        self._trips += 1
        trip = self.folder / f"Trip {self._trips}"
        for each in range(_PICTURES):
            put(trip, f"{each}.jpg", picture(self._trips * _PICTURES + each))
        await self.synced(_PICTURES, below=trip.name)
        shutil.rmtree(trip)

        async def check() -> str | None:
            number: str | None = await self.stage.connection.fetchval(waiting)
            return number

        return str(await until(check, seconds=20))

    async def taken(self) -> None:
        """Have the picture that pages name in quarantine, after it was deleted in Immich."""
        name, entry = "Camera/IMG_0001.jpg", "select exists (select from immich_dbsync_v1.quarantine where path = $1)"
        tied = "select asset_id from immich_dbsync_v1.records where path = $1"

        async def check() -> bool:
            return bool(await self.stage.connection.fetchval(entry, name.encode()))

        async def asset() -> object:
            return await self.stage.connection.fetchval(tied, name.encode())

        if not await check():
            put(self.folder, name, picture(1000))
            trashed = "update asset set status = 'trashed', \"deletedAt\" = now() where id = $1"
            await self.stage.connection.execute(trashed, await until(asset, seconds=20))
            await until(check, seconds=20)
