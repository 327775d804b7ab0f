"""Walking: order, what is left alone, depth, and trees that change under the walk."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immich_dbsync.core.names import LeftAlone, NameRules
from immich_dbsync.disk import walk as walking
from immich_dbsync.disk.folders import folders
from immich_dbsync.disk.hashing import hash_file
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import Walk, walk
from immich_dbsync.model import RelPath

RULES = NameRules(frozenset({".jpg"}), frozenset({".xmp"}), ("excluded",))
STRANGER = 12345


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    folder = tmp_path / "root"
    folder.mkdir()
    with Root(folder) as root:
        yield root


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def put(root: Root, *paths: str, content: bytes = b"1") -> None:
    for path in paths:
        file = root.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def paths(found: Walk) -> list[bytes]:
    return [path for path, _ in found]


NAMES = st.binary(min_size=1, max_size=3).filter(lambda name: not set(name) & set(b"/\0") and name not in {b".", b".."})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
def test_the_order_is_that_of_the_whole_paths_bytes(tree: list[list[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        wanted = set()
        for parts in tree:
            path = b"/".join([*parts[:-1], parts[-1] + b".jpg"])
            whole = Path(place) / os.fsdecode(path)
            try:
                whole.parent.mkdir(parents=True, exist_ok=True)
                whole.write_bytes(b"1")
            except OSError:
                continue  # one name was drawn as file and as folder
            if not any(part.startswith(b".") for part in path.split(b"/")):
                wanted.add(path)
        with Root(Path(place)) as root:
            rules = NameRules(frozenset({".jpg"}), frozenset())
            assert paths(walk(root, rules)) == sorted(wanted)
            chunked, again = walk(root, rules), []
            while chunk := chunked.take(2):
                again += [path for path, _ in chunk]
            assert again == sorted(wanted)


def test_folders_sort_as_their_paths_do(root: Root) -> None:
    put(root, "a/x.jpg", "a.jpg", "a-b/x.jpg", "a0/x.jpg", "a.d/x.jpg")
    assert paths(walk(root, RULES)) == [b"a-b/x.jpg", b"a.d/x.jpg", b"a.jpg", b"a/x.jpg", b"a0/x.jpg"]


def test_what_is_left_alone_is_counted_by_reason(root: Root, tmp_path: Path) -> None:
    put(root, "a/good.jpg", ".hidden.jpg", ".stversions/a.jpg", ".syncthing.a.jpg.tmp", "a.part", "a.txt", "a.xmp")
    put(root, "excluded/a.jpg", "a/excluded/b.jpg")
    put(root, "empty.jpg", content=b"")
    (root.path / "link.jpg").symlink_to(tmp_path)
    os.mkfifo(root.path / "fifo.jpg")
    (tmp_path / "theirs").write_bytes(b"1")
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)
    os.link(tmp_path / "theirs", root.path / "theirs.jpg")
    found = walk(root, RULES)
    assert paths(found) == [b"a/good.jpg"]
    assert found.left_alone == {
        LeftAlone.HIDDEN: 2,
        LeftAlone.TEMPORARY: 2,
        LeftAlone.NOT_MEDIA: 1,
        LeftAlone.SIDECAR: 1,
        LeftAlone.EXCLUDED: 2,
        LeftAlone.EMPTY: 1,
        LeftAlone.NOT_REGULAR: 2,
        LeftAlone.FOREIGN_LINK: 1,
    }
    assert not found.unreadable


def test_the_last_name_of_a_strangers_file_is_left_alone(tmp_path: Path) -> None:
    os.chown(tmp_path, STRANGER, STRANGER)
    with Root(tmp_path) as root:
        put(root, "own.jpg", "read.jpg", "private.jpg")
        os.chown(tmp_path / "own.jpg", STRANGER, STRANGER)
        for name in ("own.jpg", "private.jpg"):
            (tmp_path / name).chmod(0o600)
        found = walk(root, RULES)
        assert paths(found) == [b"own.jpg", b"read.jpg"]
        assert found.left_alone == {LeftAlone.FOREIGN_LINK: 1}


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [(b"a", [b"a/x.jpg"]), (b"gone", []), (b".h", []), (b"excluded", []), (b"file.jpg", []), (b"link", [])],
)
def test_a_prefix_is_walked_alone(root: Root, prefix: bytes, wanted: list[bytes]) -> None:
    put(root, "a/x.jpg", ".h/x.jpg", "excluded/x.jpg", "file.jpg")
    (root.path / "link").symlink_to("a")
    found = walk(root, RULES, prefix)
    assert paths(found) == wanted
    assert not found.unreadable


def deep(root: Root, name: bytes, count: int) -> None:
    """Folders in each other, each with a file."""
    fd = os.dup(root.fd)
    for _ in range(count):
        os.mkdir(name, dir_fd=fd)
        child = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        file = os.open(b"z.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=child)
        os.write(file, b"deep")
        os.close(file)
        os.close(fd)
        fd = child
    os.close(fd)


def test_deeper_than_there_are_descriptors(root: Root) -> None:
    deep(root, b"d" * 7, 500)
    before, most, deepest, count = descriptors(), 0, b"", 0
    for each, _ in walk(root, RULES):
        count += 1
        most = max(most, descriptors())
        deepest = max(deepest, each, key=len)
    assert count == 500
    assert len(deepest) == 500 * 8 + 5
    assert most - before <= 18
    assert descriptors() == before
    assert hash_file(root, RelPath(deepest)).stat.size == 4


def test_a_chain_without_end_is_cut_and_not_taken_for_deleted(root: Root) -> None:
    deep(root, b"d" * 255, 250)
    found = walk(root, RULES)
    assert max(map(len, paths(found))) == 4096 + 5
    assert found.unreadable == {(b"d" * 255 + b"/") * 16 + b"d" * 255}
    assert found.errors[0][1].errno == errno.ENAMETOOLONG
    assert sorted(len(path) for path, _ in folders(root)) == [0, *(256 * depth - 1 for depth in range(1, 17))]
    shutil.rmtree(root.path)


def test_what_vanishes_or_turns_into_a_link_meanwhile_is_no_error(root: Root) -> None:
    put(root, "a.jpg", "b.jpg", "c/x.jpg", "d/x.jpg", "e.jpg")
    found = iter(ending := walk(root, RULES))
    assert next(found)[0] == b"a.jpg"
    (root.path / "b.jpg").unlink()
    shutil.rmtree(root.path / "c")
    shutil.rmtree(root.path / "d")
    (root.path / "d").symlink_to("/")
    assert [path for path, _ in found] == [b"e.jpg"]
    assert not ending.unreadable


def test_a_folder_exchanged_on_the_way_back_counts_as_unreadable(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "_OPEN", 1)
    put(root, "a/b/c/x.jpg", "a/b/y.jpg", "other/z.jpg")
    found = iter(ending := walk(root, RULES))
    assert next(found)[0] == b"a/b/c/x.jpg"
    (root.path / "a/b").rename(root.path / "a/old")
    (root.path / "other").rename(root.path / "a/b")
    assert [path for path, _ in found] == []
    assert ending.unreadable == {b"a/b"}


def test_a_walk_given_up_gives_its_descriptors_back(root: Root) -> None:
    put(root, "a/b/c/x.jpg", "a/b/c/y.jpg")
    before = descriptors()
    found = walk(root, RULES)
    found.take(1)
    assert descriptors() > before
    found.close()
    assert descriptors() == before
    assert found.take(1) == []


def test_an_unreadable_folder_is_a_prefix_that_nothing_may_be_deleted_below(root: Root) -> None:
    """In a child process that is not root."""
    put(root, "a/x.jpg", "closed/x.jpg", "z.jpg")
    (root.path / "closed").chmod(0)
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            os.setgroups([])
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
            found = walk(root, RULES)
            good = paths(found) == [b"a/x.jpg", b"z.jpg"] and found.unreadable == {b"closed"}
            code = 0 if good and found.errors[0][1].errno == errno.EACCES else 1
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_half_a_listing_is_none(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "a.jpg")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(os, "scandir", fail)
    found = walk(root, RULES)
    assert paths(found) == []
    assert found.unreadable == {b""}
