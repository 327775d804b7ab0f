"""A user's folder is made with the right owner and mode, and never through a link."""

import os
from pathlib import Path

import pytest

from immich_dbsync.disk.making import Folder, make_folder
from immich_dbsync.errors import RootUnusable

ROOT = os.geteuid() == 0
SOMEBODY = 65534


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """A sync root with a mode of its own and, where we may, an owner of its own."""
    path = tmp_path / "sync"
    path.mkdir()
    path.chmod(0o2750)
    if ROOT:
        os.chown(path, SOMEBODY, SOMEBODY)
        path.chmod(0o2750)
    return path


def test_owner_and_mode_are_those_of_the_sync_root(above: Path) -> None:
    like = above.stat()
    made = make_folder(above, "one")
    assert made == Folder(above / "one", True, like.st_uid, like.st_gid, 0o2750)
    status = (above / "one").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (like.st_uid, like.st_gid, 0o2750)


def test_others_may_be_given(above: Path) -> None:
    uid, gid = (1, 2) if ROOT else (os.geteuid(), os.getegid())
    assert make_folder(above, "one", uid=uid, gid=gid, mode=0o700) == Folder(above / "one", True, uid, gid, 0o700)
    status = (above / "one").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (uid, gid, 0o700)


def test_others_have_rights_only_when_they_are_given_them(above: Path) -> None:
    """A sync root as `mkdir` makes it can be read by everybody; the pictures can't."""
    above.chmod(0o755)
    assert make_folder(above, "one").mode == 0o750
    assert make_folder(above, "two", mode=0o755).mode == 0o755
    assert [(above / name).stat().st_mode & 0o7777 for name in ("one", "two")] == [0o750, 0o755]


def test_one_that_is_there_stays_as_it_is(above: Path) -> None:
    (above / "one").mkdir(0o711)
    before = (above / "one").stat()
    found = make_folder(above, "one", mode=0o700)
    assert (found.made, found.mode) == (False, before.st_mode & 0o7777)
    assert (above / "one").stat() == before


@pytest.mark.parametrize(("kind", "said"), [("link", "is a link"), ("file", "is no folder")])
def test_something_else_at_its_place_is_left_there(above: Path, kind: str, said: str) -> None:
    if kind == "link":
        (above / "one").symlink_to("/tmp")
    else:
        (above / "one").touch()
    with pytest.raises(RootUnusable, match=said):
        make_folder(above, "one")


def test_without_a_sync_root_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(RootUnusable, match="make it, or mount it, first"):
        make_folder(tmp_path / "missing", "one")


def test_a_folder_that_cannot_be_handed_over_is_not_left_behind(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(RootUnusable, match="run as root, or name another with --folder-owner"):
        make_folder(above, "one")
    assert list(above.iterdir()) == []


def test_where_we_may_not_write_that_is_said(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(RootUnusable, match="run as root, or as the owner of"):
        make_folder(above, "one")
