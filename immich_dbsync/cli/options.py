"""Options that several commands have."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from immich_dbsync.cli import completion


def _not_empty(context: typer.Context, parameter: typer.CallbackParam, text: str) -> str:
    """What was given; an empty variable of a script must not mean what no option does: everything."""
    source = context.get_parameter_source(str(parameter.name))
    if not text and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("it is empty: say which, or leave the option out for all.")
    return text


def one_user(completed: Callable[[str], completion.Choices]) -> Any:
    """The option that narrows a command down to one user; ``completed`` says whom a shell offers."""
    return typer.Option(
        "--user",
        metavar="USER",
        help="Only this user: e-mail address, name or id.",
        callback=_not_empty,
        autocompletion=completed,
    )


OneUser = Annotated[str, one_user(completion.users)]
Below = Annotated[
    str,
    typer.Option(
        "--path",
        metavar="PATH",
        help="Only this file or folder: absolute, or below the user's folder.",
        callback=_not_empty,
    ),
]
