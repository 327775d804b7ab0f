import os
import pickle
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from immich_dbsync import settings as module
from immich_dbsync.cli.common import load_settings
from immich_dbsync.errors import SettingsError
from immich_dbsync.settings import Settings

SECRET = "s3cret"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("IMMICH_", "DB_", "SNAP")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(module, "DEFAULT_CONFIG", Path("/no/such.toml"))


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "dbsync.toml"
    file.touch()
    monkeypatch.setenv("IMMICH_DBSYNC_CONFIG", str(file))
    return file


def test_defaults_without_anything_set() -> None:
    settings = load_settings()
    assert (settings.settle_time, settings.move_grace, settings.delete_threshold) == (1.0, 10.0, 30)
    assert (settings.uploads, settings.exclude, settings.log_format) == (4, (), "auto")
    assert str(settings.server_url) == "http://127.0.0.1:2283/"


def test_environment_over_file_over_defaults(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('uploads = 7\nmove_grace = 3.5\nexclude = ["*.raw", "tmp/*"]\n')
    monkeypatch.setenv("IMMICH_DBSYNC_UPLOADS", "9")
    settings = load_settings()
    assert (settings.uploads, settings.move_grace, settings.settle_time) == (9, 3.5, 1.0)
    assert settings.exclude == ("*.raw", "tmp/*")


def test_the_default_file_is_read_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "default.toml"
    file.write_text("uploads = 2\n")
    monkeypatch.setattr(module, "DEFAULT_CONFIG", file)
    assert load_settings().uploads == 2


def test_an_empty_variable_is_not_set(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("uploads = 7\n")
    monkeypatch.setenv("IMMICH_DBSYNC_UPLOADS", "")
    assert load_settings().uploads == 7


def test_globs_in_a_variable_are_separated_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMICH_DBSYNC_EXCLUDE", " *.raw  tmp/* ")
    assert load_settings().exclude == ("*.raw", "tmp/*")


def test_immichs_own_names_work_and_ours_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", "postgresql://immichs@db/immich")
    monkeypatch.setenv("IMMICH_SERVER_URL", "http://immich:2283")
    assert load_settings().require_database_url() == "postgresql://immichs@db/immich"
    assert str(load_settings().server_url) == "http://immich:2283/"
    monkeypatch.setenv("IMMICH_DBSYNC_DATABASE_URL", "postgres://ours@db/immich")
    monkeypatch.setenv("IMMICH_DBSYNC_SERVER_URL", "http://ours")
    assert load_settings().require_database_url() == "postgres://ours@db/immich"
    assert str(load_settings().server_url) == "http://ours/"


def test_a_url_goes_before_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_URL", "postgresql://immichs@db/immich")
    monkeypatch.setenv("DB_HOSTNAME", "elsewhere")
    assert load_settings().require_database_url() == "postgresql://immichs@db/immich"


def _parts(**values: str) -> str:
    return Settings.model_validate({f"DB_{name}": value for name, value in values.items()}).require_database_url()


def test_a_url_is_made_of_its_parts() -> None:
    assert _parts(HOSTNAME="db") == "postgresql://postgres@db:5432/immich"
    assert _parts(HOSTNAME="db", PORT="1234", USERNAME="me", PASSWORD="pw", DATABASE_NAME="pix") == (
        "postgresql://me:pw@db:1234/pix"
    )
    assert _parts(HOSTNAME="::1") == "postgresql://postgres@[::1]:5432/immich"
    assert _parts(HOSTNAME="/run/postgresql", PASSWORD="pw") == (
        "postgresql://postgres:pw@/immich?host=/run/postgresql&port=5432"
    )


@given(password=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_password_survives_the_url(password: str) -> None:
    url = _parts(HOSTNAME="db", USERNAME="a b@c", PASSWORD=password)
    parts = urlsplit(url)
    assert (parts.hostname, parts.port, parts.path) == ("db", 5432, "/immich")
    assert unquote(parts.password or "") == password
    assert unquote(parts.username or "") == "a b@c"
    socket = urlsplit(_parts(HOSTNAME="/run/pg", PASSWORD=password))
    assert unquote(socket.password or "") == password
    assert socket.query == "host=/run/pg&port=5432"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@h/d",
        f"u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}/x@h/d",
        f"postgresql://u:{SECRET}@x@h/d",
        f"postgresql://u:{SECRET}#x@h/d",
        f"postgresql://u:{SECRET}?x@h/d",
        f"postgresql://u:{SECRET}@[h/d",
        f"postgresql://u:{SECRET}@h:port/d",
        f"postgresql://u:{SECRET}\n@h/d",
    ],
)
def test_a_url_that_can_be_misread_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(IMMICH_DBSYNC_DATABASE_URL=SecretStr(url)).require_database_url()  # type: ignore[call-arg]
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_sync_root_is_below_snap_common_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="No sync root is set"):
        load_settings().require_sync_root()
    monkeypatch.setenv("SNAP_COMMON", "/var/snap/immich/common")
    assert load_settings().require_sync_root() == Path("/var/snap/immich/common/sync")
    monkeypatch.setenv("IMMICH_DBSYNC_SYNC_ROOT", "/srv/photos")
    assert load_settings().require_sync_root() == Path("/srv/photos")
    monkeypatch.setenv("IMMICH_DBSYNC_SYNC_ROOT", "photos")
    with pytest.raises(SettingsError, match="absolute"):
        load_settings().require_sync_root()


def test_keys_come_from_both_places_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# Ada's\ntwo\n\n  three \none\n")
    file.chmod(0o600)
    monkeypatch.setenv("IMMICH_DBSYNC_API_KEYS", " one  two ")
    monkeypatch.setenv("IMMICH_DBSYNC_API_KEYS_FILE", str(file))
    assert load_settings().require_api_keys() == ("one", "two", "three")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_keys_file_that_others_may_touch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    file = tmp_path / "keys"
    file.write_text(SECRET)
    file.chmod(mode)
    monkeypatch.setenv("IMMICH_DBSYNC_API_KEYS_FILE", str(file))
    with pytest.raises(SettingsError, match=f"chmod 600 {file}"):
        load_settings().require_api_keys()


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMICH_DBSYNC_DATABASE_URL", f"postgresql://u:{SECRET}@h/d")
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    monkeypatch.setenv("IMMICH_DBSYNC_API_KEYS", SECRET)
    settings = load_settings()
    shown = [repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json()]
    assert all(SECRET not in text for text in shown)


def test_a_wrong_value_is_named_but_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMICH_DBSYNC_UPLOADS", SECRET)
    monkeypatch.setenv("IMMICH_DBSYNC_SERVER_URL", f"{SECRET}")
    with pytest.raises(SettingsError, match=r"IMMICH_DBSYNC_SERVER_URL: .*; IMMICH_DBSYNC_UPLOADS: ") as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    with pytest.raises(ValidationError) as raw:
        Settings()
    assert SECRET not in str(raw.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMMICH_DBSYNC_SETTLE_TIME", "-1"),
        ("IMMICH_DBSYNC_SETTLE_TIME", "inf"),
        ("IMMICH_DBSYNC_MOVE_GRACE", "nan"),
        ("IMMICH_DBSYNC_SCAN_INTERVAL", "0"),
        ("IMMICH_DBSYNC_HEARTBEAT", "0"),
        ("IMMICH_DBSYNC_DELETE_THRESHOLD", "-1"),
        ("IMMICH_DBSYNC_UPLOADS", "0"),
        ("IMMICH_DBSYNC_LOG_FORMAT", "xml"),
        ("IMMICH_DBSYNC_LOG_LEVEL", "INFO!"),
        ("IMMICH_DBSYNC_SERVER_URL", "ftp://immich"),
        ("DB_PORT", "0"),
        ("DB_PORT", "65536"),
    ],
)
def test_values_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("IMMICH_DBSYNC_SYNCROOT", "IMMICH_DBSYNC_SYNC_ROOT"),
        ("IMMICH_DBSYNC_API_KEY", "IMMICH_DBSYNC_API_KEYS"),
        ("IMMICH_DBSYNC_DB_URL", ""),
        ("IMMICH_DBSYNC_CONFG", "IMMICH_DBSYNC_CONFIG"),
        ("IMMICH_DBSYNC_QQQQQQQQQQQQQQQQQQQQ", ""),
    ],
)
def test_a_mistyped_variable_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, wrong: str, meant: str
) -> None:
    monkeypatch.setenv(wrong, SECRET)
    with pytest.raises(SettingsError, match=f"There is no setting {wrong}") as caught:
        load_settings()
    assert SECRET not in str(caught.value)
    if meant:
        assert str(caught.value).endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize("key", ["uploads", "IMMICH_DBSYNC_UPLOADS"])
def test_a_file_may_use_either_name(toml: Path, key: str) -> None:
    toml.write_text(f"{key} = 7\n")
    assert load_settings().uploads == 7


def test_a_mistyped_key_of_a_file_is_refused_with_a_suggestion(toml: Path) -> None:
    toml.write_text("upload = 7\n")
    with pytest.raises(SettingsError, match=r"There is no setting 'upload', .* Did you mean uploads\?"):
        load_settings()


@pytest.mark.parametrize("text", [b"uploads = ", b"\xff", b"uploads = 1\nuploads = 2\n"])
def test_a_file_that_is_no_toml_is_named(toml: Path, text: bytes) -> None:
    toml.write_bytes(text)
    with pytest.raises(SettingsError, match=f"{toml} is not valid TOML") as caught:
        load_settings()
    assert str(caught.value).isprintable()


def test_errors_are_values() -> None:
    assert str(pickle.loads(pickle.dumps(SettingsError("said")))) == "said"


@pytest.mark.parametrize(
    ("variables", "in_file", "named"),
    [
        ({"IMMICH_DBSYNC_UPLOADS": "many"}, "uploads = 3", "IMMICH_DBSYNC_UPLOADS"),
        ({"IMMICH_DBSYNC_UPLOADS": ""}, "uploads = 'many'", "uploads"),
        ({}, "uploads = 'many'", "uploads"),
        ({"IMMICH_SERVER_URL": "htp:/me"}, "", "IMMICH_SERVER_URL"),
        ({"DB_PORT": "none"}, "", "DB_PORT"),
        ({"IMMICH_DBSYNC_POLICY": "keep"}, "", "IMMICH_DBSYNC_POLICY"),
        ({"IMMICH_DBSYNC_POLICIES": "Camera=keep"}, "", "IMMICH_DBSYNC_POLICIES"),
    ],
)
def test_a_mistake_is_named_as_it_was_set(
    variables: dict[str, str], in_file: str, named: str, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text(in_file)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"makes no sense: {named}: "):
        load_settings()


def test_a_port_of_0_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMICH_DBSYNC_METRICS_PORT", "0")
    assert load_settings().metrics_port == Settings().metrics_port == 0


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("LOG_LEVEL", "debgu", "debug"),
        ("LOG_FORMAT", "jsn", "json"),
        ("POLICY", "mirrr", "mirror"),
        ("POLICIES", "Camera=archve", "archive"),
        ("PROTECT", "favourites albumz", "albums"),
    ],
)
def test_a_mistyped_value_gets_the_nearest_suggested(
    variable: str, value: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"IMMICH_DBSYNC_{variable}", value)
    with pytest.raises(SettingsError, match=rf"\. Did you mean {meant}\?$"):
        load_settings()


def test_a_value_like_none_that_there_is_gets_no_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMMICH_DBSYNC_POLICY", "xyz")
    monkeypatch.setenv("IMMICH_DBSYNC_SERVER_URL", "htp:/me")
    with pytest.raises(SettingsError, match=r"^A setting makes no sense: [^?]*\.$"):
        load_settings()
