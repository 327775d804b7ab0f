"""``immich-dbsync users add``: a folder, an API key, and the service begins."""

import grp
import pwd
import shlex
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from immich_dbsync.cli import completion
from immich_dbsync.cli.common import AsJson, console_errors, database, load_settings, print_json, run_async
from immich_dbsync.disk.making import Folder
from immich_dbsync.errors import NEEDS_SOMEBODY, KeyRefused, NotConfirmed
from immich_dbsync.service.enrol import Enrolled, Origin, enrol
from immich_dbsync.service.follow import Follows
from immich_dbsync.settings import Settings
from immich_dbsync.wording import counted, did_you_mean

USER_HELP = "An Immich user: e-mail address, id or name."

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
    user: Annotated[
        str, typer.Argument(metavar="USER", help=USER_HELP, show_default=False, autocompletion=completion.active_users)
    ],
    folder_owner: Annotated[
        str,
        typer.Option(
            metavar="USER[:GROUP]",
            help="Whose the folder is to be; else as the sync root.",
            autocompletion=completion.system_users,
        ),
    ] = "",
    folder_mode: Annotated[
        str,
        typer.Option(
            metavar="MODE", help="The folder's permissions, as in 0750; else as the sync root, without others."
        ),
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
    It is tested, and kept in the file of API keys. What is in order already stays as it is; exits with 12 where that
    is a folder with another owner or mode than was asked for. What fails leaves neither a key nor a folder behind.

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
        mend = _mend(done.folder, uid, gid, mode)
        if as_json:
            print_json(_enrolled_json(done, mend))
        else:
            _print_enrolled(done, settings)
            for line in _about_folder(done, settings, mend, asked=bool(folder_owner)):
                typer.echo(line, err=True)
        if mend:
            raise typer.Exit(NEEDS_SOMEBODY)


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
            near = did_you_mean(user, [each.pw_name for each in pwd.getpwall()])
            raise typer.BadParameter(f"This system has no user {user!r} for --folder-owner.{near}") from None
        uid, gid = int(user), 0
    if group:
        try:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            near = did_you_mean(group, [each.gr_name for each in grp.getgrall()])
            raise typer.BadParameter(f"This system has no group {group!r} for --folder-owner.{near}") from None
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


def _mend(folder: Folder, uid: int | None, gid: int | None, mode: int | None) -> str:
    """The command that makes a folder that was there what was asked for; empty where it is that."""
    path, commands = shlex.quote(str(folder.path)), []
    if uid is not None and gid is not None and (uid, gid) != (folder.uid, folder.gid):
        commands.append(f"chown {_named(uid, gid)} {path}")
    if mode is not None and mode != folder.mode:
        commands.append(f"chmod {mode:04o} {path}")
    return " && ".join(commands)


def _about_folder(done: Enrolled, settings: Settings, mend: str, *, asked: bool) -> Iterator[str]:
    """What is to be said of the folder: is it as was asked, and can whoever fills it do so?"""
    folder, path = done.folder, shlex.quote(str(done.folder.path))
    if mend:
        yield f"! The folder was there before, and was not changed. To have it as you said: {mend}"
    elif folder.made and not asked and folder.uid == 0:
        yield f"It belongs to root. If the file sync tool runs as somebody else, let them have it: chown USER: {path}"
    elif not (folder.made or asked or done.known) and folder.uid != settings.require_sync_root().stat().st_uid:
        whose = _named(folder.uid, folder.gid).partition(":")[0]
        yield f"! It belongs to {whose}, unlike the sync root. If that is not who is to fill it: chown USER: {path}"
    yield f"Let the file sync tool fill folders below it: {folder.path}/Camera, say."


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
    if done.replaced:
        typer.echo(f"         It replaces {counted(done.replaced, 'API key')} of theirs, deleted in Immich.")
    if done.others:
        typer.echo(
            f"! Immich has {counted(done.others, 'more API key')} that `users add` made for them and that nothing here"
            " uses. If no other installation does, have them deleted in Immich (Account settings, API keys).",
            err=True,
        )
    if done.resumed:
        typer.echo(f"{done.owner.email} was paused, and is not any more.")
    typer.echo(FOLLOWS[True, done.follows])


def _enrolled_json(done: Enrolled, mend: str) -> dict[str, Any]:
    folder = done.folder
    return {
        "user": done.owner.email,
        "id": done.owner.id,
        "folder": {"path": folder.path, "made": folder.made, "owner": _named(folder.uid, folder.gid)}
        | {"mode": f"{folder.mode:04o}", "mend": mend},
        "key": done.key.value,
        "replaced": done.replaced,
        "others": done.others,
        "lacking": done.lacking,
        "resumed": done.resumed,
        "service": done.follows.value,
    }
