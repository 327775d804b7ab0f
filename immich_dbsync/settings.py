"""The settings: environment ``IMMICH_DBSYNC_*`` over a TOML file over defaults; Immich's own names work too."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AliasChoices, AnyHttpUrl, Field, FiniteFloat, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from immich_dbsync.credentials import checked_url, read_keys, size
from immich_dbsync.errors import SettingsError
from immich_dbsync.model import Policy

PREFIX = "IMMICH_DBSYNC_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEFAULT_CONFIG = Path("/etc/immich-dbsync.toml")
SNAP_VARIABLE = "DBSYNC_SNAP"
"""Holds the name of the snap whose options the settings are, where that is so: the command line in a snap sets it."""

_PROGRAM = "immich-dbsync"


def _alias(name: str, *immich_names: str) -> AliasChoices:
    """A setting's names, strongest first: our variable, its key in the TOML file, Immich's own variables."""
    return AliasChoices(f"{PREFIX}{name.upper()}", name, *immich_names)


class Settings(BaseSettings):
    """What an administrator can set. Times are in seconds."""

    model_config = SettingsConfigDict(
        case_sensitive=True,
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,  # a variable that is set to nothing, as compose files do it, is not set
    )

    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=_alias("database_url", "DB_URL"),
        description="URL of Immich's database. Special characters in user and password are written as `%XX`.",
        examples=["postgresql://postgres:PASSWORD@127.0.0.1:5432/immich"],
    )
    db_hostname: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DB_HOSTNAME"),
        description="Host of Immich's database, where no URL is set; or the folder that holds its Unix socket.",
    )
    db_port: int = Field(
        default=5432, ge=1, le=65535, validation_alias=AliasChoices("DB_PORT"), description="Its port."
    )
    db_username: str = Field(
        default="postgres", validation_alias=AliasChoices("DB_USERNAME"), description="The role to log in as."
    )
    db_password: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("DB_PASSWORD"), description="The role's password, as it is."
    )
    db_database_name: str = Field(
        default="immich", validation_alias=AliasChoices("DB_DATABASE_NAME"), description="The database's name."
    )

    server_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://127.0.0.1:2283"),
        validation_alias=_alias("server_url", "IMMICH_SERVER_URL"),
        description="Address of Immich's server, without `/api`.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        validation_alias=_alias("api_keys_file"),
        description="File with one API key a line, which nobody but its owner may read (mode 0600); `#` begins a"
        " comment line. `users add` makes it. It is read again when it changes.",
        examples=["/etc/immich-dbsync.keys"],
    )
    api_keys: SecretStr | None = Field(
        default=None,
        validation_alias=_alias("api_keys"),
        description="API keys, one for each user, separated by spaces. They go before those of the file.",
    )

    sync_root: Path | None = Field(
        default=None,
        validation_alias=_alias("sync_root"),
        description="Folder that holds one folder for each user, named by the user's id. In a snap, if it is not set,"
        " `$SNAP_COMMON/sync`.",
        examples=["/srv/immich-sync"],
    )
    exclude: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias=_alias("exclude"),
        description="Globs of files and folders to leave alone, matched against name and path; `*` also spans `/`."
        " Separated by spaces, or a list in the file.",
        examples=["*.sync-conflict-* Screenshots"],
    )
    settle_time: FiniteFloat = Field(
        default=1.0,
        ge=0,
        validation_alias=_alias("settle_time"),
        description="Seconds that a file must have been left in peace before it is looked at.",
    )
    move_grace: FiniteFloat = Field(
        default=10.0,
        ge=0,
        validation_alias=_alias("move_grace"),
        description="Seconds that a deletion waits for the same picture to turn up at another path.",
    )
    scan_interval: FiniteFloat = Field(
        default=6 * 3600.0,
        gt=0,
        validation_alias=_alias("scan_interval"),
        description="Seconds between two full scans, give or take a tenth.",
    )

    delete_threshold: int = Field(
        default=30,
        ge=0,
        validation_alias=_alias("delete_threshold"),
        description="Days. A picture that has been in Immich for longer stays there when it is deleted from the folder."
        " 0 means that age protects nothing, so that every deletion in the folder reaches Immich.",
    )
    protect: Annotated[frozenset[Literal["favourites", "albums"]], NoDecode] = Field(
        default=frozenset(),
        validation_alias=_alias("protect"),
        description="Assets that stay in Immich when deleted from the folder: favourites, those in albums, or both."
        " Separated by spaces, or a list in the file.",
        examples=["favourites albums"],
    )
    policy: Policy = Field(
        default=Policy.MIRROR,
        validation_alias=_alias("policy"),
        description="What a deletion does, for folders without a policy of their own: see"
        " [decisions](decisions.md#policies).",
    )
    policies: Annotated[dict[str, Policy], NoDecode] = Field(
        default={},
        validation_alias=_alias("policies"),
        description="Folders with a policy of their own, as they are called below each user's; the longest path wins."
        " In a variable as `Camera=archive;Old phone=backup`, in the file a table.",
        examples=[{"Camera": "archive", "Old phone": "backup"}],
    )
    hold_min: int = Field(
        default=25,
        ge=0,
        validation_alias=_alias("hold_min"),
        description="Up to this many deletions from the folder at once are carried out without asking, unless they"
        " empty a folder of ten files or more.",
    )
    hold_fraction: FiniteFloat = Field(
        default=0.2,
        ge=0,
        le=1,
        validation_alias=_alias("hold_fraction"),
        description="Deletions from the folder wait for a person if they are more than `hold_min` and more than this"
        " share of the user's files.",
    )
    quarantine_retention: int = Field(
        default=30,
        ge=0,
        validation_alias=_alias("quarantine_retention"),
        description="Days that a file stays in quarantine at least; 0 means for ever.",
    )

    uploads: int = Field(
        default=4,
        ge=1,
        le=32,
        validation_alias=_alias("uploads"),
        description="Uploads at the same time; one more for each further user.",
    )
    heartbeat: FiniteFloat = Field(
        default=15.0,
        gt=0,
        validation_alias=_alias("heartbeat"),
        description="Seconds of silence after which the database connection is tested.",
    )
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        validation_alias=_alias("metrics_port"),
        description="Port of this machine's loopback at which Prometheus finds `/metrics`, and others `/healthz` and"
        " `/readyz`: see [monitoring](monitoring.md). With 0 nothing listens.",
        examples=[9283],
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto",
        validation_alias=_alias("log_format"),
        description="How the log is written; `auto` is `console` on a terminal and `json` elsewhere.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", validation_alias=_alias("log_level"), description="The least severe level that is logged."
    )

    @field_validator("exclude", "protect", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("policies", mode="before")
    @classmethod
    def _folder_policies(cls, value: object) -> object:
        """From the environment ``folder=policy`` pairs between semicolons; from TOML a table."""
        if not isinstance(value, str):
            return value
        pairs = [pair.strip() for pair in value.split(";") if pair.strip()]
        if not all("=" in pair for pair in pairs):
            raise ValueError("write folder=policy, and a semicolon between two")
        return {folder.strip(): policy.strip() for folder, _, policy in (pair.rpartition("=") for pair in pairs)}

    @field_validator("policies")
    @classmethod
    def _plain_folders(cls, value: dict[str, Policy]) -> dict[str, Policy]:
        plain = {folder.strip("/"): policy for folder, policy in value.items()}
        for folder in plain:
            if not folder or any(part in {"", ".", ".."} for part in folder.split("/")):
                raise ValueError("name folders as they are below the user's own, as in Camera or Camera/2026")
        return plain

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the parent class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    def require_database_url(self) -> str:
        """The database's URL; raises SettingsError where neither a URL nor a host name is set, or the URL is none."""
        if self.database_url is not None:
            return checked_url(self.database_url.get_secret_value())
        if self.db_hostname is None:
            raise SettingsError(
                "No database is set. Set"
                f" {assignment('database_url', 'postgresql://user:password@host:5432/immich')}"
                " (or Immich's own DB_HOSTNAME, DB_USERNAME, DB_PASSWORD, DB_DATABASE_NAME)."
            )
        password = f":{quote(self.db_password.get_secret_value(), safe='')}" if self.db_password else ""
        user = quote(self.db_username, safe="")
        name = quote(self.db_database_name, safe="")
        if self.db_hostname.startswith("/"):  # a folder with a Unix socket, as libpq understands it
            return f"postgresql://{user}{password}@/{name}?host={quote(self.db_hostname)}&port={self.db_port}"
        host = f"[{self.db_hostname}]" if ":" in self.db_hostname else self.db_hostname  # an IPv6 address
        return checked_url(f"postgresql://{user}{password}@{host}:{self.db_port}/{name}")

    def require_sync_root(self) -> Path:
        """The folder above the owners' roots; raises SettingsError where it is not set or relative."""
        root = self.sync_root
        if root is None and (snap_common := os.environ.get("SNAP_COMMON")):
            root = Path(snap_common) / "sync"
        if root is None:
            raise SettingsError(
                f"No sync root is set. Set {name_in_use('sync_root')} to the folder that holds the users' folders."
            )
        if not root.is_absolute():
            raise SettingsError(f"{name_in_use('sync_root')} must be an absolute path, not {str(root)!r}.")
        return root

    def api_keys_or_none(self) -> tuple[str, ...]:
        """Every API key, or none: before the first is made a file that is missing or empty is no mistake.

        Raises SettingsError for a file that others may read, or that can't be read.
        """
        file = self.api_keys_file
        in_file = read_keys(file) if file is not None and size(file) > 0 else []
        return tuple(dict.fromkeys([*self.api_keys_in_variable(), *in_file]))

    def api_keys_in_variable(self) -> tuple[str, ...]:
        """The API keys that are set themselves, and not by a file."""
        return tuple(self.api_keys.get_secret_value().split()) if self.api_keys else ()

    def require_api_keys(self) -> tuple[str, ...]:
        """Every API key, each once; raises SettingsError for none, and for a file that others may read."""
        in_file = read_keys(self.api_keys_file) if self.api_keys_file is not None else []
        keys = tuple(dict.fromkeys([*self.api_keys_in_variable(), *in_file]))
        if not keys:
            made = name_in_use("api_keys_file")
            first = "Run" if self.api_keys_file is not None else f"Set {made} and run"
            raise SettingsError(
                f"No API key is set. {first}: immich-dbsync users add EMAIL. Or make a key in"
                f" Immich (Account settings, API keys; permissions asset.upload, asset.delete and asset.copy) and set"
                f" {name_in_use('api_keys')}."
            )
        return keys


def names_of(field: str) -> list[str]:
    """What a setting may be called, strongest first, in the environment and in the file."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return [str(choice) for choice in alias.choices]


def program() -> str:
    """What to type to run this program. A snap of another name has it as one of its commands."""
    snap = os.environ.get(SNAP_VARIABLE, _PROGRAM)
    return snap if snap.partition("_")[0] == _PROGRAM else f"{snap}.dbsync"  # after a _ stands which instance it is


def option(field: str) -> str:
    """What a setting is called among a snap's options."""
    return f"dbsync.{field.replace('_', '-')}"


def assignment(field: str, value: str) -> str:
    """What to write for a setting to have this value: a variable, or a snap's option where these are the settings."""
    if snap := os.environ.get(SNAP_VARIABLE):
        return f"it with: snap set {snap} {option(field)}={value}"
    return f"{PREFIX}{field.upper()}={value}"


def name_in_use(field: str) -> str:
    """What a setting is called where its value comes from; its strongest name where it is not set."""
    names, file = names_of(field), config_file()
    if os.environ.get(SNAP_VARIABLE) and not any(os.environ.get(name) for name in names[1:]):
        return option(field)
    keys = tomllib.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    return next(
        (name for name in names if os.environ.get(name)), next((name for name in names if name in keys), names[0])
    )


def config_file() -> Path | None:
    """The TOML file in force: what ``IMMICH_DBSYNC_CONFIG`` names, else the default one where it exists.

    A default one that may not even be looked at, as from a confined snap, is not meant for us.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    try:
        if named and not Path(named).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE} names {named!r}, which is no file.")
        return Path(named) if named else DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
    except OSError as error:
        if named:
            raise SettingsError(f"{CONFIG_VARIABLE} names {named!r}: {error.strerror}.") from error
        return None
