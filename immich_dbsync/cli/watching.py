"""``immich-dbsync status --watch``: what moves, and at a glance whether all is well."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from immich_dbsync.cli.common import database, errors_of_ours, plain, run_async
from immich_dbsync.cli.overview import HOLDS, Line, look
from immich_dbsync.errors import DbsyncError
from immich_dbsync.service.logs import printable
from immich_dbsync.settings import Settings
from immich_dbsync.store import install
from immich_dbsync.store.state import Done, history

_PAUSE_S = 1.0
_REST = 5  # times as long as a look took, at least: it counts all records
_VERIFY_S = 15.0  # between two looks at the triggers
_DEEDS = 8


_NAMED = ("immich-dbsync triggers install", "immich-dbsync run")  # what problems of everybody's may name


class Mood(Enum):
    """How it is, at a glance."""

    WELL = "all in sync"
    WORKING = "working"
    NEEDS_YOU = "needs you"


_COLOURS = {Mood.WELL: "green", Mood.WORKING: "cyan", Mood.NEEDS_YOU: "bold yellow"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``why`` in a few words, or a sentence; ``command`` is what to type next, empty where there is nothing to do."""

    mood: Mood
    why: str = ""
    command: str = ""

    def __str__(self) -> str:
        said = f"{self.mood.value}: {self.why}" if self.why else self.mood.value
        return f"{said}  → {self.command}" if self.command else said


def verdict(lines: Sequence[Line], problems: Sequence[str]) -> Verdict:
    """How it is: what needs somebody goes before what is under way."""
    for line in lines:
        # Whatever was noted of this user, it was by a service that runs no more: it has to look again.
        if not (line.served or line.running or line.paused):
            return Verdict(Mood.NEEDS_YOU, f"no service syncs {line.email}", "immich-dbsync run")
    if problems:
        named = (command for command in _NAMED if command in problems[0])
        return Verdict(Mood.NEEDS_YOU, problems[0], next(named, "immich-dbsync doctor"))
    for line in lines:
        if line.state.holds and not line.own():
            return Verdict(Mood.NEEDS_YOU, f"deletions of {line.email} wait for you", HOLDS)
        if needs := line.needs():
            return Verdict(Mood.NEEDS_YOU, f"{line.email}: {needs[0].text}", needs[0].command)
    if left := sum(line.state.waiting + line.state.events for line in lines):
        return Verdict(Mood.WORKING, f"{left} to go")
    if any(line.state.last_scan_at is None for line in lines if not line.paused):
        return Verdict(Mood.WORKING, "the first scan goes on")
    return Verdict(Mood.WELL)


@dataclass(frozen=True, slots=True)
class _View:
    verdict: Verdict
    lines: list[Line]
    deeds: list[tuple[str, Done]]


class _Looks:
    """Looks again and again; at the triggers less often."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._verified_at = float("-inf")
        self._differences: list[str] = []
        self._last: _View | None = None

    async def look(self) -> _View:
        """How it is now. Raises as ``status``, but only at first: what fails later is told, and may end."""
        try:
            with errors_of_ours():
                self._last = await self._look()
        except DbsyncError as error:
            if self._last is None:
                raise
            return replace(self._last, verdict=Verdict(Mood.NEEDS_YOU, str(error), "immich-dbsync doctor"))
        return self._last

    async def _look(self) -> _View:
        url = self._settings.require_database_url()
        if time.monotonic() - self._verified_at > _VERIFY_S:
            report = await asyncio.to_thread(install.verify, url)
            self._differences = [f"{d}. Mend it with: immich-dbsync triggers install" for d in report.differences]
            self._verified_at = time.monotonic()
        lines, problems = await look(self._settings)
        async with database(self._settings, "status") as connection:
            deeds = [
                (line.email, done)
                for line in lines
                for done in await history(connection, line.state.owner, b"", None, _DEEDS)
            ]
        deeds.sort(key=lambda deed: deed[1].at)
        return _View(verdict(lines, [*problems, *self._differences]), lines, deeds[-_DEEDS:])


def watch(settings: Settings) -> None:
    """Show how it is until Ctrl-C: on a terminal all of it, in a pipe a line for each change."""
    console = Console()
    with suppress(KeyboardInterrupt):
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                run_async(_show(settings, live))
        else:
            run_async(_print(settings))


async def _show(settings: Settings, live: Live) -> None:
    looks = _Looks(settings)
    while True:
        began = time.monotonic()
        live.update(_drawn(await looks.look()), refresh=True)
        await _rest(began)


async def _print(settings: Settings) -> None:
    looks, told = _Looks(settings), ""
    while True:
        began = time.monotonic()
        view = await looks.look()
        if (said := str(view.verdict)) != told:
            typer.echo(f"{_clock(datetime.now().astimezone())}\t{plain(said)}")
            told = said
        await _rest(began)


async def _rest(began: float) -> None:
    await asyncio.sleep(max(_PAUSE_S, _REST * (time.monotonic() - began)))


def _drawn(view: _View) -> Group:
    columns = ("user", "service", "synced", "waiting", "events", "holds")
    table = Table(*(Column(name, overflow="fold") for name in columns), box=None, header_style="bold", pad_edge=False)
    for line in view.lines:
        state = line.state
        service = "running" if line.running else "paused" if line.paused else "stopped"
        counts = (state.synced, state.waiting, state.events, state.holds)
        table.add_row(escape(line.email), service, *map(str, counts))
    deeds = Table(*(Column(overflow="fold") for _ in range(4)), box=None, show_header=False, pad_edge=False)
    for email, done in view.deeds:
        path = printable(done.path) if done.path is not None else ""
        deeds.add_row(_clock(done.at), escape(email), done.action, escape(path))
    return Group(Text(f"● {plain(str(view.verdict))}", style=_COLOURS[view.verdict.mood]), "", table, "", deeds)


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")
