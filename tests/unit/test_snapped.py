"""A snap's options as settings."""

import json
import os
from pathlib import Path

import pytest

from immich_dbsync.cli.snapped import apply, parse
from immich_dbsync.errors import SettingsError


def document(**options: object) -> str:
    """What ``snapctl get -d dbsync`` prints, once they are set."""
    return json.dumps({"dbsync": {name.replace("_", "-"): value for name, value in options.items()}}, indent="\t")


@pytest.mark.parametrize("nothing", ["", "{}", '{"dbsync": null}', '{"dbsync": {}}'])
def test_without_options_there_are_no_settings_and_no_service(nothing: str) -> None:
    assert parse(nothing) == ({}, False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.50", "1.50"),
        (0.5, "0.5"),
        (20, "20"),
        (10**20, "100000000000000000000"),
        ("two words", "two words"),
        (["*.gif", "old/*"], "*.gif old/*"),
        ({"Camera": "archive", "Old phone": "backup"}, "Camera=archive;Old phone=backup"),
        (True, "true"),
        ("", ""),
    ],
)
def test_values_are_what_they_would_be_in_a_variable(value: object, text: str) -> None:
    assert parse(document(exclude=value)) == ({"IMMICH_DBSYNC_EXCLUDE": text}, False)


def test_every_setting_is_an_option_by_its_name_with_hyphens_and_null_is_none() -> None:
    settings, enabled = parse(document(api_keys_file="/k", enabled=True, policy=None))
    assert (settings, enabled) == ({"IMMICH_DBSYNC_API_KEYS_FILE": "/k"}, True)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (document(mvoe_grace=1), r"no option dbsync\.mvoe-grace\. Did you mean dbsync\.move-grace\?"),
        (document(enable=True), r"Did you mean dbsync\.enabled\?"),
        (document(db_hostname="x"), "no option"),  # those are Immich's own
        (document(config="x"), "no option"),
        ('{"dbsync": "on"}', "is a group of options"),
        ('{"dbsync": ""}', "is a group of options"),
        ('{"dbsync": false}', "is a group of options"),
        ('{"dbsync": 1}', "is a group of options"),
        (document(enabled="true"), "is true or false, not 'true'"),
        (document(enabled=1), "is true or false"),
        (document(exclude=["a b"]), "a single value"),
        (document(policies={"Camera": {"deep": 1}}), "a single value"),
        (document(exclude="a\0b"), "NUL"),
    ],
)
def test_what_is_no_option_is_refused(found: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(found)


def test_options_go_over_the_environment_and_the_snaps_own_file_of_keys_is_found(tmp_path: Path) -> None:
    snap = {"SNAP_COMMON": str(tmp_path), "SNAP_INSTANCE_NAME": "immich-dbsync", "DB_HOSTNAME": "db"}
    environment = {**snap, "IMMICH_DBSYNC_UPLOADS": "1"}
    apply({"IMMICH_DBSYNC_UPLOADS": "2"}, environment)
    assert environment == {**snap, "DBSYNC_SNAP": "immich-dbsync", "IMMICH_DBSYNC_UPLOADS": "2"}
    keys = tmp_path / "dbsync" / "api-keys"
    keys.parent.mkdir()
    keys.touch()
    apply({}, environment)
    assert environment["IMMICH_DBSYNC_API_KEYS_FILE"] == os.fspath(keys)
    apply({"IMMICH_DBSYNC_API_KEYS_FILE": "/other"}, environment)
    assert environment["IMMICH_DBSYNC_API_KEYS_FILE"] == "/other"
