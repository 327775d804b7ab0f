"""The command line inside a snap, whose options ``dbsync.<name>`` are its settings. Launchers and hooks run this.

``python -m immich_dbsync.cli.snapped WORDS`` finds in DBSYNC_OPTIONS what ``snapctl get -d dbsync`` printed. The words
are those of any command, or one of ours: ``snap-check`` says whether the options make sense and whether the service is
to run, ``snap-service`` runs it, ``snap-remove`` takes our schema out of the database.
"""

import json
import os
import sys
from collections.abc import Mapping, MutableMapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import typer

from immich_dbsync.cli import main as command_line
from immich_dbsync.cli.common import console_errors, load_settings
from immich_dbsync.errors import SettingsError
from immich_dbsync.settings import PREFIX, SNAP_VARIABLE, Settings, option
from immich_dbsync.wording import did_you_mean

OPTIONS = "DBSYNC_OPTIONS"
"""The variable that holds the options, as a JSON document."""

_GROUP = "dbsync"
_ENABLED = "enabled"  # the one option that is no setting
_KEYS = ("dbsync", "api-keys")  # below SNAP_COMMON: the file for API keys, unless another one is set


def parse(document: str) -> tuple[dict[str, str], bool]:
    """The settings in a document of options, by the names of their variables; and whether the service is to run.

    Raises SettingsError for what is no option, and for values that no variable can hold.
    """
    # Numbers stay as they were written, and so mean what they mean in a variable.
    found = json.loads(document or "{}", parse_int=str, parse_float=str)
    options = {} if found.get(_GROUP) is None else found[_GROUP]
    if not isinstance(options, dict):
        raise SettingsError(f"{_GROUP} is a group of options, as in {_GROUP}.{_ENABLED}=true.")
    known = [option(name) for name in Settings.model_fields if not name.startswith("db_")] + [f"{_GROUP}.{_ENABLED}"]
    for name in (f"{_GROUP}.{name}" for name in options):
        if name not in known:
            raise SettingsError(f"There is no option {name}.{did_you_mean(name, known)}")
    enabled = options.pop(_ENABLED, False)
    if not isinstance(enabled, bool):
        raise SettingsError(f"{_GROUP}.{_ENABLED} is true or false, not {enabled!r}.")
    values = {name: value for name, value in options.items() if value is not None}
    return {_variable(name): _text(name, value) for name, value in values.items()}, enabled


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper().replace('-', '_')}"


def _text(name: str, value: object) -> str:
    """A value as a variable holds it: lists separated by spaces, tables as pairs separated by semicolons."""
    match value:
        case bool():
            text = str(value).lower()
        case str():
            text = value
        case list() if all(isinstance(each, str) and each.split() == [each] for each in value):
            text = " ".join(value)
        case dict() if all(isinstance(each, str) for each in value.values()):
            text = ";".join(f"{key}={each}" for key, each in value.items())
        case _:
            raise SettingsError(f"{_GROUP}.{name} can't be {json.dumps(value)}: write a single value.")
    if "\0" in text:
        raise SettingsError(f"{_GROUP}.{name} holds a NUL character.")
    return text


def apply(settings: Mapping[str, str], environment: MutableMapping[str, str]) -> None:
    """Put settings into the environment, over what is there; and the file for API keys, where the snap made one."""
    environment.update(settings)
    if snap := environment.get("SNAP_INSTANCE_NAME"):
        environment[SNAP_VARIABLE] = snap
    common = environment.get("SNAP_COMMON")
    if common is not None and (keys := Path(common, *_KEYS)).exists():
        environment.setdefault(f"{PREFIX}API_KEYS_FILE", str(keys))


def _check(*, enabled: bool) -> None:
    """Print whether the service is to run; raises SettingsError when the settings make no sense, or do not suffice."""
    settings = load_settings()
    if enabled or settings.database_url is not None:
        settings.require_database_url()
    if enabled or settings.sync_root is not None:
        settings.require_sync_root()
    if enabled or settings.api_keys is not None:
        settings.require_api_keys()
    typer.echo("enabled" if enabled else "disabled")


def _served(*, enabled: bool) -> bool:
    """Whether the service is to run now: waits until Immich answers."""
    if not enabled:
        snap = os.environ.get("SNAP_INSTANCE_NAME", "SNAP")
        typer.echo(f"immich-dbsync is not enabled. Enable it with: snap set {snap} {_GROUP}.{_ENABLED}=true", err=True)
        return False
    _daemon().wait_for_immich()
    return True


def _daemon() -> ModuleType:
    """What the service needs and no command or hook, which would wait for it to be loaded."""
    return import_module("immich_dbsync.cli.snap_daemon")


def _command(*words: str) -> None:
    sys.argv[:] = ["immich-dbsync", *words]
    command_line.main()


def main() -> None:
    """Run what the arguments say, with the snap's options as settings."""
    words = sys.argv[1:]
    try:
        with console_errors():
            settings, enabled = parse(os.environ.pop(OPTIONS, ""))
            apply(settings, os.environ)
            match words:
                case ["snap-check"]:
                    _check(enabled=enabled)
                case ["snap-service"]:
                    if _served(enabled=enabled):
                        _command("run")
                case ["snap-remove"]:
                    _daemon().remove()
                case _:
                    _command(*words)
    except typer.Exit as left:  # of our own words; commands leave by themselves
        sys.exit(left.exit_code)


if __name__ == "__main__":
    main()
