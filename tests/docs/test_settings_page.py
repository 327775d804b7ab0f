"""The page of settings is the settings class, and its examples are settings."""

import tomllib
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from immich_dbsync.settings import CONFIG_VARIABLE, Settings
from tests.docs.settings_page import PAGE, page, toml

EXAMPLES = [(name, example) for name, field in Settings.model_fields.items() for example in field.examples or ()]


def test_the_page_is_what_is_generated() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


@pytest.mark.parametrize("field", Settings.model_fields.values(), ids=Settings.model_fields)
def test_every_setting_says_what_it_is(field: FieldInfo) -> None:
    assert field.description
    assert field.description.endswith(".")


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_taken(name: str, example: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "immich-dbsync.toml"
    file.write_text(toml(name, example))
    assert tomllib.loads(file.read_text()) == {name: example}
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    assert getattr(Settings(), name) != Settings.model_fields[name].default
