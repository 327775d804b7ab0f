"""``immich-dbsync users add``: a folder, an API key, and the service begins."""

import grp
import pwd
import sys
from typing import Annotated, Any

import typer

from immich_dbsync.cli.common import AsJson, console_errors, database, load_settings, print_json, run_async
from immich_dbsync.errors import KeyRefused, NotConfirmed
from immich_dbsync.service.enrol import Enrolled, Origin, enrol
from immich_dbsync.service.follow import Follows
from immich_dbsync.settings import Settings

User = Annotated[
    str, typer.Argument(metavar="USER", help="An Immich user: e-mail address, id or name.", show_default=False)
]

FOLLOWS = {
    (True, Follows.YES): "The service syncs it now.",
    (True, Follows.NO_SERVICE): "No service runs: start it with `immich-dbsync run`.",
    (
        True,
        Follows.NOT_YET,
    ): "The service has not begun to sync it: see `immich-dbsync status`, and restart the service if"
    " it was started with another file of API keys.",
    (False, Follows.YES): "The service has stopped syncing it.",
    (False, Follows.NO_SERVICE): "No service runs; one that is started leaves it alone.",
    (False, Follows.NOT_YET): "The service has not stopped yet: it is finishing something. See `immich-dbsync status`.",
}
"""What is said of the service: whether the user is to be synced now, and what it makes of that."""


def add(
    user: User,
    folder_owner: Annotated[
        str, typer.Option(metavar="USER[:GROUP]", help="Whose the folder is to be; else as the sync root.")
    ] = "",
    folder_mode: Annotated[
        str, typer.Option(metavar="MODE", help="The folder's permissions, as in 0750; else as the sync root.")
    ] = "",
    key_stdin: Annotated[
        bool,
        typer.Option(
            "--key-stdin", help="Take an API key made in Immich: asked for on a terminal, else one line read."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a user's folder and API key, and sync them; a service that runs begins at once.

    The key is made in Immich's database, with the permissions that are needed and no other, unless one is given.
    It is tested, and kept in the file of API keys. What is in order already stays as it is.

    Example: immich-dbsync users add ada@example.org
    """
    uid, gid = _ids(folder_owner)
    mode = _mode(folder_mode)
    with console_errors():
        settings = load_settings()
        given = _given_key() if key_stdin else None

        async def work() -> Enrolled:
            async with database(settings, "users") as connection:
                return await enrol(connection, settings, user, given=given, uid=uid, gid=gid, mode=mode)

        done = run_async(work())
        if as_json:
            print_json(_enrolled_json(done))
        else:
            _print_enrolled(done, settings)


def _given_key() -> str:
    """From where no `ps` shows it, and without an echo."""
    if sys.stdin.isatty():
        try:
            key: str = typer.prompt("API key", hide_input=True, err=True)
        except typer.Abort:  # Ctrl-C, or Ctrl-D
            typer.echo(err=True)
            raise NotConfirmed("Nothing was changed.") from None
    else:
        key = sys.stdin.readline()
    key = key.strip()
    if not key or not key.isprintable() or len(key.split()) > 1 or key.startswith("#"):
        raise KeyRefused("This is no API key: give the one line that Immich showed when it was made.")
    return key


def _ids(text: str) -> tuple[int | None, int | None]:
    """User and group as numbers, from names or numbers; a group that is not named is the user's own."""
    if not text:
        return None, None
    user, _, group = text.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        if not (user.isdecimal() and group):
            raise typer.BadParameter(f"This system has no user {user!r} for --folder-owner.") from None
        uid, gid = int(user), 0
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise typer.BadParameter(f"This system has no group {group!r} for --folder-owner.") from None
    return uid, gid


def _mode(text: str) -> int | None:
    if not text:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o700 <= mode <= 0o7777 or mode & 0o700 != 0o700:
        raise typer.BadParameter(
            f"--folder-mode {text!r} makes no sense: write it as chmod does, as in 0750, with all for the owner."
        )
    return mode


def _named(uid: int, gid: int) -> str:
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return f"{user}:{group}"


def _print_enrolled(done: Enrolled, settings: Settings) -> None:
    folder = done.folder
    what = "was made" if folder.made else "is there, and stays as it is"
    typer.echo(f"Folder   {folder.path} {what}: owner {_named(folder.uid, folder.gid)}, mode {folder.mode:04o}.")
    said = {
        Origin.KEPT: "there is a good one already",
        Origin.MADE: f"made in Immich's database, tested, and kept in {settings.api_keys_file}",
        Origin.GIVEN: f"tested, and kept in {settings.api_keys_file}",
    }[done.key]
    typer.echo(f"API key  {said}.")
    if done.lacking:
        typer.echo(
            f"         It lacks {', '.join(done.lacking)}: the old version of an edited picture stays in Immich."
        )
    if done.resumed:
        typer.echo(f"{done.owner.email} was paused, and is not any more.")
    typer.echo(FOLLOWS[True, done.follows])
    typer.echo(f"Let the file sync tool fill folders below it: {folder.path}/Camera, say.", err=True)


def _enrolled_json(done: Enrolled) -> dict[str, Any]:
    folder = done.folder
    return {
        "user": done.owner.email,
        "id": done.owner.id,
        "folder": {"path": folder.path, "made": folder.made, "owner": _named(folder.uid, folder.gid)}
        | {"mode": f"{folder.mode:04o}"},
        "key": done.key.value,
        "lacking": done.lacking,
        "resumed": done.resumed,
        "service": done.follows.value,
    }
