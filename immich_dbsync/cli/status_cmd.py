"""``immich-dbsync status``: what is synced, what waits, what went wrong."""

from dataclasses import asdict
from typing import Annotated

import typer

from immich_dbsync.cli.common import AsJson, console_errors, load_settings, local, print_json, print_table, run_async
from immich_dbsync.cli.overview import Line, look
from immich_dbsync.cli.watching import watch
from immich_dbsync.errors import NEEDS_SOMEBODY
from immich_dbsync.store import install
from immich_dbsync.store.owners import PAUSED

app = typer.Typer(add_completion=False)


@app.command()
def status(
    as_json: AsJson = False,
    follow: Annotated[bool, typer.Option("--watch", help="Stay, and show what moves, until Ctrl-C.")] = False,
) -> None:
    """Show every owner: synced, waiting, refused, quarantined, last scan, and what needs somebody.

    Exits with 0 when all is well, with 12 when something needs somebody.

    Example: immich-dbsync status --watch
    """
    if as_json and follow:
        raise typer.BadParameter("--watch is for people, --json for programs: choose one.")
    with console_errors():
        settings = load_settings()
        if follow:
            watch(settings)
            return
        url = settings.require_database_url()
        lines, problems = run_async(look(settings))
        report = install.verify(url)
        problems += [f"{d}. Mend it with: immich-dbsync triggers install" for d in report.differences]
        if as_json:
            _print_json(lines, problems)
        else:
            _print_text(lines, problems)
        if problems or any(line.problems() for line in lines):
            raise typer.Exit(NEEDS_SOMEBODY)


def _print_json(lines: list[Line], problems: list[str]) -> None:
    owners = [
        {**asdict(line.state), "email": line.email, "active": line.active}
        | {"running": line.running, "paused": line.paused}
        | {"problems": line.problems()}
        for line in lines
    ]
    print_json({"problems": problems, "owners": owners})


def _print_text(lines: list[Line], problems: list[str]) -> None:
    columns = ("user", "service", "synced", "waiting", "refused", "holds", "quarantined", "events", "last scan")
    print_table(columns, [_row(line) for line in lines])
    for problem in problems:
        typer.echo(f"! {problem}", err=True)
    for line in lines:
        if line.paused:
            typer.echo(f"  {line.email}: {line.state.problems[PAUSED]['text']}", err=True)
        for problem in line.problems():
            typer.echo(f"! {line.email}: {problem}", err=True)


def _row(line: Line) -> tuple[str, ...]:
    state = line.state
    scanned = local(state.last_scan_at) if state.last_scan_at else "not yet"
    counts = (state.synced, state.waiting, state.refused, state.holds, state.quarantined, state.events)
    service = "running" if line.running else "paused" if line.paused else "stopped"
    return line.email, service, *map(str, counts), scanned
