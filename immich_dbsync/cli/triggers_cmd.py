"""``immich-dbsync triggers``: install, verify, remove or print our schema and triggers."""

import json
from typing import Annotated

import asyncpg
import typer

from immich_dbsync.cli.common import console_errors, load_settings, run_async
from immich_dbsync.errors import DatabaseBusy, TriggersDiffer
from immich_dbsync.service.listener import connect, lock_key
from immich_dbsync.store import install as store
from immich_dbsync.store.install import Report
from immich_dbsync.store.state import held_locks, owner_states

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Our schema and triggers in Immich's database.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def install(as_json: AsJson = False) -> None:
    """Install the schema and triggers, or mend what differs. Changes nothing where all is well.

    Example: immich-dbsync triggers install
    """
    with console_errors():
        try:
            report = store.install(load_settings().require_database_url())
        except TriggersDiffer as error:
            if as_json:
                _print_json(Report(differences=error.differences))
            raise
    if as_json:
        _print_json(report)
        return
    if report.changed:
        typer.echo("Installed. What was wrong before:")
        _print_lines(report.changed)
    else:
        typer.echo("Already installed; nothing was changed.")
    _print_warnings(report)


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Say what differs from what install makes. Changes nothing; exit code 6 where something differs.

    Example: immich-dbsync triggers verify --json
    """
    with console_errors():
        report = store.verify(load_settings().require_database_url())
    if as_json:
        _print_json(report)
    elif report.differences:
        typer.echo("The triggers differ from what install makes:")
        _print_lines(report.differences)
        _print_warnings(report)
        typer.echo("Mend them with: immich-dbsync triggers install", err=True)
    else:
        typer.echo("Schema and triggers are in order.")
        _print_warnings(report)
    if report.differences:
        raise typer.Exit(TriggersDiffer.exit_code)


@app.command()
def remove(as_json: AsJson = False) -> None:
    """Drop the schema and triggers, with every record and the history. Files stay where they are.

    Stop the service first: it would install everything again. Example: immich-dbsync triggers remove
    """
    with console_errors():
        url = load_settings().require_database_url()
        if run_async(_running(url)):
            raise DatabaseBusy(
                "A service is running on this database and would install all of it again: stop it first."
            )
        report = store.remove(url)
    if as_json:
        _print_json(report)
    elif report.changed:
        typer.echo("Removed:")
        _print_lines(report.changed)
    else:
        typer.echo("Nothing of immich-dbsync is installed in this database; nothing was changed.")


@app.command(name="sql")
def print_sql(
    role: Annotated[
        str | None,
        typer.Option(help="Print the rights instead that this role needs to run the service: the least that works."),
    ] = None,
) -> None:
    """Print what install runs, for review or for psql. Touches no database.

    Example: immich-dbsync triggers sql | less
    """
    typer.echo(store.script() if role is None else store.grants(role), nl=False)


async def _running(url: str) -> bool:
    """Whether some service syncs an owner now."""
    connection = await connect(url, "immich-dbsync triggers")
    try:
        owners = [state.owner for state in await owner_states(connection)]
        return bool(await held_locks(connection, [lock_key(owner) for owner in owners]))
    except (TriggersDiffer, asyncpg.SyntaxOrAccessError):
        return False  # nothing is installed, or not whole: then nothing runs on it
    finally:
        await connection.close()


def _print_json(report: Report) -> None:
    typer.echo(
        json.dumps(
            {
                "version": 1,
                "ok": not report.differences,
                "differences": report.differences,
                "changed": report.changed,
                "warnings": report.warnings,
            }
        )
    )


def _print_lines(lines: tuple[str, ...]) -> None:
    for line in lines:
        typer.echo(f"  {line}")


def _print_warnings(report: Report) -> None:
    for warning in report.warnings:
        typer.echo(f"Note: {warning}.", err=True)
