"""``immich-dbsync triggers``: install, verify, remove or print our schema and triggers."""

from collections.abc import Iterator
from typing import Annotated

import asyncpg
import typer

from immich_dbsync.cli.common import AsJson, Yes, confirm, console_errors, load_settings, print_json, run_async
from immich_dbsync.errors import DatabaseBusy, TriggersDiffer
from immich_dbsync.service.listener import APPLICATION, connect, lock_key
from immich_dbsync.store import install as store
from immich_dbsync.store.install import Report
from immich_dbsync.store.state import held_locks, listening, owner_states, totals
from immich_dbsync.wording import counted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Our schema and triggers in Immich's database.",
    epilog="Examples:\nimmich-dbsync triggers install\nimmich-dbsync triggers verify",
)


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
def remove(
    purge: Annotated[
        bool, typer.Option("--purge", help="Leave no trace: drop the schemas as well, with records and history.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Drop the triggers, and with --purge all else that is ours in the database. Files stay where they are.

    Without --purge a later install goes on with what is known. Stop the service first: it would install them again.

    Example: immich-dbsync triggers remove --purge
    """
    with console_errors():
        url = load_settings().require_database_url()
        known = run_async(_look(url))
        for line in _to_be_removed(known, purge=purge):
            typer.echo(line, err=True)
        if known is not None:
            confirm("Remove all of it?" if purge else "Remove the triggers?", yes=yes)
        report = store.remove(url) if purge else store.remove_triggers(url)
    if as_json:
        _print_json(report)
    elif report.changed:
        typer.echo("Removed:")
        _print_lines(report.changed)
    else:
        typer.echo("Nothing like that of immich-dbsync is in this database; nothing was changed.")


def _to_be_removed(known: dict[str, int] | None, *, purge: bool) -> Iterator[str]:
    """What is about to be done, to whoever is asked; not into the output that a program reads."""
    if known is None:
        return
    yield "The triggers on Immich's tables will be dropped: deletions there will be noted no more."
    history = counted(known["history"], "line of history", "lines of history")
    counts = f"{counted(known['records'], 'record')}, {history}"
    kept = f"{counted(known['quarantined'], 'file')} in quarantine"
    if purge:
        yield f"Every schema of ours will be dropped, with {counts}. A later install begins with first sight."
        yield f"What stays: all files; {kept} can only be moved back by hand then."
    else:
        yield f"What stays: {counts}, {kept}."


@app.command(name="sql")
def print_sql(
    role: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Print the rights instead that this role needs to run the service: the least that works.",
        ),
    ] = None,
) -> None:
    """Print what install runs, for review or for psql. Touches no database.

    Example: immich-dbsync triggers sql
    """
    typer.echo(store.script() if role is None else store.grants(role), nl=False)


async def _look(url: str) -> dict[str, int] | None:
    """How much is known; None where nothing is installed, or not whole. Raises DatabaseBusy where a service runs."""
    connection = await connect(url, "immich-dbsync triggers")
    try:
        owners = [state.owner for state in await owner_states(connection)]
        serving = await held_locks(connection, [lock_key(owner) for owner in owners])
        if serving or await listening(connection, APPLICATION):  # also one whose users are all paused or gone
            raise DatabaseBusy(
                "A service is running on this database and would install all of it again: stop it first."
            )
        return await totals(connection)
    except (TriggersDiffer, asyncpg.SyntaxOrAccessError):
        return None  # then nothing runs on it
    finally:
        await connection.close()


def _print_json(report: Report) -> None:
    print_json(
        {
            "ok": not report.differences,
            "differences": report.differences,
            "changed": report.changed,
            "warnings": report.warnings,
        }
    )


def _print_lines(lines: tuple[str, ...]) -> None:
    for line in lines:
        typer.echo(f"  {line}")


def _print_warnings(report: Report) -> None:
    for warning in report.warnings:
        typer.echo(f"Note: {warning}.", err=True)
