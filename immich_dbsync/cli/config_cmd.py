"""``immich-dbsync config``: the settings in force, and where each comes from."""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr

from immich_dbsync.cli.common import (
    AsJson,
    print_json,
    print_table,
    refuse_unknown_keys,
    refuse_unknown_variables,
    valid_settings,
)
from immich_dbsync.credentials import MASK, masked_url
from immich_dbsync.errors import SettingsError
from immich_dbsync.settings import Settings, config_file, names_of

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The settings in force.",
    epilog="Example: immich-dbsync config show",
)

_URLS = {"database_url", "server_url"}


@app.callback()
def _group() -> None:
    """Look at the settings in force."""  # with a callback `show` is a command of its own, though it is the only one


@dataclass(frozen=True, slots=True)
class _Setting:
    """``name`` as in the settings file, or Immich's variable; ``value`` is null where none is set."""

    name: str
    value: str | None
    source: str


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show every setting, and where it comes from: a variable, the settings file, or the default. Secrets are masked.

    What is missing or makes no sense is said below; then the exit code is 3.

    Example: immich-dbsync config show
    """
    problems: list[str] = []
    file = _tried(problems, config_file)
    for check in (refuse_unknown_variables, refuse_unknown_keys):
        _tried(problems, check)
    settings = _tried(problems, _settings)
    if settings is not None:
        for need in (settings.require_database_url, settings.require_sync_root, settings.require_api_keys):
            _tried(problems, need)
    problems = [*dict.fromkeys(problems)]
    shown = [_setting(name, file, settings) for name in Settings.model_fields]
    if as_json:
        named = str(file) if file is not None else None
        print_json({"file": named, "settings": [asdict(each) for each in shown], "problems": problems})
    else:
        print_table(("setting", "value", "from"), [(each.name, each.value or "none", each.source) for each in shown])
        for problem in problems:
            typer.echo(f"! {problem}", err=True)
    if problems:
        raise typer.Exit(SettingsError.exit_code)


def _settings() -> Settings | None:
    """The settings; None where their file can't be read, which is said by whoever looks at its keys."""
    try:
        return valid_settings()
    except (ValueError, OSError):
        return None


def _tried(problems: list[str], ask: Callable[[], Any]) -> Any:
    """The answer; or None, and one problem more."""
    try:
        return ask()
    except SettingsError as error:
        problems.append(str(error))
        return None


def _keys(file: Path | None) -> Mapping[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    except (OSError, ValueError):  # said elsewhere
        return {}


def _setting(name: str, file: Path | None, settings: Settings | None) -> _Setting:
    value: Any = None
    source = "default"
    for where, place in (("variable", os.environ), (str(file), _keys(file))):
        found = next((each for each in names_of(name) if place.get(each, "") != ""), None)
        if found is not None:
            value, source = place[found], f"{where} {found}" if place is os.environ else where
            break
    if settings is not None:
        value = getattr(settings, name)
    elif source == "default":
        value = Settings.model_fields[name].get_default()
    if name == "sync_root" and value is None and (common := os.environ.get("SNAP_COMMON")):
        value, source = Path(common) / "sync", "default in a snap"
    return _Setting(name.upper() if name.startswith("db_") else name, _shown(name, value), source)


def _shown(name: str, value: Any) -> str | None:
    if value is None:
        return None
    text = value.get_secret_value() if isinstance(value, SecretStr) else _text(value)
    if name in _URLS:
        return masked_url(text)
    return MASK if "SecretStr" in str(Settings.model_fields[name].annotation) else text


def _text(value: Any) -> str:
    match value:
        case Enum():
            return str(value.value)
        case Mapping():
            return ";".join(f"{key}={_text(each)}" for key, each in value.items())
        case tuple() | list():
            return " ".join(map(_text, value))
        case frozenset():
            return " ".join(sorted(map(_text, value)))
        case _:
            return str(value)
