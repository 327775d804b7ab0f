"""``immich-dbsync users``: whose folders are synced."""

import stat
from dataclasses import dataclass
from pathlib import Path

import typer

from immich_dbsync.cli.common import console_errors, load_settings, print_json, print_table, run_async
from immich_dbsync.errors import SettingsError
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.service.listener import connect
from immich_dbsync.service.session import accounts
from immich_dbsync.settings import Settings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Whose folders are synced.")


@dataclass(frozen=True, slots=True)
class _User:
    owner: Owner
    folder: Path
    has_folder: bool
    has_key: bool

    def state(self) -> str:
        """In a few words, whether this user's folder is synced, and if not, what is missing."""
        if not self.owner.active:
            return "deleted in Immich"
        if self.has_folder and self.has_key:
            return "synced"
        if self.has_key:
            return "no folder"
        return "no API key" if self.has_folder else "not set up"


async def _users(settings: Settings) -> list[_User]:
    connection = await connect(settings.require_database_url(), "immich-dbsync users")
    root = settings.require_sync_root()
    try:
        library = Library(connection)
        found, problems = await accounts(library, settings.api_keys_or_none())
        for problem in problems:
            typer.echo(f"immich-dbsync: {problem}.", err=True)
        with_key = {account.owner.id for account in found}
        return [
            _User(owner, root / str(owner.id), _is_folder(root / str(owner.id)), owner.id in with_key)
            for owner in await library.all_owners()
        ]
    finally:
        await connection.close()


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SettingsError(f"{path.parent} can't be read: {error.strerror}. Run as a user who may.") from error


@app.command("list")
def list_users(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List Immich's users, their folders, and whether each is synced.

    Example: immich-dbsync users list
    """
    with console_errors():
        users = run_async(_users(load_settings()))
        if as_json:
            rows = [
                {"id": user.owner.id, "email": user.owner.email, "name": user.owner.name, "state": user.state()}
                | {"folder": user.folder, "has_folder": user.has_folder, "has_key": user.has_key}
                for user in users
            ]
            print_json({"users": rows})
        else:
            rows_text = [(user.owner.email, user.owner.name, user.state(), str(user.folder)) for user in users]
            print_table(("user", "name", "state", "folder"), rows_text)


@app.callback()
def _group() -> None:
    """Whose folders are synced."""
