"""Quarantine and back: the last look, collisions, planted links, swaps and other file systems."""

import ctypes
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from immich_dbsync.core.names import NameRules
from immich_dbsync.disk import moving
from immich_dbsync.disk.at import rename_at
from immich_dbsync.disk.errors import Changed, QuarantineUnread, QuarantineUnsafe
from immich_dbsync.disk.hashing import BLOCK, hash_file
from immich_dbsync.disk.quarantine import QuarantineBatch, Quarantined, RestoreBatch, entries, lies, purge, undo_left
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.walk import Walk
from immich_dbsync.model import RelPath, Stat, Xxh3
from tests.acls import grant, lists

DAY = "2024-05-06"
FILE = RelPath(b"a/x.jpg")
OLD = 1_600_000_000_123_456_789
ODD = [b"\xff\xfe.jpg", b"n" * 251 + b".jpg", b"a\n\x1b[2J.jpg", b"-rf.jpg", b"e\xcc\x81.jpg"]
NOTHING = Xxh3(bytes(16))
STRANGER = 12345


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    (tmp_path / "root/a").mkdir(parents=True)
    put(tmp_path / "root/a/x.jpg")
    with Root(tmp_path / "root") as root:
        yield root


def put(path: Path, content: bytes = b"picture") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(OLD, OLD))


def quarantine(root: Root, path: RelPath, expected: Stat, xxh3: Xxh3, day: str) -> Quarantined:
    with QuarantineBatch(root, day) as batch:
        return batch.take(path, expected, xxh3)


def put_back(root: Root, location: bytes, path: RelPath, expected: Stat) -> tuple[RelPath, Stat]:
    with RestoreBatch(root) as batch:
        return batch.put_back(location, path, expected)


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def known(root: Root, path: RelPath = FILE) -> tuple[Stat, Xxh3]:
    hashed = hash_file(root, path)
    return hashed.stat, hashed.content.xxh3


def there(root: Root, location: bytes) -> bytes:
    return Path(os.fsdecode(os.fsencode(root.path) + b"/.immich-dbsync/quarantine/" + location)).read_bytes()


def test_there_and_back_keeps_bytes_time_inode_and_path(root: Root) -> None:
    stat, digest = known(root)
    taken = quarantine(root, FILE, stat, digest, DAY)
    assert taken.location == b"2024-05-06/a/x.jpg"
    assert taken.stat.same_file(stat)
    assert there(root, taken.location) == b"picture"
    assert not (root.path / "a/x.jpg").exists()
    assert list(entries(root)) == [(taken.location, FILE, taken.stat)]
    (root.path / "a").rmdir()
    os.chown(root.path, 1234, 2345)
    root.path.chmod(0o2750)
    path, back = put_back(root, taken.location, FILE, taken.stat)
    assert path == FILE
    assert back.same_file(stat)
    assert (root.path / "a/x.jpg").read_bytes() == b"picture"
    made = (root.path / "a").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (1234, 2345, 0o2750)
    assert list(entries(root)) == []
    assert not (root.path / ".immich-dbsync/quarantine/2024-05-06").exists()


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", b"n" * 251 + b".jpg", b"a\n\x1b[2J.jpg", b"-rf.jpg", b"e\xcc\x81.jpg"]
)
def test_any_name_goes_twice_and_comes_back(root: Root, name: bytes) -> None:
    path = RelPath(b"a/" + name)
    stats = []
    for content in (b"one", b"two"):
        put(Path(os.fsdecode(os.fsencode(root.path) + b"/" + path)), content)
        stats.append(quarantine(root, path, *known(root, path), DAY))
    first, second = stats
    assert second.location.endswith(b"~2")
    assert len(second.location.rpartition(b"/")[2]) <= 255
    assert (there(root, first.location), there(root, second.location)) == (b"one", b"two")
    assert put_back(root, first.location, path, first.stat)[0] == path
    beside, _ = put_back(root, second.location, path, second.stat)
    assert beside.endswith(b" (restored).jpg")
    assert len(beside.rpartition(b"/")[2]) <= 255


def test_folders_made_anew_are_shared_with_whom_the_one_above_is(root: Root) -> None:
    path = RelPath(b"a/b/c/x.jpg")
    put(root.path / os.fsdecode(path))
    grant(root.path / "a", 1234)
    taken = quarantine(root, path, *known(root, path), DAY)
    shutil.rmtree(root.path / "a/b")
    put_back(root, taken.location, path, taken.stat)
    assert lists(root.path / "a/b/c") == lists(root.path / "a")


def test_names_are_cut_between_characters() -> None:
    assert moving.fitted("é".encode() * 126 + b".jp", b"", b"~2").decode() == "é" * 125 + ".jp~2"
    assert len(moving.fitted(b"a." + b"b" * 253, b" (restored)", b"")) == 255
    assert moving.fitted(b"IMG.jpg", b" (restored 2)", b"") == b"IMG (restored 2).jpg"


def test_a_file_and_a_folder_of_one_name_find_room(root: Root) -> None:
    put(root.path / "b.jpg")
    quarantine(root, RelPath(b"b.jpg"), *known(root, RelPath(b"b.jpg")), DAY)
    put(root.path / "b.jpg/x.jpg")
    path = RelPath(b"b.jpg/x.jpg")
    taken = quarantine(root, path, *known(root, path), DAY)
    assert there(root, taken.location) == b"picture"
    shutil.rmtree(root.path / "b.jpg")
    put(root.path / "b.jpg", b"other")
    assert put_back(root, taken.location, path, taken.stat)[0] == b"b (restored).jpg/x.jpg"


@pytest.mark.parametrize("change", ["content", "replaced", "link", "folder", "fifo"])
def test_what_changed_since_its_record_stays(root: Root, change: str) -> None:
    stat, digest = known(root)
    file = root.path / "a/x.jpg"
    if change == "content":
        file.write_bytes(b"PICTURE")
        os.utime(file, ns=(OLD, OLD))
    else:
        file.unlink()
        swaps: dict[str, Callable[[], None]] = {
            "replaced": lambda: put(file, b"PICTURE"),
            "link": lambda: file.symlink_to("/etc/hostname"),
            "folder": file.mkdir,
            "fifo": lambda: os.mkfifo(file),
        }
        swaps[change]()
    with pytest.raises(Changed):
        quarantine(root, FILE, stat, digest, DAY)
    assert file.exists()
    assert list(entries(root)) == []


def test_what_has_another_size_than_recorded_is_not_read(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one that takes hours to read, exchanged for the recorded one a moment ago."""
    stat, digest = known(root)
    os.truncate(root.path / "a/x.jpg", 1 << 40)
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("it is read"))
    with pytest.raises(Changed):
        quarantine(root, FILE, stat, digest, DAY)


def test_touched_but_the_same_content_goes(root: Root) -> None:
    stat, digest = known(root)
    (root.path / "a/x.jpg").touch()
    assert quarantine(root, FILE, stat, digest, DAY).stat.mtime_ns != stat.mtime_ns


@pytest.mark.parametrize("gone", ["file", "folder", "linked folder"])
def test_what_is_gone_is_gone(root: Root, gone: str, tmp_path: Path) -> None:
    stat, digest = known(root)
    (root.path / "a").rename(tmp_path / "away")
    if gone == "file":
        (root.path / "a").mkdir()
    elif gone == "linked folder":
        (root.path / "a").symlink_to(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        quarantine(root, FILE, stat, digest, DAY)
    assert (tmp_path / "away/x.jpg").read_bytes() == b"picture"
    with pytest.raises(FileNotFoundError):
        put_back(root, b"2024-05-06/nope/x.jpg", FILE, stat)


@pytest.mark.parametrize("place", ["", "/quarantine", "/quarantine/2024-05-06", "/quarantine/2024-05-06/a"])
@pytest.mark.parametrize("planted", ["link", "file"])
def test_planted_things_in_place_of_our_folders_are_refused(
    root: Root, tmp_path: Path, place: str, planted: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    where = Path(f"{root.path}/.immich-dbsync{place}")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.symlink_to(tmp_path / "elsewhere") if planted == "link" else where.touch()
    stat, digest = known(root)
    if planted == "file" and place.endswith("/a"):  # may be a quarantined file of that name: room is found beside it
        assert quarantine(root, FILE, stat, digest, DAY).location == b"2024-05-06/a~2/x.jpg"
        return
    with pytest.raises(QuarantineUnsafe, match="remove it"):
        quarantine(root, FILE, stat, digest, DAY)
    assert (root.path / "a/x.jpg").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def swap_before_rename(monkeypatch: pytest.MonkeyPatch, swap: Callable[[], None]) -> None:
    """Do something between the last look and the rename, once."""
    waiting = [swap]

    def rename(source: int, name: bytes, target: int, new: bytes) -> None:
        if waiting:
            waiting.pop()()
        rename_at(source, name, target, new)

    monkeypatch.setattr(moving, "rename_at", rename)


@pytest.mark.parametrize("swapped", ["file", "link", "folder", "written", "gone"])
def test_what_is_swapped_in_after_the_look_goes_back(root: Root, monkeypatch: pytest.MonkeyPatch, swapped: str) -> None:
    file = root.path / "a/x.jpg"

    def swap() -> None:
        if swapped == "written":
            file.write_bytes(b"more than there was")
            return
        file.rename(root.path / "a/y.jpg")
        if swapped == "file":
            put(file, b"PICTURE")
        elif swapped == "link":
            file.symlink_to("/etc/hostname")
        elif swapped == "folder":
            put(file / "inner.jpg")

    swap_before_rename(monkeypatch, swap)
    with pytest.raises(FileNotFoundError if swapped == "gone" else Changed):
        quarantine(root, FILE, *known(root), DAY)
    assert file.is_symlink() or file.exists() is (swapped != "gone")
    assert list(entries(root)) == []


def test_when_the_way_back_is_taken_too_nothing_is_lost(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root.path / "a/x.jpg"

    def rename(source: int, name: bytes, target: int, new: bytes) -> None:
        put(file.with_name("swapped"), b"swapped")
        file.with_name("swapped").rename(file)
        rename_at(source, name, target, new)

    monkeypatch.setattr(moving, "rename_at", rename)
    with pytest.raises(Changed) as caught:
        quarantine(root, FILE, *known(root), DAY)
    assert caught.value.left_at == b"2024-05-06/a/x.jpg"
    assert there(root, caught.value.left_at) == b"swapped"
    assert file.read_bytes() == b"swapped"


def test_a_racing_owner_never_has_another_file_moved(root: Root, tmp_path: Path) -> None:
    """Folders are exchanged and files swapped while we act; whatever we report as taken is what was recorded."""
    put(root.path / "b/x.jpg", b"another")
    (tmp_path / "secret").mkdir()
    put(tmp_path / "secret/x.jpg", b"secret")
    stat, digest = known(root)
    ended = threading.Event()

    def race() -> None:
        step = 0
        while not ended.is_set():
            step += 1
            for first, second in (("a", "b"), ("b", "link")) if step % 2 else (("b", "link"), ("a", "b")):
                exchange(root.path / first, root.path / second)

    (root.path / "link").symlink_to(tmp_path / "secret")
    racer = threading.Thread(target=race)
    racer.start()
    try:
        for _ in range(300):
            try:
                taken = quarantine(root, FILE, stat, digest, DAY)
            except (Changed, FileNotFoundError):
                continue
            assert there(root, taken.location) == b"picture"
            put_back(root, taken.location, RelPath(b"a/x.jpg"), taken.stat)
    finally:
        ended.set()
        racer.join()
    assert (tmp_path / "secret/x.jpg").read_bytes() == b"secret"
    assert names(tmp_path / "secret") == ["x.jpg"]


def exchange(first: Path, second: Path) -> None:
    """renameat2 with RENAME_EXCHANGE; a failure is part of the race."""
    ctypes.CDLL(None).renameat2(-100, os.fsencode(first), -100, os.fsencode(second), 2)


@pytest.mark.parametrize("moment", ["mkdir", "fchown", "fchmod"])
def test_our_folder_is_not_handed_over_for_one_that_was_made(
    root: Root, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The owner exchanges the folder that is made for a file that comes back with ours, before it is given to them."""
    os.chown(root.path, STRANGER, STRANGER)
    taken = quarantine(root, FILE, *known(root), DAY)
    (root.path / "a").rmdir()
    state = root.path / ".immich-dbsync"
    plain, exchanges = getattr(os, moment), [0]

    def race(*arguments: Any, **options: Any) -> None:
        if moment == "mkdir":
            plain(*arguments, **options)
        exchanges[0] += 1
        exchange(root.path / "a", state)
        if moment != "mkdir":
            plain(*arguments, **options)

    monkeypatch.setattr(os, moment, race)
    assert put_back(root, taken.location, FILE, taken.stat)[0] == FILE
    assert exchanges[0] == 1
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (os.geteuid(), 0o700)
    assert ((root.path / "a").stat().st_uid, names(root.path / "a")) == (STRANGER, ["x.jpg"])


def test_of_a_state_folder_that_is_the_owners_nothing_of_ours_is_handed_over(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who made the folder before us can exchange what is made in it, for the quarantine with its files."""
    state = root.path / ".immich-dbsync"
    state.mkdir()
    for folder in (root.path, state):
        os.chown(folder, STRANGER, STRANGER)
    taken = quarantine(root, FILE, *known(root), DAY)
    (root.path / "a").rmdir()
    made = os.mkdir

    def race(name: bytes, *arguments: Any, **options: Any) -> None:
        made(name, *arguments, **options)
        exchange(state / os.fsdecode(name), state / "quarantine")

    monkeypatch.setattr(os, "mkdir", race)
    put_back(root, taken.location, FILE, taken.stat)
    quarantines = (root.path / "a").stat()  # under the name of the folder that was to be made
    assert (quarantines.st_uid, quarantines.st_mode & 0o777) == (os.geteuid(), 0o700)


@pytest.fixture
def no_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that can't rename from one folder to another."""

    def rename(source: int, name: bytes, target: int, new: bytes) -> None:
        if source != target:
            raise OSError(errno.EXDEV, "cross-device")
        rename_at(source, name, target, new)

    monkeypatch.setattr(moving, "rename_at", rename)


@pytest.mark.usefixtures("no_rename")
def test_where_rename_does_not_reach_the_file_is_copied(root: Root) -> None:
    os.chown(root.path / "a/x.jpg", 1234, 2345)
    (root.path / "a/x.jpg").chmod(0o640)
    stat, digest = known(root)
    taken = quarantine(root, FILE, stat, digest, DAY)
    assert (taken.stat.size, taken.stat.mtime_ns) == (stat.size, stat.mtime_ns)
    assert there(root, taken.location) == b"picture"
    assert names(root.path / "a") == []
    path, back = put_back(root, taken.location, FILE, taken.stat)
    copied = (root.path / "a/x.jpg").stat()
    assert (path, back.mtime_ns) == (FILE, stat.mtime_ns)
    assert (copied.st_uid, copied.st_gid, copied.st_mode & 0o777) == (1234, 2345, 0o640)
    assert list(entries(root)) == []


@pytest.mark.usefixtures("no_rename")
def test_a_copy_has_the_holes_of_its_source(root: Root) -> None:
    """Else an owner could fill the disk with a file that takes no room."""
    file = root.path / "a/x.jpg"
    with file.open("r+b") as opened:
        opened.seek(40 * BLOCK + 5)
        opened.write(b"in the middle")
        opened.truncate(80 * BLOCK + 7)
    stat, digest = known(root)
    room = file.stat().st_blocks
    taken = quarantine(root, FILE, stat, digest, DAY)
    copy = root.path / ".immich-dbsync/quarantine" / os.fsdecode(taken.location)
    assert copy.stat().st_blocks * 512 <= room * 512 + 2 * BLOCK
    assert taken.stat.size == stat.size
    put_back(root, taken.location, FILE, taken.stat)
    assert known(root)[1] == digest
    assert file.stat().st_blocks * 512 <= room * 512 + 2 * BLOCK


@pytest.mark.usefixtures("no_rename")
def test_a_copy_of_a_file_that_grows_ends(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root.path / "a/x.jpg"
    stat, digest = known(root)
    read, reads = os.read, [0]

    def grow_then_read(fd: int, count: int) -> bytes:
        reads[0] += 1
        assert reads[0] < 10, "it copies on"
        os.truncate(file, (reads[0] + 1) * BLOCK)
        return read(fd, count)

    monkeypatch.setattr(os, "read", grow_then_read)
    with pytest.raises(Changed):
        quarantine(root, FILE, stat, digest, DAY)
    assert file.exists()
    assert names(root.path / ".immich-dbsync/quarantine/2024-05-06/a") == []


@pytest.mark.usefixtures("no_rename")
def test_a_copy_whose_source_changes_is_dropped(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root.path / "a/x.jpg"
    stat, digest = known(root)
    synced = os.fsync

    def change_then_sync(fd: int) -> None:
        put(file, b"PICTURE!")
        synced(fd)

    monkeypatch.setattr(os, "fsync", change_then_sync)
    with pytest.raises(Changed):
        quarantine(root, FILE, stat, digest, DAY)
    assert file.read_bytes() == b"PICTURE!"
    assert list(entries(root)) == []
    assert names(root.path / "a") == ["x.jpg"]


@pytest.mark.usefixtures("no_rename")
def test_a_copy_that_reads_back_wrong_leaves_the_source(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    stat, digest = known(root)
    monkeypatch.setattr(moving, "xxh3_of", lambda *_: NOTHING)
    with pytest.raises(Changed):
        quarantine(root, FILE, stat, digest, DAY)
    assert (root.path / "a/x.jpg").read_bytes() == b"picture"


@pytest.mark.usefixtures("no_rename")
@pytest.mark.parametrize("call", ["unlink", "fsync of a folder"])
def test_what_can_only_be_copied_and_not_taken_away_leaves_no_copy(
    root: Root, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """As on a part of the file system that is mounted again, read-only: each further try would leave one more."""
    stat, digest = known(root)
    unlink, fsync = os.unlink, os.fsync

    def refused(name: bytes, *, dir_fd: int) -> None:
        if name.startswith(b".immich-dbsync-aside-"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
        unlink(name, dir_fd=dir_fd)

    def unsynced(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    if call == "unlink":
        monkeypatch.setattr(os, "unlink", refused)
    else:
        monkeypatch.setattr(os, "fsync", unsynced)
    for _ in range(3):
        with pytest.raises(OSError, match=r"Read-only|Invalid"):
            quarantine(root, FILE, stat, digest, DAY)
    assert names(root.path / "a") == ["x.jpg"]
    assert names(root.path / ".immich-dbsync/quarantine/2024-05-06/a") == []


@pytest.mark.usefixtures("no_rename")
def test_a_copy_has_the_attributes_of_its_source(root: Root) -> None:
    file = root.path / "a/x.jpg"
    os.setxattr(file, "user.tags", b"holiday")
    grant(file, 1234)
    before = os.getxattr(file, "system.posix_acl_access")
    taken = quarantine(root, FILE, *known(root), DAY)
    put_back(root, taken.location, FILE, taken.stat)
    assert os.getxattr(file, "user.tags") == b"holiday"
    assert os.getxattr(file, "system.posix_acl_access") == before


@pytest.mark.parametrize("name", [b"x.jpg", b"n" * 251 + b".jpg", b"a\n\x1b.jpg"])
def test_what_a_killed_process_left_is_undone(root: Root, name: bytes) -> None:
    place = os.fsencode(root.path / "b")
    os.mkdir(place)  # noqa: PTH102
    other = moving._Process()  # of one that is no more
    copy = other.name(moving._COPY)
    aside = other.name(moving._ASIDE) + b"-" + moving.fitted(name, b"", b"", most=moving._ROOM)
    ours = moving._process.name(moving._COPY)
    for each in (copy, aside, ours):
        put(Path(os.fsdecode(place + b"/" + each)))
    found = Walk(root, NameRules(frozenset({".jpg"}), frozenset()))
    assert [path for path, _ in found] == [b"a/x.jpg"]
    assert sorted(found.left_behind) == sorted([RelPath(b"b/" + copy), RelPath(b"b/" + aside)])
    assert undo_left(root, RelPath(b"b/" + copy)) is None
    new = undo_left(root, RelPath(b"b/" + aside))
    assert new == b"b/" + moving.fitted(name, b"", b"", most=moving._ROOM)
    assert sorted(os.listdir(place)) == sorted([ours, new[2:]])  # noqa: PTH208
    put(Path(os.fsdecode(place + b"/" + aside)))
    assert undo_left(root, RelPath(b"b/" + aside), arrived=True) is None
    assert sorted(os.listdir(place)) == sorted([ours, new[2:]])  # noqa: PTH208


def test_a_batch_takes_many_and_holds_few(root: Root) -> None:
    batch_paths = [RelPath(b"d%d/x%d.jpg" % (i % 100, i)) for i in range(500)]
    for path in batch_paths:
        put(root.path / path.decode())
    before = len(names(Path("/proc/self/fd")))
    digest = Xxh3(xxhash.xxh3_128(b"picture").digest())
    with QuarantineBatch(root, DAY) as batch:
        for path in batch_paths:
            stat = root.stat(path)
            assert stat is not None
            assert batch.take(path, stat, digest).location == b"2024-05-06/" + path
            assert len(names(Path("/proc/self/fd"))) - before <= 65
    assert len(names(Path("/proc/self/fd"))) == before
    assert [path for _, path, _ in entries(root)] == sorted(batch_paths)


def test_many_come_back_and_leave_no_empty_folders(root: Root) -> None:
    paths = [RelPath(b"d%d/e/x%d.jpg" % (i % 100, i)) for i in range(300)]
    for path in paths:
        put(root.path / path.decode())
    taken = {path: quarantine(root, path, *known(root, path), DAY) for path in paths}
    stays = quarantine(root, FILE, *known(root), DAY)
    shutil.rmtree(root.path / "d1")
    before = len(names(Path("/proc/self/fd")))
    with RestoreBatch(root) as batch:
        for path, there in taken.items():
            assert batch.put_back(there.location, path, there.stat)[0] == path
            assert len(names(Path("/proc/self/fd"))) - before <= 65
    assert len(names(Path("/proc/self/fd"))) == before
    assert [location for location, _, _ in entries(root)] == [stays.location]
    assert names(root.path / ".immich-dbsync/quarantine/2024-05-06") == ["a"]


def test_a_folder_that_goes_while_files_come_back_to_it_is_no_lost_file(root: Root) -> None:
    first, second = RelPath(b"d/1.jpg"), RelPath(b"d/2.jpg")
    for path in (first, second):
        put(root.path / path.decode())
    taken = {path: quarantine(root, path, *known(root, path), DAY) for path in (first, second)}
    with RestoreBatch(root) as batch:
        batch.put_back(taken[first].location, first, taken[first].stat)
        shutil.rmtree(root.path / "d")
        with pytest.raises(OSError, match="the folder went away") as raised:
            batch.put_back(taken[second].location, second, taken[second].stat)
        assert raised.value.errno == errno.ESTALE
    assert [path for _, path, _ in entries(root)] == [second]
    assert put_back(root, taken[second].location, second, taken[second].stat)[0] == second


def test_a_held_folder_that_was_moved_away_is_let_go_soon(root: Root, tmp_path: Path) -> None:
    put(root.path / "a/y.jpg")
    stat, digest = known(root, RelPath(b"a/y.jpg"))
    now = [0.0]
    with QuarantineBatch(root, DAY, clock=lambda: now[0]) as batch:
        batch.take(FILE, *known(root))
        (root.path / "a").rename(tmp_path / "away")
        now[0] = 1.0
        with pytest.raises(FileNotFoundError):
            batch.take(RelPath(b"a/y.jpg"), stat, digest)


def test_purge_unlinks_what_is_expected_and_only_that(root: Root) -> None:
    taken: Quarantined = quarantine(root, FILE, *known(root), DAY)
    with pytest.raises(Changed):
        purge(root, taken.location, Stat(1, 2, 3, 4))
    with pytest.raises(Changed):
        put_back(root, taken.location, FILE, Stat(1, 2, 3, 4))
    purge(root, taken.location, taken.stat)
    assert list(entries(root)) == []
    with pytest.raises(FileNotFoundError):
        purge(root, taken.location, taken.stat)


def test_only_files_in_a_days_folder_are_entries(root: Root) -> None:
    quarantine(root, FILE, *known(root), DAY)
    place = root.path / ".immich-dbsync/quarantine"
    put(place / "notes/x.jpg")
    put(place / DAY / ".copy-1234")
    put(place / DAY / "b/IMG.jpg~12")
    assert [path for _, path, _ in entries(root)] == [b"a/x.jpg", b"b/IMG.jpg"]


@pytest.mark.parametrize("planted", ["link", "fifo"])
@pytest.mark.parametrize("place", [f"{DAY}/planted.jpg", "2024-05-07"])
def test_behind_what_is_no_folder_may_be_what_is_missing(root: Root, planted: str, place: str) -> None:
    """Not so where a file may lie: a swap that was undone too late can leave anything there."""
    taken = quarantine(root, FILE, *known(root), DAY)
    if planted == "link":
        (root.path / ".immich-dbsync/quarantine" / place).symlink_to("/etc")
    else:
        os.mkfifo(root.path / ".immich-dbsync/quarantine" / place)
    found = entries(root)
    assert next(found)[1] == b"a/x.jpg"
    if place == "2024-05-07":
        with pytest.raises(QuarantineUnread, match="it is no folder"):
            next(found)
    else:
        assert [*found] == []
        assert lies(root, taken.location)
        if planted == "link":
            with pytest.raises(QuarantineUnread, match=r"planted\.jpg/hostname"):
                lies(root, f"{place}/hostname".encode())


def test_a_file_in_place_of_a_folder_says_that_what_was_in_it_is_gone(root: Root) -> None:
    put(root.path / "x.jpg/1.jpg")
    inside = RelPath(b"x.jpg/1.jpg")
    taken = quarantine(root, inside, *known(root, inside), DAY)
    shutil.rmtree(root.path / ".immich-dbsync/quarantine" / DAY)
    (root.path / "x.jpg").rmdir()
    put(root.path / "x.jpg")
    quarantine(root, RelPath(b"x.jpg"), *known(root, RelPath(b"x.jpg")), DAY)
    assert not lies(root, taken.location)
    assert not lies(root, b"2024-05-08/a.jpg")


def test_a_file_that_its_owner_may_not_read_now_is_not_given_up(root: Root) -> None:
    os.chown(root.path, STRANGER, STRANGER)
    with Root(root.path) as theirs:
        taken = quarantine(theirs, FILE, *known(theirs), DAY)
        place = root.path / ".immich-dbsync/quarantine" / os.fsdecode(taken.location)
        place.chmod(0o600)  # it is root's
        with pytest.raises(PermissionError):
            put_back(theirs, taken.location, FILE, taken.stat)
        place.chmod(0o644)
        put_back(theirs, taken.location, FILE, taken.stat)


@pytest.mark.usefixtures("no_rename")
def test_an_original_that_another_service_took_away_meanwhile_leaves_its_copy(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one stood still in the middle of a move, and its lock went to another."""
    unlink = os.unlink

    def late(name: bytes, *, dir_fd: int) -> None:
        if name.startswith(b".immich-dbsync-aside-"):
            unlink(name, dir_fd=dir_fd)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", late)
    taken = quarantine(root, FILE, *known(root), DAY)
    assert there(root, taken.location) == b"picture"


@pytest.mark.parametrize("day", ["", "today", "2024-5-6", "../../..", "2024-05-06/a"])
def test_a_day_is_a_day(root: Root, day: str) -> None:
    with pytest.raises(ValueError, match="not a day"):
        QuarantineBatch(root, day)


def test_a_path_that_was_deeper_than_any_path_may_be_comes_back(root: Root) -> None:
    folder = b"/".join([b"d" * 255] * 40)
    fd = os.dup(root.fd)
    for name in folder.split(b"/"):
        os.mkdir(name, dir_fd=fd)
        fd, old = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd), fd
        os.close(old)
    os.link(root.path / "a/x.jpg", b"x.jpg", dst_dir_fd=fd)
    os.close(fd)
    (root.path / "a/x.jpg").unlink()
    path = RelPath(folder + b"/x.jpg")
    taken = quarantine(root, path, *known(root, path), DAY)
    shutil.rmtree(root.path / ("d" * 255))
    assert put_back(root, taken.location, path, taken.stat)[0] == path
    assert root.stat(path) is not None
    shutil.rmtree(root.path / ("d" * 255))
