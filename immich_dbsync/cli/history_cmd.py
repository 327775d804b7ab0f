"""``immich-dbsync history``: what was done to what, when and why."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from immich_dbsync.cli.common import (
    AsJson,
    console_errors,
    database,
    load_settings,
    local,
    print_json,
    print_table,
    run_async,
)
from immich_dbsync.cli.options import OneUser
from immich_dbsync.errors import NoSuchFile
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.service.logs import printable
from immich_dbsync.service.whom import find_owner, nearest, within
from immich_dbsync.settings import Settings
from immich_dbsync.store.state import Done, history

app = typer.Typer(add_completion=False)

_AGE = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SHOWN = 50
_MOST = 1_000_000  # lines: a number that PostgreSQL can't hold is none
_KNOWN = 1000  # latest lines whose paths are suggested for a mistyped one


def since_when(text: str, now: datetime) -> datetime:
    """A moment as typed: an age such as ``90m`` or ``2d``, or a date or time as in ISO 8601, of this machine's zone.

    Raises BadParameter for anything else.
    """
    try:
        if (age := _AGE.fullmatch(text)) is not None:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # it makes no sense, or lies before the year 1
        raise typer.BadParameter(
            f"{text!r} is no age such as 90m, 12h or 2d, and no date such as 2026-11-27."
        ) from None


@app.command(name="history")
def show(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="Only this file or folder: absolute, or below the user's folder.", show_default=False
        ),
    ] = "",
    user: OneUser = "",
    since: Annotated[
        str, typer.Option("--since", metavar="AGE|DATE", help="Not before: an age such as 2d, or a date.")
    ] = "",
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", metavar="LINES", min=1, max=_MOST, help="So many lines at most, the latest."),
    ] = _SHOWN,
    as_json: AsJson = False,
) -> None:
    """Show what was done to which file, when and why: uploads, removals, restores, refusals, holds. The latest is last.

    Example: immich-dbsync history Camera/IMG_0001.jpg --since 2d
    """
    begin = since_when(since, datetime.now(UTC)) if since else None
    with console_errors():
        lines = run_async(_lines(load_settings(), user, path, begin, limit))
        if path and not lines:
            every = run_async(_lines(load_settings(), user, "", None, _KNOWN))
            known = [(owner, printable(done.path)) for owner, done in every if done.path is not None]
            near = nearest(_root_for(load_settings(), path), path, known)
            raise NoSuchFile(f"The history has nothing of {path!r}.{near}")
        if as_json:
            print_json({"history": [_json(owner, done) for owner, done in lines]})
            return
        rows = [
            (local(done.at), owner.email, done.action, printable(done.path or b""), done.cause) for owner, done in lines
        ]
        print_table(("time", "user", "done", "path", "why"), rows)
        if not rows:
            typer.echo("Nothing was done since then." if since else "Nothing was done yet.", err=True)


async def _lines(
    settings: Settings, user: str, path: str, since: datetime | None, limit: int
) -> list[tuple[Owner, Done]]:
    async with database(settings, "history") as connection:
        owners = await Library(connection).all_owners()
        if user:
            owners = [find_owner(owners, user)]
        owners, inside = within(owners, _root_for(settings, path), path)
        found = [
            (owner, done) for owner in owners for done in await history(connection, owner.id, inside, since, limit)
        ]
    found.sort(key=lambda line: line[1].at)
    return found[-limit:]


def _root_for(settings: Settings, path: str) -> Path:
    """The sync root, where this path needs one."""
    return settings.require_sync_root() if path.startswith("/") else Path()


def _json(owner: Owner, done: Done) -> dict[str, object]:
    path = printable(done.path) if done.path is not None else None
    return {"at": done.at, "user": owner.email, "owner": owner.id, "action": done.action, "path": path} | {
        "asset": done.asset_id,
        "why": done.cause,
    }
