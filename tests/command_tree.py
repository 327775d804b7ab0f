"""Every command of ours, from the tree that the command line itself walks."""

from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from immich_dbsync.cli.main import app


def tree() -> dict[str, TyperCommand]:
    """Every command that does something, by its words: ``"triggers install"``."""

    def leaves(command: object, words: tuple[str, ...]) -> Iterator[tuple[str, TyperCommand]]:
        if isinstance(command, TyperCommand):
            yield " ".join(words), command
            return
        assert isinstance(command, TyperGroup)
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*words, name))

    return dict(leaves(get_command(app), ()))
