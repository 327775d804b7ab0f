"""The command ``immich-dbsync`` and its sub-commands, one module each."""

import typer

from immich_dbsync import __version__
from immich_dbsync.cli import demo_cmd, resync_cmd, run_cmd, status_cmd, triggers_cmd, users_cmd

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keeps a folder of photos and an Immich library the same, both ways.",
)
app.command("run")(run_cmd.run)
app.command("demo")(demo_cmd.demo)
app.command("status")(status_cmd.status)
app.command("resync")(resync_cmd.resync)
app.add_typer(triggers_cmd.app, name="triggers")
app.add_typer(users_cmd.app, name="users")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"immich-dbsync {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Keep a folder of photos and an Immich library the same, both ways."""
    del version


def main() -> None:
    """Run the command line."""
    app()
