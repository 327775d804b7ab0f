"""``immich-dbsync resync``: a full comparison now."""

from collections import Counter

import asyncpg
import typer

from immich_dbsync.cli.common import console_errors, load_settings, print_json, print_table, run_async
from immich_dbsync.core.actions import Action, Drop, Leave, PutBack, Quarantine, Supersede, Trash, Upload
from immich_dbsync.disk.root import Root
from immich_dbsync.errors import KeyRefused, RootUnusable, ServerUnreachable
from immich_dbsync.immich.library import Library
from immich_dbsync.service.gate import unreachable
from immich_dbsync.service.listener import connect
from immich_dbsync.service.logs import printable
from immich_dbsync.service.observe import RootLost
from immich_dbsync.service.plan import plan
from immich_dbsync.service.scan import Tally
from immich_dbsync.service.session import Account, accounts
from immich_dbsync.settings import Settings

app = typer.Typer(add_completion=False)

Line = tuple[str, str, str, str]
"""User, what would be done, path, why."""


@app.command()
def resync(
    user: str = typer.Option("", "--user", help="Only this user: e-mail address or id."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be done; change nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compare every folder with Immich and show what would be done.

    A running service compares by itself at its start and every few hours. Example: immich-dbsync resync --dry-run
    """
    if not dry_run:
        raise typer.BadParameter(
            "only --dry-run can be done yet; to compare now, restart the service", param_hint="resync"
        )
    with console_errors():
        settings = load_settings()
        lines, tally = run_async(_lines(settings, user))
        totals = Counter(line[1] for line in lines)
        if as_json:
            planned = [{"user": u, "action": action, "path": path, "why": why} for u, action, path, why in lines]
            print_json({"planned": planned, "totals": totals, "files": tally.files})
        else:
            print_table(("user", "would", "path", "why"), lines)
        said = ", ".join(f"{count} to {action}" for action, count in sorted(totals.items())) or "nothing to do"
        typer.echo(f"{tally.files} files compared: {said}. Nothing was changed.", err=True)
        if reason := run_async(unreachable(settings)):
            raise ServerUnreachable(f"None of it can be done now: {reason}. Start Immich, or mend the server URL.")


async def _lines(settings: Settings, user: str) -> tuple[list[Line], Tally]:
    url = settings.require_database_url()
    await (await connect(url, "immich-dbsync resync")).close()  # errors of the login in our own words
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        found, problems = await accounts(Library(pool), settings.require_api_keys())
        if not found:
            raise KeyRefused(problems[0] + ".")
        for problem in problems:
            typer.echo(f"immich-dbsync: {problem}.", err=True)
        lines: list[Line] = []
        tally = Tally()
        for account in _chosen(found, user):
            folder = settings.require_sync_root() / str(account.owner.id)
            one = Tally()
            try:
                with Root(folder) as root:
                    async for action in plan(settings, pool, account.owner.id, root, one):
                        lines += _describe(account.owner.email, action)
            except RootLost as error:
                raise RootUnusable(f"{str(folder)!r} is {error.health.value}: mount or put back the folder.") from error
            tally.files += one.files
        return lines, tally


def _chosen(found: list[Account], user: str) -> list[Account]:
    if not user:
        return found
    chosen = [account for account in found if user in {account.owner.email, str(account.owner.id)}]
    if not chosen:
        known = ", ".join(account.owner.email for account in found)
        raise KeyRefused(f"No API key belongs to {user!r}. There are keys of: {known}.")
    return chosen


def _describe(user: str, action: Action) -> list[Line]:
    match action:
        case Upload():
            return [(user, "upload", printable(path), "new in the folder") for path in action.paths]
        case Trash():
            return [(user, "trash", printable(path), "deleted from the folder") for path in action.paths]
        case PutBack() | Supersede():
            verb = "put back" if isinstance(action, PutBack) else "leave in quarantine"
            return [(user, verb, printable(action.entry.path), "its asset was restored in Immich")]
        case Quarantine():
            return [(user, "quarantine", printable(action.path), action.why.value)]
        case Leave():
            return [(user, "leave alone", printable(action.path), action.why.value)]
        case _:
            verbs = {"Adopt": "adopt", "Restore": "restore", "Drop": "forget", "Refresh": "refresh", "Identify": "hash"}
            whys = {"Adopt": "Immich has the same picture", "Restore": "it came back after its asset was trashed"}
            why = action.why.value if isinstance(action, Drop) else whys.get(type(action).__name__, "")
            return [(user, verbs[type(action).__name__], printable(action.path), why)]
