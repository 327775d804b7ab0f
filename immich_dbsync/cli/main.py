"""The command ``immich-dbsync`` and its sub-commands, one module each, loaded when it is asked for."""

from functools import partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from immich_dbsync import __version__
from immich_dbsync.cli import streams
from immich_dbsync.cli.silent import silent
from immich_dbsync.wording import did_you_mean

COMMANDS = (
    "run",
    "status",
    "doctor",
    "resync",
    "holds",
    "quarantine",
    "history",
    "users",
    "config",
    "triggers",
    "demo",
)
"""In the order of the help. The command ``x`` is the ``app`` of ``immich_dbsync.cli.x_cmd``."""


class _Commands(TyperGroup):
    """Loads only the command that was typed: all of them together take a second."""

    # Any, because the classes of contexts and commands are private to typer.
    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in {"help", "version"}:
            ctx.fail(f"No such command {cmd_name!r}. Did you mean immich-dbsync --{cmd_name}?")
        if cmd_name not in COMMANDS:
            ctx.fail(f"No such command {cmd_name!r}.{did_you_mean(cmd_name, COMMANDS, repr)}")
        command = get_command(import_module(f"immich_dbsync.cli.{cmd_name}_cmd").app)
        command.name = cmd_name
        _tidy(command)
        return command

    def get_params(self, ctx: Any) -> Any:
        _tidy(self)
        return super().get_params(ctx)


def _tidy(command: Any) -> None:
    """Have the help unbroken in its paragraphs, asked for with -h too, and without the names of Python's types."""
    command.help = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    asked_for = command.get_help_option(typer.Context(command, help_option_names=["-h", "--help"]))
    for parameter in (*command.params, asked_for):
        is_argument = parameter.param_type_name == "argument"
        if parameter.metavar is None or is_argument:
            parameter.display_type_rich = _nothing
        if is_argument and parameter.required:
            parameter.get_usage_pieces = partial(_name_alone, parameter)
    for below in getattr(command, "commands", {}).values():
        _tidy(below)


def _nothing(ctx: Any) -> str:
    del ctx
    return ""


def _name_alone(parameter: Any, ctx: Any) -> list[str]:
    del ctx
    return [parameter.metavar]


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keeps a folder of photos and an Immich library the same, both ways.",
    epilog="Examples:\nimmich-dbsync doctor\nimmich-dbsync status --watch\nimmich-dbsync resync --dry-run",
)


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
    with silent(), streams.checked():
        app(prog_name="immich-dbsync")  # however it was started
