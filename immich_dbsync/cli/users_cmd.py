"""``immich-dbsync users``: whose folders are synced."""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from immich_dbsync.cli import completion
from immich_dbsync.cli.common import (
    AsJson,
    Yes,
    confirm,
    console_errors,
    database,
    load_settings,
    print_json,
    print_table,
    run_async,
)
from immich_dbsync.cli.users_add import FOLLOWS, USER_HELP, add
from immich_dbsync.errors import SettingsError
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.service.accounts import accounts
from immich_dbsync.service.follow import Follows
from immich_dbsync.service.leave import Leaving, leaving, part
from immich_dbsync.service.leave import pause as pause_user
from immich_dbsync.service.leave import resume as resume_user
from immich_dbsync.service.listener import lock_key
from immich_dbsync.settings import Settings
from immich_dbsync.store.owners import Owners
from immich_dbsync.store.state import held_locks, installed_or
from immich_dbsync.wording import counted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Whose folders are synced.",
    epilog="Examples:\nimmich-dbsync users list\nimmich-dbsync users add ada@example.org",
)


@dataclass(frozen=True, slots=True)
class _User:
    owner: Owner
    folder: Path
    has_folder: bool
    has_key: bool
    paused: bool
    running: bool

    def state(self) -> str:
        """In a few words: synced, all set up for a service that does not run, or what is missing."""
        if not self.owner.active:
            return "deleted in Immich"
        if self.has_folder and self.has_key:
            return "paused" if self.paused else "synced" if self.running else "set up"
        if self.has_key:
            return "no folder"
        return "no API key" if self.has_folder else "not set up"


async def _users(settings: Settings) -> list[_User]:
    root = settings.require_sync_root()
    async with database(settings, "users") as connection:
        library = Library(connection)
        found, problems = await accounts(library, settings.api_keys_or_none())
        for problem in problems:
            typer.echo(f"immich-dbsync: {problem}.", err=True)
        with_key = {account.owner.id for account in found}
        paused = await installed_or(Owners(connection).paused(), frozenset())
        owners = await library.all_owners()
        held = await held_locks(connection, [lock_key(owner.id) for owner in owners])
        return [
            _User(
                owner,
                root / str(owner.id),
                _is_folder(root / str(owner.id)),
                has_key=owner.id in with_key,
                paused=owner.id in paused,
                running=lock_key(owner.id) in held,
            )
            for owner in owners
        ]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SettingsError(f"{path.parent} can't be read: {error.strerror}. Run as a user who may.") from error


@app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """List Immich's users, their folders, and whether each is synced, or set up for a service that does not run.

    Example: immich-dbsync users list
    """
    with console_errors():
        users = run_async(_users(load_settings()))
        if as_json:
            rows = [
                {"id": user.owner.id, "email": user.owner.email, "name": user.owner.name, "state": user.state()}
                | {"folder": user.folder, "has_folder": user.has_folder, "has_key": user.has_key}
                | {"paused": user.paused, "running": user.running}
                for user in users
            ]
            print_json({"users": rows})
        else:
            rows_text = [(user.owner.email, user.owner.name, user.state(), str(user.folder)) for user in users]
            print_table(("user", "name", "state", "folder"), rows_text)


app.command()(add)

# --- remove ---


@app.command()
def remove(
    user: Annotated[
        str, typer.Argument(metavar="USER", help=USER_HELP, show_default=False, autocompletion=completion.synced_users)
    ],
    delete_key: Annotated[
        bool, typer.Option("--delete-key", help="Delete from Immich the API keys that `users add` made for them.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Sync a user no more: take out their key and forget which file is which asset. Files and assets stay.

    Example: immich-dbsync users remove ada@example.org --delete-key
    """
    with console_errors():
        settings = load_settings()

        async def look() -> Leaving:
            async with database(settings, "users") as connection:
                return await leaving(connection, settings, user, delete_key=delete_key)

        async def work() -> int:
            async with database(settings, "users") as connection:
                return await part(connection, settings, found, delete_key=delete_key)

        found = run_async(look())
        _print_leaving(found, delete_key=delete_key)
        confirm(f"Sync {found.owner.email} no more?", yes=yes)
        deleted = run_async(work())
        if as_json:
            print_json(
                {"user": found.owner.email, "id": found.owner.id, "folder": found.folder, "synced": found.synced}
                | {"quarantined": found.quarantined, "keys_taken_out": len(found.keys), "keys_deleted": deleted}
            )
            return
        typer.echo(f"{found.owner.email} is synced no more.")
        typer.echo(f"What stays: {found.folder} with its pictures, {found.quarantined} in quarantine; and the history.")
        if found.made > deleted:
            typer.echo("Their API key stays in Immich: delete it there, or with --delete-key.")


def _print_leaving(found: Leaving, *, delete_key: bool) -> None:
    """What is about to be done, to whoever is asked; not into the output that a program reads."""
    are = "is" if found.synced == 1 else "are"
    lines = [f"{counted(found.synced, 'file')} of {found.owner.email} {are} synced now; files and assets stay."]
    if found.keys:
        lines.append(f"To be taken out of the file: {counted(len(found.keys), 'API key')}.")
    lines.append("To be forgotten: which file is which asset, and holds. A later `users add` begins with first sight.")
    if delete_key:
        lines.append(f"To be deleted in Immich: {counted(found.made, 'API key')} made by `users add`.")
    for line in lines:
        typer.echo(line, err=True)


# --- pause, resume ---


@app.command()
def pause(
    user: Annotated[
        str,
        typer.Argument(metavar="USER", help=USER_HELP, show_default=False, autocompletion=completion.users_to_pause),
    ],
    as_json: AsJson = False,
) -> None:
    """Sync a user no more until `resume`, also after a restart. What changes meanwhile is seen to then.

    Example: immich-dbsync users pause ada@example.org
    """
    _pause_or_resume(user, paused=True, as_json=as_json)


@app.command()
def resume(
    user: Annotated[
        str, typer.Argument(metavar="USER", help=USER_HELP, show_default=False, autocompletion=completion.paused_users)
    ],
    as_json: AsJson = False,
) -> None:
    """Sync a paused user again, with all that changed meanwhile on both sides.

    Example: immich-dbsync users resume ada@example.org
    """
    _pause_or_resume(user, paused=False, as_json=as_json)


def _pause_or_resume(user: str, *, paused: bool, as_json: bool) -> None:
    with console_errors():
        settings = load_settings()

        async def work() -> tuple[Owner, bool, Follows]:
            async with database(settings, "users") as connection:
                change = pause_user if paused else resume_user
                return await change(connection, settings, user)

        owner, changed, follows = run_async(work())
        if as_json:
            print_json(
                {"user": owner.email, "id": owner.id, "paused": paused, "changed": changed, "service": follows.value}
            )
            return
        state = "paused" if paused else "not paused"
        typer.echo(f"{owner.email} is {state}." if changed else f"{owner.email} was {state} before.")
        typer.echo(FOLLOWS[not paused, follows])


@app.callback()
def _group() -> None:
    """Whose folders are synced."""
