"""Digests, and files that change while they are read."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from immich_dbsync.core.names import LeftAlone
from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import BLOCK, hash_file, is_racy, xxh3_of, xxh3_of_file
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath, Stat

FILE = RelPath(b"x.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    with Root(tmp_path) as root:
        yield root


@pytest.mark.parametrize("size", [0, 1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_both_digests_are_those_of_the_bytes(root: Root, size: int) -> None:
    content = os.urandom(size)
    (root.path / "x.jpg").write_bytes(content)
    hashed = hash_file(root, FILE, clock_ns=lambda: 42)
    assert hashed.content.sha1 == hashlib.sha1(content).digest()
    assert hashed.content.xxh3 == xxhash.xxh3_128(content).digest()
    assert (hashed.stat.size, hashed.started_ns) == (size, 42)
    with (root.path / "x.jpg").open("rb") as file:
        assert xxh3_of(file.fileno(), size) == hashed.content.xxh3
        assert file.tell() == 0


@pytest.mark.parametrize("change", ["append", "touch", "truncate"])
def test_a_file_that_changes_while_it_is_read_has_no_digest(
    root: Root, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root.path / "x.jpg"
    file.write_bytes(b"1" * 10)
    read = os.preadv

    def change_after_read(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = read(fd, buffers, offset)
        if offset == 0:
            if change == "touch":
                os.utime(file, ns=(1, 1))
            else:
                os.truncate(file, 20 if change == "append" else 5)
        return count

    monkeypatch.setattr(os, "preadv", change_after_read)
    with pytest.raises(ChangedWhileRead):
        hash_file(root, FILE)


def test_a_file_that_grows_faster_than_it_is_read_does_not_keep_its_reader(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = root.path / "x.jpg"
    file.touch()
    read, reads = os.preadv, [0]

    def grow_then_read(fd: int, buffers: list[memoryview], offset: int) -> int:
        reads[0] += 1
        assert reads[0] < 10, "it reads on"
        os.truncate(file, offset + 2 * BLOCK)
        return read(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", grow_then_read)
    for digest in (hash_file, xxh3_of_file):
        os.truncate(file, 0)
        os.truncate(file, 2 * BLOCK)
        reads[0] = 0
        with pytest.raises(ChangedWhileRead):
            digest(root, FILE)
    reads[0] = 0
    with file.open("rb") as opened:
        xxh3_of(opened.fileno(), BLOCK)
    assert reads[0] == 2


def test_a_file_that_grew_since_it_was_looked_at_is_not_read(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.path / "x.jpg").touch()
    os.truncate(root.path / "x.jpg", 1 << 40)
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("it is read"))
    with pytest.raises(ChangedWhileRead):
        hash_file(root, FILE, largest=(1 << 40) - 1)


def test_gone_and_not_taken(root: Root) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(root, FILE)
    (root.path / "x.jpg").symlink_to("/etc/hostname")
    with pytest.raises(NotTaken) as caught:
        hash_file(root, FILE)
    assert caught.value.reason is LeftAlone.NOT_REGULAR


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("mtime", "ctime", "racy"),
    [(10, 10, True), (9, 9, False), (9.5, 9.9, True), (1, 10, False), (99, 1, False), (99, 10, True)],
)
def test_a_stat_is_trusted_once_it_is_older_than_a_tick(mtime: float, ctime: float, *, racy: bool) -> None:
    assert is_racy(Stat(1, int(mtime * SECOND), int(ctime * SECOND), 1), 10 * SECOND) is racy
