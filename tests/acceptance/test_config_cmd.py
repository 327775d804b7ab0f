"""``immich-dbsync config show`` tells where each setting comes from, of any configuration, and no secret."""

from pathlib import Path

import pytest

from immich_dbsync.settings import Settings
from tests.acceptance.commands import Ended, command, environment

SECRET = "s3cr3t"
COMPLETE = {
    "IMMICH_DBSYNC_DATABASE_URL": f"postgresql://me:{SECRET}@db.example.org/immich?sslmode=require",
    "IMMICH_DBSYNC_API_KEYS": f"{SECRET} {SECRET}2",
}


async def shown(words: str = "", **settings: str) -> Ended:
    return await command("config", "show", *words.split(), env=environment(settings))


def told(ended: Ended) -> dict[str, tuple[str, str]]:
    """The value and the source of each setting."""
    rows = [line.split("\t") for line in ended.out.splitlines()]
    return {name: (value, source) for name, value, source in rows}


async def test_each_setting_and_its_source(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'sync_root = "/srv/photos"\nuploads = 7\nprotect = ["albums", "favourites"]\n[policies]\nA = "backup"\n'
    )
    ended = await shown(
        **COMPLETE, IMMICH_DBSYNC_CONFIG=str(file), IMMICH_SERVER_URL="http://immich:1", IMMICH_DBSYNC_UPLOADS="2"
    )
    assert ended.code == 0, ended
    found = told(ended)
    assert [*found] == [name.upper() if name.startswith("db_") else name for name in Settings.model_fields]
    assert found["database_url"] == (
        "postgresql://me:***@db.example.org/immich?sslmode=require",
        "variable IMMICH_DBSYNC_DATABASE_URL",
    )
    assert found["api_keys"] == ("***", "variable IMMICH_DBSYNC_API_KEYS")
    assert found["server_url"] == ("http://immich:1/", "variable IMMICH_SERVER_URL")
    assert found["uploads"] == ("2", "variable IMMICH_DBSYNC_UPLOADS")  # over the file
    assert found["sync_root"] == ("/srv/photos", str(file))
    assert found["protect"] == ("albums favourites", str(file))
    assert found["policies"] == ("A=backup", str(file))
    assert found["heartbeat"] == ("15.0", "default")
    assert found["api_keys_file"] == ("none", "default")


async def test_in_a_snap_the_sync_root_has_another_default() -> None:
    found = told(await shown(SNAP_COMMON="/var/snap/x/common"))
    assert found["sync_root"] == ("/var/snap/x/common/sync", "default in a snap")


async def test_json() -> None:
    ended = await shown("--json", **COMPLETE, IMMICH_DBSYNC_SYNC_ROOT="/srv/photos")
    assert ended.code == 0, ended
    assert (ended.json["version"], ended.json["file"], ended.json["problems"]) == (1, None, [])
    assert {"name": "hold_min", "value": "25", "source": "default"} in ended.json["settings"]
    assert {"name": "exclude", "value": "", "source": "default"} in ended.json["settings"]
    assert SECRET not in ended.out


WRONG = {
    "nothing is set": ({}, ["No database is set.", "No sync root is set.", "No API key is set."]),
    "a value": (
        {"IMMICH_DBSYNC_UPLOADS": "many"},
        ["sense: IMMICH_DBSYNC_UPLOADS: it must be a whole number."],
    ),
    "a name": ({"IMMICH_DBSYNC_UPLOAD": "2"}, ["no setting IMMICH_DBSYNC_UPLOAD. Did you mean IMMICH_DBSYNC_UPLOADS?"]),
    "a URL": ({"IMMICH_DBSYNC_DATABASE_URL": f"postgresql://me:{SECRET}@x@h/y"}, ["The database URL can't be read"]),
    "no URL": ({"IMMICH_DBSYNC_DATABASE_URL": SECRET}, ["must begin with postgresql://"]),
    "the server": (
        {"IMMICH_DBSYNC_SERVER_URL": f"htp:/me:{SECRET}"},
        ["it must be a URL that begins with http:"],
    ),
    "the file's name": ({"IMMICH_DBSYNC_CONFIG": "/nowhere"}, ["names '/nowhere', which is no file"]),
    "the keys' file": ({"IMMICH_DBSYNC_API_KEYS_FILE": "/nowhere"}, ["The API keys can't be read from /nowhere"]),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_or_missing_is_said_and_the_rest_is_shown(wrong: str) -> None:
    settings, sentences = WRONG[wrong]
    ended = await shown(**settings)
    assert ended.code == 3, ended
    said = [line for line in ended.err.splitlines() if line.startswith("! ")]
    for sentence in sentences:
        assert any(sentence in line for line in said), said
    assert told(ended)["heartbeat"] == ("15.0", "default")
    for variable in settings:
        if variable not in {"IMMICH_DBSYNC_UPLOAD", "IMMICH_DBSYNC_CONFIG"}:
            assert f"variable {variable}" in ended.out
    assert SECRET not in ended.out + ended.err
    assert said == ended.err.splitlines()


FILES = {
    "upload = 2\n": "no setting 'upload'",
    "uploads =": "is not valid TOML",
    "uploads = 'x'": "A setting makes no sense",
}


@pytest.mark.parametrize("text", FILES)
async def test_what_is_wrong_with_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    ended = await shown("--json", **COMPLETE, IMMICH_DBSYNC_SYNC_ROOT="/srv", IMMICH_DBSYNC_CONFIG=str(file))
    assert ended.code == 3, ended
    [problem] = ended.json["problems"]
    assert FILES[text] in problem
    assert ended.json["file"] == str(file)
