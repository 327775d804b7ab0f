"""What every command needs: settings, and errors as one line and an exit code."""

import asyncio
import json
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from pydantic import ValidationError
from rich.console import Console

from immich_dbsync.cli.layout import laid_out
from immich_dbsync.errors import DatabaseUnreachable, DbsyncError, NotConfirmed, NotImmich, SettingsError
from immich_dbsync.service.listener import LOST, connect, reason, right_missing
from immich_dbsync.service.logs import printable
from immich_dbsync.settings import CONFIG_VARIABLE, PREFIX, Settings, config_file, name_in_use, names_of
from immich_dbsync.wording import did_you_mean

T = TypeVar("T")

_MUST_BE = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "string_type": "text in quotes",
    "url_parsing": "a URL such as http://127.0.0.1:2283",
    "url_scheme": "a URL that begins with http:// or https://",
}
"""What pydantic calls an error, and what is said of a setting then."""


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@contextmanager
def console_errors() -> Iterator[None]:
    """Turn our own errors into one line on stderr and their exit code; anything else is a bug and shows itself."""
    try:
        yield
    except DbsyncError as error:
        _leave(error)
    except BaseExceptionGroup as group:  # from tasks that ran side by side
        known, others = group.split(DbsyncError)
        if known is None or others is not None:
            raise
        _leave(known)


def _leave(error: BaseException) -> NoReturn:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, DbsyncError)
    typer.echo(f"immich-dbsync: {plain(' '.join(str(error).split()))}", err=True)
    raise typer.Exit(error.exit_code) from None


def load_settings() -> Settings:
    """The settings in force; raises SettingsError that names the setting and what is wrong with it."""
    refuse_unknown_variables()
    refuse_unknown_keys()
    return valid_settings()


def valid_settings() -> Settings:
    """The settings, whatever else is set besides; raises SettingsError for values that make no sense."""
    try:
        return Settings()
    except ValidationError as error:
        found = error.errors()
        wrong = (f"{_setting(each['loc'][0])}: {_wrong(each['type'], each['msg'])}" for each in found)
        near = "".join(_near_value(each["input"], each.get("ctx", {}).get("expected", "")) for each in found)
        raise SettingsError(f"A setting makes no sense: {'; '.join(wrong)}.{near}") from None


def _near_value(value: object, expected: str) -> str:
    """A hint at the value that may have been meant, where it is one of a few, which pydantic has in quotes."""
    return did_you_mean(str(value), re.findall(r"'([^']*)'", expected))


def _wrong(kind: str, said: str) -> str:
    """What is wrong with a setting, after its name; never with its value, which may be a secret."""
    if kind in _MUST_BE:
        return f"it must be {_MUST_BE[kind]}"
    return said.removeprefix("Value error, ").replace("Input should ", "it must ", 1)


def _setting(name: object) -> str:
    """A setting as whoever set it called it; pydantic names its strongest name."""
    field = next((field for field in Settings.model_fields if name in {field, *names_of(field)}), None)
    return str(name) if field is None else name_in_use(field)


def refuse_unknown_variables() -> None:
    """Raise SettingsError, with the nearest one, for a variable that looks like one of ours and is none."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields if not name.startswith("db_")}
    known.add(CONFIG_VARIABLE)
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(f"There is no setting {variable}.{did_you_mean(variable, known)}")


def refuse_unknown_keys() -> None:
    """Raise SettingsError for a settings file that can't be read, or has a key that is no setting."""
    file = config_file()
    if file is None:
        return
    try:
        keys = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} can't be read: {error.strerror}.") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise SettingsError(f"{file} is not valid TOML: {reason(error)}.") from error
    known = {name for field in Settings.model_fields for name in names_of(field)}
    for key in keys:
        if key not in known:
            raise SettingsError(f"There is no setting {key!r}, which {file} has.{did_you_mean(key, known)}")


def run_async(work: Coroutine[None, None, T]) -> T:
    """Run one command's work; errors of the database become ours."""
    with errors_of_ours():
        return asyncio.run(work)


@contextmanager
def errors_of_ours() -> Iterator[None]:
    """Have what PostgreSQL says raised as what a user can do about it."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise right_missing(error) from error
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as error:
        raise NotImmich(
            f"This is no database of a supported Immich: {reason(error)}. Is it the right one, has Immich started?"
        ) from error
    except (*LOST, asyncpg.InterfaceError) as error:
        raise DatabaseUnreachable(f"The connection to PostgreSQL was lost: {reason(error)}. Try again.") from error


@asynccontextmanager
async def database(settings: Settings, name: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection to Immich's database for the command ``name``; errors of the login as ours."""
    connection = await connect(settings.require_database_url(), f"immich-dbsync {name}")
    try:
        yield connection
    finally:
        await connection.close()


def confirm(question: str, *, yes: bool) -> None:
    """Return when a person says yes, or said so before; raises NotConfirmed where nobody can be asked, and for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed("Nobody can be asked here: add --yes if you are sure. Nothing was changed.")
    try:
        sure = typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or Ctrl-D
        typer.echo(err=True)
        sure = False
    if not sure:
        raise NotConfirmed("Nothing was changed.")


def plain(text: str) -> str:
    """Text for a terminal or a line of its own: what is not printable in it is escaped, whoever chose it."""
    return text if text.isprintable() else printable(text.encode("utf-8", "surrogateescape"))


def local(moment: datetime) -> str:
    """A moment in this machine's zone, for a table."""
    return moment.astimezone().isoformat(" ", "seconds")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal, laid out for its width, nothing where there are no rows; tab-separated lines in a pipe."""
    shown = [[plain(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in shown:
            typer.echo("\t".join(row))
    elif shown:
        console = Console(highlight=False)
        # What is not laid out in columns has lines that the terminal itself may break: they can be copied whole.
        console.print(*laid_out(columns, shown, console.width), sep="\n", soft_wrap=True)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object with its shape's version; times in ISO 8601."""
    typer.echo(json.dumps({"version": 1, **value}, indent=2 if sys.stdout.isatty() else None, default=_as_json))


def _as_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
