"""The file of API keys as `users add` and `users remove` write it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from immich_dbsync.errors import SettingsError
from immich_dbsync.service import keyring
from immich_dbsync.settings import Settings

ADA = "# ada@example.org, written by immich-dbsync users add"


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    mask = os.umask(0)
    try:
        keyring.add_key(file, "one", "ada@example.org")
    finally:
        os.umask(mask)
    assert file.stat().st_mode & 0o7777 == 0o600
    assert file.read_text() == f"{ADA}\none\n"
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_what_others_wrote_stays(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# mine\nfirst\n\n  second")
    keyring.add_key(file, "third", "ada@example.org")
    assert file.read_text() == f"# mine\nfirst\n\n  second\n{ADA}\nthird\n"
    keyring.take_out(file, ["first", "third"])
    assert file.read_text() == "# mine\n\n  second\n"
    assert Settings(api_keys_file=file).require_api_keys() == ("second",)


def test_a_key_that_is_there_is_not_added_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(" one \n")
    before = file.stat()
    keyring.add_key(file, "one", "ada@example.org")
    assert file.stat() == before


def test_the_file_behind_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "keys", tmp_path / "keys"
    file.touch(0o600)
    link.symlink_to(file)
    keyring.add_key(link, "one", "ada@example.org")
    assert link.is_symlink()
    assert "one" in file.read_text()


def test_many_at_once_lose_none(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: keyring.add_key(file, f"key{number}", f"{number}@example.org"), range(40)))
    assert len(Settings(api_keys_file=file).require_api_keys()) == 40


@pytest.mark.parametrize("name", ["missing/keys", "folder"])
def test_where_it_cannot_be_written_that_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="The API keys can't be written to "):
        keyring.add_key(tmp_path / name, "s3cret", "ada@example.org")


def test_a_write_that_fails_leaves_the_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    keyring.add_key(file, "one", "ada@example.org")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left on device"):
        keyring.add_key(file, "two", "bob@example.org")
    monkeypatch.undo()
    assert file.read_text() == f"{ADA}\none\n"
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_without_a_file_it_is_said_what_to_set() -> None:
    with pytest.raises(SettingsError, match="Set api_keys_file"):
        keyring.file_of(Settings(api_keys_file=None))


def test_the_keys_that_were_written_for_a_user_are_known_by_the_remark(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    assert keyring.written_for(file, "ada@example.org") == []
    for key, email in [("one", "ada@example.org"), ("two", "bob@example.org"), ("three", "ada@example.org")]:
        keyring.add_key(file, key, email)
    with file.open("a") as more:
        more.write("four\n")
    assert keyring.written_for(file, "ada@example.org") == ["one", "three"]
