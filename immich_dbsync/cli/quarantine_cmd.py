"""``immich-dbsync quarantine``: files that were taken out of a folder, and their way back or out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Annotated, Any

import asyncpg
import typer
from rich.filesize import decimal

from immich_dbsync.cli import completion, progress
from immich_dbsync.cli.common import (
    AsJson,
    Yes,
    confirm,
    console_errors,
    database,
    load_settings,
    local,
    print_json,
    print_table,
    run_async,
)
from immich_dbsync.cli.history_cmd import since_when
from immich_dbsync.cli.options import Below, OneUser
from immich_dbsync.errors import NEEDS_SOMEBODY, KeyRefused, NoSuchFile, RootUnusable
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.service.accounts import Account, accounts
from immich_dbsync.service.logs import configure, printable
from immich_dbsync.service.pausing import paused_of, refusal, way_on
from immich_dbsync.service.questions import Progress, Question, answers, bring_back
from immich_dbsync.service.questions import purge as purge_all
from immich_dbsync.service.whom import find_owner, nearest, within
from immich_dbsync.settings import Settings
from immich_dbsync.store.connection import Connection
from immich_dbsync.store.state import Kept, quarantined
from immich_dbsync.wording import counted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Files that were taken out of a folder.",
    epilog="Examples:\nimmich-dbsync quarantine list\nimmich-dbsync quarantine restore 12",
)

_NUMBERS = "Their numbers, as `quarantine list` shows them."
Numbers = Annotated[
    list[int] | None,
    typer.Argument(metavar="NUMBER", help=_NUMBERS, show_default=False, autocompletion=completion.kept),
]
Purgeable = Annotated[
    list[int] | None,
    typer.Argument(metavar="NUMBER", help=_NUMBERS, show_default=False, autocompletion=completion.purgeable),
]

_STATES = {
    "active": "active in Immich",
    "trashed": "in Immich's trash",
    "deleted": "being deleted in Immich",
}
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class _File:
    """A file in quarantine and whose it is."""

    owner: Owner
    kept: Kept

    @property
    def state(self) -> str:
        """What its asset is now."""
        if self.kept.status is not None:
            return _STATES.get(self.kept.status, self.kept.status)
        return "deleted for good" if self.kept.gone else "unknown to Immich"

    def purged_after(self, settings: Settings) -> datetime | None:
        """When it may be deleted by itself; None while its asset is not gone, or where the retention is for ever."""
        if not self.kept.gone or not settings.quarantine_retention:
            return None
        return self.kept.quarantined_at + timedelta(days=settings.quarantine_retention)


@app.command(name="list")
def list_files(user: OneUser = "", path: Below = "", as_json: AsJson = False) -> None:
    """List the files in quarantine: since when, where each was, and what its asset in Immich is now.

    Example: immich-dbsync quarantine list --path Camera
    """
    with console_errors():
        settings = load_settings()
        files = run_async(_files(settings, user, path))
        if path and not files:
            raise _nothing_at(settings, user, path)
        if as_json:
            print_json({"files": [_json(file, settings) for file in files]})
            return
        rows = [
            (
                str(f.kept.id),
                f.owner.email,
                local(f.kept.quarantined_at),
                str(f.kept.size),
                f.state,
                printable(f.kept.path),
            )
            for f in files
        ]
        print_table(("number", "user", "since", "bytes", "its asset is", "path"), rows)
        typer.echo(f"In quarantine: {_sum(files)}.", err=True)


@app.command()
def restore(numbers: Numbers = None, user: OneUser = "", path: Below = "", as_json: AsJson = False) -> None:
    """Move files back to where they were, or beside it where something else is now.

    An asset that is in Immich's trash is restored by it; a picture that Immich has no more is uploaded again. Name
    files by number, or by --path; then the latest of each path comes back.

    Example: immich-dbsync quarantine restore 12
    """
    with console_errors():
        settings = load_settings()
        files = run_async(_files(settings, user, path))
        if path and not files:
            raise _nothing_at(settings, user, path)
        files = _chosen(files, numbers, path, "--path")
        files = _not_paused(settings, files, named=bool(numbers or user))
        if not numbers:
            files = [*{(file.owner.id, file.kept.path): file for file in files}.values()]
        done = _ask(settings, files, bring_back)
        if as_json:
            print_json({"restored": _told(files, done), "left": [_json(f, settings) for f in _rest(files, done)]})
        else:
            for file in _told(files, done):
                typer.echo(f"{file['path']} is back.")
        if left := _rest(files, done):
            _complain(left, "stays in quarantine: the same picture is at its place, or it could not be moved")


@app.command()
def purge(
    numbers: Purgeable = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="AGE|DATE",
            help="Every file that has been there for longer: an age such as 90d, or a date.",
        ),
    ] = "",
    user: OneUser = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete files from quarantine for good, before their retention is over; but none whose asset Immich still has.

    Name files by number, or by --older-than.

    Example: immich-dbsync quarantine purge --older-than 7d
    """
    now = datetime.now(UTC)
    before = since_when(older_than, now) if older_than else None
    with console_errors():
        settings = load_settings()
        files = _chosen(run_async(_files(settings, user, "")), numbers, older_than, "--older-than")
        if before is not None:
            files = [file for file in files if file.kept.quarantined_at < before]
        files = _not_paused(settings, files, named=bool(numbers or user))
        safe = [file for file in files if file.kept.status is None]
        kept = [file for file in files if file.kept.status is not None] if numbers else []
        for file in safe[:_SHOWN]:
            typer.echo(f"{file.kept.id}: {printable(file.kept.path)}, {file.state}", err=True)
        if len(safe) > _SHOWN:
            typer.echo(f"and {len(safe) - _SHOWN} more", err=True)
        if safe:
            confirm(f"Delete these for good: {_sum(safe)}?", yes=yes)
        done = _ask(settings, safe, purge_all)
        if as_json:
            left = [*kept, *_rest(safe, done)]
            print_json({"purged": _told(safe, done), "left": [_json(file, settings) for file in left]})
        else:
            typer.echo(f"{counted(len(done), 'file')} deleted.")
            if held := 0 if numbers else len(files) - len(safe):
                said = f"{counted(held, 'older file stays', 'older files stay')}: Immich has not deleted them for good."
                typer.echo(said, err=True)
        for status in dict.fromkeys(file.kept.status for file in kept):
            todo = (
                "is in Immich's trash; empty that first"
                if status == "trashed"
                else "is in Immich; delete it there first"
            )
            _complain([file for file in kept if file.kept.status == status], f"stays: its asset {todo}")
        if left := _rest(safe, done):
            _complain(left, "stays: nothing says that Immich deleted its asset, or it could not be deleted")


async def _files(settings: Settings, user: str, path: str) -> list[_File]:
    """What is in quarantine, oldest first."""
    async with database(settings, "quarantine") as connection:
        owners = await Library(connection).all_owners()
        if user:
            owners = [find_owner(owners, user)]
        root = settings.require_sync_root() if path.startswith("/") else Path()
        owners, inside = within(owners, root, path)
        return [_File(owner, kept) for owner in owners for kept in await quarantined(connection, owner.id, inside)]


def _nothing_at(settings: Settings, user: str, path: str) -> NoSuchFile:
    """What to raise where nothing in quarantine was at or below this path."""
    were = [(file.owner, PurePath(printable(file.kept.path))) for file in run_async(_files(settings, user, ""))]
    places = [(owner, str(place)) for owner, file in were for place in (file, *file.parents) if place.name]
    root = settings.require_sync_root() if path.startswith("/") else Path()
    return NoSuchFile(f"Nothing in quarantine was at or below {path!r}.{nearest(root, path, places)}")


def _chosen(files: Sequence[_File], numbers: Sequence[int] | None, otherwise: str, option: str) -> list[_File]:
    """The files with these numbers, or all where ``option`` has another choice; NoSuchFile for what is not there."""
    if not numbers:
        if not otherwise:
            raise typer.BadParameter(f"name the files by their numbers, or with {option}.")
        return [*files]
    found = {file.kept.id: file for file in files}
    if missing := [str(number) for number in numbers if number not in found]:
        raise NoSuchFile(f"Not in quarantine: {', '.join(missing)}. See: immich-dbsync quarantine list")
    return [found[number] for number in dict.fromkeys(numbers)]


def _not_paused(settings: Settings, files: Sequence[_File], *, named: bool) -> list[_File]:
    """The files of those who are not paused. Who else there is is said; raises NoSuchUser where they were ``named``."""

    async def look() -> list[Owner]:
        async with database(settings, "quarantine") as connection:
            return await paused_of(connection, dict.fromkeys(file.owner for file in files))

    paused = run_async(look())
    if paused and (named or all(file.owner in paused for file in files)):
        raise refusal(paused)
    for owner in paused:
        typer.echo(f"{owner.email} is paused, and their files are left out. Go on with: {way_on(owner)}", err=True)
    return [file for file in files if file.owner not in paused]


# --- asked of the service, or done here ---


def _ask(settings: Settings, files: Sequence[_File], question: Callable[[Collection[int]], Question]) -> dict[int, str]:
    """Have it done for these files: the numbers of those for which it was, and their paths."""
    if not files:
        return {}
    configure("console", "error")
    with progress.shown("asking the service") as tell:
        return run_async(_asked(settings, files, question, tell))


async def _asked(
    settings: Settings, files: Sequence[_File], question: Callable[[Collection[int]], Question], tell: Progress
) -> dict[int, str]:
    url = settings.require_database_url()
    async with asyncpg.create_pool(url, min_size=1, max_size=2, connection_class=Connection) as pool:
        found, _ = await accounts(Library(pool), settings.require_api_keys())
        by_owner = {account.owner.id: account for account in found}
        for file in files:
            if file.owner.id not in by_owner:
                raise KeyRefused(
                    f"No API key belongs to {file.owner.email}, who is not synced: move the file by hand, from "
                    f"{settings.require_sync_root() / str(file.owner.id) / '.immich-dbsync' / 'quarantine'}."
                )
        asked: dict[Account, Question] = {}
        for owner in dict.fromkeys(file.owner.id for file in files):
            asked[by_owner[owner]] = question([file.kept.id for file in files if file.owner.id == owner])
        answered = await answers(settings, pool, asked, tell)
    done = {int(number): path for result in answered.results.values() for number, path in result["done"].items()}
    left_out = [f"{account.owner.email} was left out: {error}." for account, error in answered.unusable.items()]
    if left_out and not done:
        raise RootUnusable(" ".join(left_out))
    for sentence in left_out:
        typer.echo(f"immich-dbsync: {sentence}", err=True)
    return done


# --- to be read ---


def _told(files: Sequence[_File], done: dict[int, str]) -> list[dict[str, Any]]:
    return [{"id": f.kept.id, "user": f.owner.email, "path": done[f.kept.id]} for f in files if f.kept.id in done]


def _rest(files: Sequence[_File], done: Collection[int]) -> list[_File]:
    return [file for file in files if file.kept.id not in done]


def _complain(files: Sequence[_File], why: str) -> None:
    for file in files:
        typer.echo(f"! {file.kept.id}: {printable(file.kept.path)} {why}", err=True)
    raise typer.Exit(NEEDS_SOMEBODY)


def _sum(files: Sequence[_File]) -> str:
    return f"{counted(len(files), 'file')}, {decimal(sum(file.kept.size for file in files))}"


def _json(file: _File, settings: Settings) -> dict[str, Any]:
    kept = file.kept
    return {
        "id": kept.id,
        "user": file.owner.email,
        "owner": file.owner.id,
        "path": printable(kept.path),
        "location": printable(kept.location),
        "size": kept.size,
        "since": kept.quarantined_at,
        "asset": "gone" if kept.gone and kept.status is None else kept.status,
        "superseded": kept.superseded,
        "purged_after": file.purged_after(settings),
    }
