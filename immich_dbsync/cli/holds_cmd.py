"""``immich-dbsync holds``: deletions that wait for a person."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import asyncpg
import typer

from immich_dbsync.cli import completion
from immich_dbsync.cli.common import (
    AsJson,
    Yes,
    confirm,
    console_errors,
    load_settings,
    print_json,
    print_table,
    run_async,
)
from immich_dbsync.errors import NoSuchHold
from immich_dbsync.immich.library import Library
from immich_dbsync.model import Decision, Direction
from immich_dbsync.service.listener import connect
from immich_dbsync.service.logs import printable
from immich_dbsync.settings import Settings
from immich_dbsync.store.holds import DECIDED, HeldFile, HoldRow, Holds
from immich_dbsync.store.state import installed
from immich_dbsync.wording import counted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Deletions that wait for a person.",
    epilog="Examples:\nimmich-dbsync holds list\nimmich-dbsync holds approve 1",
)

_NUMBER = "The hold's number, as `holds list` shows it."
AnyHold = Annotated[int, typer.Argument(metavar="NUMBER", help=_NUMBER, autocompletion=completion.holds)]
WaitingHold = Annotated[int, typer.Argument(metavar="NUMBER", help=_NUMBER, autocompletion=completion.waiting_holds)]

_SHOWN = 20
_WHAT = {
    Direction.FOLDER: "deleted from the folder; to be moved to Immich's trash",
    Direction.IMMICH: "deleted in Immich; to be moved from the folder to quarantine",
}


@app.command(name="list")
def list_holds(as_json: AsJson = False) -> None:
    """List what waits for a decision, and what was decided and is being carried out.

    Example: immich-dbsync holds list
    """
    with console_errors():
        holds, emails = run_async(_all(load_settings()))
        if as_json:
            print_json({"holds": [_json(hold, emails) for hold in holds]})
            return
        rows = [
            (str(h.id), emails.get(h.owner, str(h.owner)), str(h.files), h.decision.value, _WHAT[h.direction], h.reason)
            for h in holds
        ]
        print_table(("hold", "user", "files", "decision", "what", "why"), rows)
        if not holds:
            typer.echo("Nothing waits for a person.", err=True)


@app.command()
def show(
    number: AnyHold,
    every: Annotated[bool, typer.Option("--all", help=f"Every file, not only the first {_SHOWN}.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the files of a hold.

    Example: immich-dbsync holds show 1
    """
    with console_errors():
        hold, files, emails = run_async(_one(load_settings(), number, None if every or as_json else _SHOWN))
        if as_json:
            listed = [{"path": printable(f.path), "size": f.size, "asset": f.asset_id} for f in files]
            print_json({"hold": _json(hold, emails), "files": listed})
            return
        _print(hold, files, emails)


@app.command()
def approve(number: WaitingHold, yes: Yes = False, as_json: AsJson = False) -> None:
    """Have the deletions of a hold carried out, after a fresh look at each.

    Example: immich-dbsync holds approve 1
    """
    _decide(number, Decision.APPROVED, yes=yes, as_json=as_json)


@app.command()
def reject(number: WaitingHold, yes: Yes = False, as_json: AsJson = False) -> None:
    """Release a hold: files and assets stay, and what is gone from one side stays on the other.

    Example: immich-dbsync holds reject 1
    """
    _decide(number, Decision.REJECTED, yes=yes, as_json=as_json)


def _decide(number: int, decision: Decision, *, yes: bool, as_json: bool) -> None:
    with console_errors():
        settings = load_settings()
        hold, files, emails = run_async(_one(settings, number, _SHOWN))
        if hold.decision is not Decision.WAITING:
            raise NoSuchHold(f"Hold {number} was {hold.decision.value} before.")
        _print(hold, files, emails, err=True)  # to whoever is asked; not into the output that a program reads
        kept = "asset" if hold.direction is Direction.FOLDER else "file"  # the other is gone already
        question = {
            Decision.APPROVED: f"Carry out these deletions: {counted(hold.files, 'file')}?",
            Decision.REJECTED: f"Keep what is left of them: {counted(hold.files, kept)}?",
        }[decision]
        confirm(question, yes=yes)
        decided_at = run_async(_note(settings, number, decision))
        if as_json:
            print_json({"hold": _json(replace(hold, decision=decision, decided_at=decided_at), emails)})
            return
        typer.echo(f"Hold {number} is {decision.value}. The service carries it out at once where it runs, else later.")


async def _holds(settings: Settings) -> "asyncpg.Connection[asyncpg.Record]":
    return await connect(settings.require_database_url(), "immich-dbsync holds")


async def _all(settings: Settings) -> tuple[list[HoldRow], dict[Any, str]]:
    connection = await _holds(settings)
    try:
        with installed():
            holds = await Holds(connection).all()
        owners = await Library(connection).owners([hold.owner for hold in holds])
        return holds, {owner.id: owner.email for owner in owners.values()}
    finally:
        await connection.close()


async def _one(settings: Settings, number: int, limit: int | None) -> tuple[HoldRow, list[HeldFile], dict[Any, str]]:
    holds, emails = await _all(settings)
    for hold in holds:
        if hold.id == number:
            connection = await _holds(settings)
            try:
                return hold, await Holds(connection).files(number, hold.files if limit is None else limit), emails
            finally:
                await connection.close()
    known = ", ".join(str(hold.id) for hold in holds) or "none"
    raise NoSuchHold(f"There is no hold {number}. There are: {known}.")


async def _note(settings: Settings, number: int, decision: Decision) -> datetime:
    """Have it decided; when it was."""
    connection = await _holds(settings)
    try:
        holds = Holds(connection)
        owner = await holds.decide(number, decision)
        if owner is None:
            raise NoSuchHold(f"Hold {number} was decided by somebody else meanwhile.")
        await holds.ask(owner, DECIDED)
        return await holds.now()
    finally:
        await connection.close()


def _print(hold: HoldRow, files: list[HeldFile], emails: dict[Any, str], *, err: bool = False) -> None:
    count = counted(hold.files, "file")
    typer.echo(f"Hold {hold.id}, {emails.get(hold.owner, hold.owner)}: {count} {_WHAT[hold.direction]}.", err=err)
    typer.echo(f"Why it waits: {hold.reason}.", err=err)
    for file in files:
        typer.echo(f"  {printable(file.path)}", err=err)
    if hold.files > len(files):
        typer.echo(f"  and {hold.files - len(files)} more", err=err)


def _json(hold: HoldRow, emails: dict[Any, str]) -> dict[str, Any]:
    return {
        "id": hold.id,
        "user": emails.get(hold.owner),
        "owner": hold.owner,
        "direction": hold.direction.value,
        "reason": hold.reason,
        "created_at": hold.created_at,
        "decision": hold.decision.value,
        "decided_at": hold.decided_at,
        "files": hold.files,
    }
