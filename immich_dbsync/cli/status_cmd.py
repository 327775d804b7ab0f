"""``immich-dbsync status``: what is synced, what waits, what went wrong."""

from dataclasses import asdict, dataclass

import asyncpg
import typer

from immich_dbsync.cli.common import console_errors, load_settings, print_json, print_table, run_async
from immich_dbsync.errors import NEEDS_SOMEBODY
from immich_dbsync.immich.library import Library
from immich_dbsync.service.accounts import accounts
from immich_dbsync.service.gate import unreachable
from immich_dbsync.service.listener import connect, lock_key
from immich_dbsync.service.logs import printable
from immich_dbsync.settings import Settings
from immich_dbsync.store import install
from immich_dbsync.store.owners import PAUSED
from immich_dbsync.store.state import OwnerState, damaged_files, held_locks, owner_states, refused_files

app = typer.Typer(add_completion=False)
_REFUSED_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Line:
    state: OwnerState
    email: str
    active: bool
    running: bool
    refused: list[tuple[str, str]]

    @property
    def paused(self) -> bool:
        """Whether a person paused this user: no problem, but not to be forgotten."""
        return PAUSED in self.state.problems

    def problems(self) -> list[str]:
        """What needs somebody, in sentences; empty when nothing does."""
        state = self.state
        said = [problem["text"] for kind, problem in sorted(state.problems.items()) if kind != PAUSED]
        if not self.active:
            said.append("the user is deleted in Immich: nothing of theirs is touched")
        if not self.running and not self.paused:
            said.append("no service syncs this owner now: start it with `immich-dbsync run`")
        said += [f"{count} left alone: {why}" for why, count in state.undecided.items()]
        said += [f"{path}: {why}" for path, why in self.refused]
        if (more := state.refused + state.damaged - len(self.refused)) > 0:
            said.append(f"and {more} more files refused or damaged")
        if state.holds:
            said.append(f"{state.holds} {'hold waits' if state.holds == 1 else 'holds wait'} for you: holds list")
        return said


async def _look(settings: Settings) -> tuple[list[_Line], list[str]]:
    """Every owner, and what is wrong with more than one of them: keys, the server."""
    connection = await connect(settings.require_database_url(), "immich-dbsync status")
    try:
        lines = await _lines(connection)
        _, problems = await accounts(Library(connection), settings.api_keys_or_none())
    finally:
        await connection.close()
    if reason := await unreachable(settings):
        problems.append(f"{reason}; uploads and deletions wait for it")
    if not lines:
        problems.append("no owner is synced yet: start the service with `immich-dbsync run`")
    return lines, problems


async def _lines(connection: "asyncpg.Connection[asyncpg.Record]") -> list[_Line]:
    states = [state for state in await owner_states(connection) if state.enabled]
    owners = await Library(connection).owners([state.owner for state in states])
    keys = {state.owner: lock_key(state.owner) for state in states}
    held = await held_locks(connection, list(keys.values()))
    lines = []
    for state in states:
        owner = owners.get(state.owner)
        files = await refused_files(connection, state.owner, _REFUSED_SHOWN) if state.refused else []
        files += await damaged_files(connection, state.owner, _REFUSED_SHOWN) if state.damaged else []
        lines.append(
            _Line(
                state,
                owner.email if owner else "unknown to Immich",
                owner is not None and owner.active,
                keys[state.owner] in held,
                [(printable(path), why) for path, why in files],
            )
        )
    return lines


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Show every owner: synced, waiting, refused, quarantined, last scan, and what needs somebody.

    Exits with 0 when all is well, with 12 when something needs somebody. Example: immich-dbsync status --json
    """
    with console_errors():
        settings = load_settings()
        url = settings.require_database_url()
        report = install.verify(url)
        lines, problems = run_async(_look(settings))
        problems += [f"{d}. Mend it with: immich-dbsync triggers install" for d in report.differences]
        if as_json:
            _print_json(lines, problems)
        else:
            _print_text(lines, problems)
        if problems or any(line.problems() for line in lines):
            raise typer.Exit(NEEDS_SOMEBODY)


def _print_json(lines: list[_Line], problems: list[str]) -> None:
    owners = [
        {**asdict(line.state), "email": line.email, "active": line.active}
        | {"running": line.running, "paused": line.paused}
        | {"problems": line.problems()}
        for line in lines
    ]
    print_json({"problems": problems, "owners": owners})


def _print_text(lines: list[_Line], problems: list[str]) -> None:
    columns = ("user", "service", "synced", "waiting", "refused", "holds", "quarantined", "events", "last scan")
    print_table(columns, [_row(line) for line in lines])
    for problem in problems:
        typer.echo(f"! {problem}")
    for line in lines:
        if line.paused:
            typer.echo(f"  {line.email}: {line.state.problems[PAUSED]['text']}")
        for problem in line.problems():
            typer.echo(f"! {line.email}: {problem}")


def _row(line: _Line) -> tuple[str, ...]:
    state = line.state
    scanned = state.last_scan_at.strftime("%Y-%m-%d %H:%M:%S %Z") if state.last_scan_at else "not yet"
    counts = (state.synced, state.waiting, state.refused, state.holds, state.quarantined, state.events)
    service = "running" if line.running else "paused" if line.paused else "stopped"
    return line.email, service, *map(str, counts), scanned
