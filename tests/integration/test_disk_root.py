"""Opening below an owner's root: every trick that an owner could play on a service that runs as root."""

import ctypes
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from immich_dbsync.core.names import LeftAlone
from immich_dbsync.disk import at
from immich_dbsync.disk.errors import NotTaken, OtherDevice, QuarantineUnsafe
from immich_dbsync.disk.marker import Health, health, lost_stfolders, read_marker, stfolders, write_marker
from immich_dbsync.disk.root import Root
from immich_dbsync.errors import RootUnusable
from immich_dbsync.model import RelPath

STRANGER = 12345
ODD = [b"\xff\xfe.jpg", b"n" * 251 + b".jpg", b"a\n\x1b[2J.jpg", b"-rf.jpg", b"e\xcc\x81.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    (folder / "a/x.jpg").write_bytes(b"x")
    return folder


@pytest.fixture(params=["at once", "step by step"])
def root(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    """Also where openat2 is not to be had, as in a container that does not know it."""
    if request.param == "step by step":
        monkeypatch.setattr(at, "_OPENAT2", 100_000)  # no such system call
    with Root(folder) as root:
        yield root


def test_both_ways_are_taken(root: Root, request: pytest.FixtureRequest) -> None:
    fd = at.open_directory_beneath(root.fd, b"a")
    assert (fd is None) is (request.node.callspec.params["root"] == "step by step")
    if fd is not None:
        os.close(fd)


@pytest.fixture
def mounted(folder: Path) -> Iterator[Path]:
    place = folder / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        (place / "y.jpg").write_bytes(b"y")
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def refused(root: Root, path: bytes) -> LeftAlone:
    with pytest.raises(NotTaken) as caught:
        root.open_file(RelPath(path))
    return caught.value.reason


def test_an_ordinary_file_is_opened_with_its_stat(root: Root, folder: Path) -> None:
    fd, stat = root.open_file(RelPath(b"a/x.jpg"))
    try:
        assert os.read(fd, 9) == b"x"
        assert stat == root.stat(RelPath(b"a/x.jpg"))
        assert stat.inode == (folder / "a/x.jpg").stat().st_ino
    finally:
        os.close(fd)


@pytest.mark.parametrize("prepare", ["missing", "file", "link"])
def test_a_root_that_is_no_folder_is_refused_with_advice(tmp_path: Path, prepare: str) -> None:
    path = tmp_path / "root"
    if prepare == "file":
        path.touch()
    elif prepare == "link":
        path.symlink_to(tmp_path)
    with pytest.raises(RootUnusable, match=r"create|move|put") as caught:
        Root(path)
    assert "\n" not in str(caught.value)


def test_links_are_followed_at_no_level(root: Root, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x.jpg").write_bytes(b"secret")
    (folder / "final.jpg").symlink_to(tmp_path / "secret/x.jpg")
    (folder / "parent").symlink_to(tmp_path / "secret")
    assert refused(root, b"final.jpg") is LeftAlone.NOT_REGULAR
    with pytest.raises(FileNotFoundError):
        root.open_file(RelPath(b"parent/x.jpg"))
    with pytest.raises(OSError, match="parent") as caught:
        root.open_directory(b"parent")
    assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}
    assert root.stat(RelPath(b"final.jpg")) is None
    assert root.stat(RelPath(b"parent/x.jpg")) is None


@pytest.mark.parametrize("path", [b"..", b"a/../../secret", b"/etc/passwd", b"a//x.jpg"])
def test_no_path_leads_out_of_the_root(root: Root, path: bytes) -> None:
    with pytest.raises(ValueError, match="not a path"):
        root.open_file(RelPath(path))
    with pytest.raises(ValueError, match="not a path"):
        root.open_directory(path)


def test_a_link_swapped_in_after_the_look_is_not_opened(
    root: Root, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    looked = os.stat

    def swap_after_look(path: bytes, **rest: Any) -> os.stat_result:
        status = looked(path, **rest)
        if path == b"x.jpg":
            (folder / "a/x.jpg").unlink()
            (folder / "a/x.jpg").symlink_to(tmp_path / "secret")
        return status

    monkeypatch.setattr(os, "stat", swap_after_look)
    with pytest.raises(FileNotFoundError):
        root.open_file(RelPath(b"a/x.jpg"))


def test_fifo_socket_and_device_are_refused_without_waiting(root: Root, folder: Path) -> None:
    os.mkfifo(folder / "fifo.jpg")
    os.mknod(folder / "device.jpg", 0o20600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        fd = os.open(folder, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{fd}/socket.jpg")
        os.close(fd)
    for name in (b"fifo.jpg", b"device.jpg", b"socket.jpg", b"a"):
        assert refused(root, name) is LeftAlone.NOT_REGULAR
        assert root.stat(RelPath(name)) is None


def test_a_hard_link_to_a_strangers_file_is_refused(root: Root, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"secret")
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)
    os.link(tmp_path / "theirs", folder / "linked.jpg")
    os.link(folder / "a/x.jpg", folder / "own.jpg")
    assert refused(root, b"linked.jpg") is LeftAlone.FOREIGN_LINK
    os.close(root.open_file(RelPath(b"own.jpg"))[0])


@pytest.mark.parametrize(
    ("roots", "files", "mode", "taken"),
    [
        ((STRANGER, 7), (STRANGER, 8), 0o600, True),  # their own
        ((STRANGER, 7), (8, 8), 0o600, False),
        ((STRANGER, 7), (8, 8), 0o640, False),
        ((STRANGER, 7), (8, 7), 0o640, True),  # of a group that is the folder's, as a sync tool may have it
        ((STRANGER, 7), (8, 8), 0o604, False),
        ((STRANGER, 7), (8, 8), 0o644, True),
        ((STRANGER, 7), (0, 0), 0o600, False),  # the service's own right to read it counts for nothing
        ((0, 0), (8, 8), 0o600, True),  # nobody hostile is there
    ],
)
def test_the_last_name_of_a_file_that_the_roots_owner_may_not_read_is_refused(
    folder: Path, roots: tuple[int, int], files: tuple[int, int], mode: int, *, taken: bool
) -> None:
    """The other name may have been unlinked, or replaced as editors do: what was linked keeps no trace of it."""
    os.chown(folder, *roots)
    os.chown(folder / "a/x.jpg", *files)
    (folder / "a/x.jpg").chmod(mode)
    with Root(folder) as root:
        if taken:
            os.close(root.open_file(RelPath(b"a/x.jpg"))[0])
        else:
            assert refused(root, b"a/x.jpg") is LeftAlone.FOREIGN_LINK


def test_a_mount_point_is_refused_and_not_taken_for_gone(root: Root, mounted: Path) -> None:
    assert mounted.is_mount()
    assert refused(root, b"mounted/y.jpg") is LeftAlone.OTHER_DEVICE
    with pytest.raises(OtherDevice):
        root.open_directory(b"mounted")
    with pytest.raises(OtherDevice):
        root.stat(RelPath(b"mounted/y.jpg"))


def test_a_file_that_is_gone_is_gone_however_it_went(root: Root, folder: Path) -> None:
    (folder / "file").touch()
    for path in (b"nope.jpg", b"nope/x.jpg", b"file/x.jpg"):
        assert root.stat(RelPath(path)) is None
        with pytest.raises(FileNotFoundError):
            root.open_file(RelPath(path))


def test_an_inode_keeps_its_birth_through_a_rename_and_a_new_file_has_its_own(root: Root, folder: Path) -> None:
    path, other = RelPath(b"a/x.jpg"), RelPath(b"a/y.jpg")
    born = root.born(path)
    assert born is not None
    assert born <= (folder / "a/x.jpg").stat().st_ctime_ns
    (folder / "a/x.jpg").rename(folder / "a/y.jpg")
    assert root.born(other) == born
    (folder / "a/y.jpg").unlink()
    later = (folder / "a").stat().st_ctime_ns
    (folder / "a/y.jpg").write_bytes(b"x")  # perhaps the same inode
    again = root.born(other)
    assert again is not None
    assert again >= later
    assert root.born(RelPath(b"a/none.jpg")) is None
    assert root.born(RelPath(b"none/none.jpg")) is None


def test_a_time_beyond_64_bits_of_nanoseconds_is_the_last_that_fits() -> None:
    """Btrfs and tmpfs keep any: a file of the year 9999 must not keep a whole folder from being recorded."""
    last = (1 << 63) - 1
    assert at.bounded(253_402_300_800 * 10**9) == last
    assert at.bounded(-(10**30)) == -last - 1
    assert at.bounded(1_700_000_000_123_456_789) == 1_700_000_000_123_456_789


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", b"n" * 251 + b".jpg", b"a\n\x1b[2J.jpg", b"-rf.jpg", b"e\xcc\x81.jpg"]
)
def test_any_name_works(root: Root, folder: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"1")
    fd, stat = root.open_file(RelPath(name))
    os.close(fd)
    assert stat.size == 1


def test_a_root_moved_or_exchanged_or_linked_is_not_there(root: Root, folder: Path, tmp_path: Path) -> None:
    assert root.still_there()
    folder.rename(tmp_path / "away")
    assert not root.still_there()
    folder.symlink_to(tmp_path / "away")
    assert not root.still_there()
    folder.unlink()
    folder.mkdir()
    assert not root.still_there()
    assert health(root, None, ()) is Health.REPLACED
    folder.rmdir()
    assert health(root, None, ()) is Health.MISSING


def test_rights_are_felt_by_who_has_them(folder: Path) -> None:
    """In a child process that is not root: a file that may not be read is left alone, O_NOATIME is done without."""
    (folder / "a/x.jpg").chmod(0o600)
    (folder / "open.jpg").write_bytes(b"1")
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            with Root(folder) as fresh:  # opened as root: the path above may be closed to others
                os.setgroups([])
                os.setresgid(STRANGER, STRANGER, STRANGER)
                os.setresuid(STRANGER, STRANGER, STRANGER)
                os.close(fresh.open_file(RelPath(b"open.jpg"))[0])
                try:
                    fresh.open_file(RelPath(b"a/x.jpg"))
                except NotTaken as error:
                    code = 0 if error.reason is LeftAlone.UNREADABLE else 1
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_the_marker_is_written_once_and_read_back(root: Root, folder: Path) -> None:
    assert read_marker(root) is None
    marker = write_marker(root)
    assert write_marker(root) == marker == read_marker(root)
    assert (folder / ".immich-dbsync").stat().st_mode & 0o777 == 0o700
    assert (folder / ".immich-dbsync/root-id").stat().st_mode & 0o777 == 0o600
    assert [each.name for each in (folder / ".immich-dbsync").iterdir()] == ["root-id"]
    assert health(root, marker, ()) is Health.OK
    assert health(root, UUID(int=1), ()) is Health.MARKER_FOREIGN
    (folder / ".immich-dbsync/root-id").unlink()
    assert health(root, marker, ()) is Health.MARKER_MISSING
    assert health(root, None, ()) is Health.OK


@pytest.mark.parametrize("forged", ["link", "fifo", "large", "text", "binary", "folder_link"])
def test_a_forged_marker_is_no_marker_and_stays(root: Root, folder: Path, tmp_path: Path, forged: str) -> None:
    state = folder / ".immich-dbsync"
    state.mkdir()
    marker = state / "root-id"
    if forged == "link":
        (tmp_path / "id").write_text(str(UUID(int=1)))
        marker.symlink_to(tmp_path / "id")
    elif forged == "fifo":
        os.mkfifo(marker)
    elif forged == "folder_link":
        state.rmdir()
        (tmp_path / "elsewhere").mkdir()
        state.symlink_to(tmp_path / "elsewhere")
    else:
        marker.write_bytes({"large": b"1" * 65, "text": b"hello", "binary": b"\xff" * 36}[forged])
    with pytest.raises(ValueError, match=r"marker|UUID|codec|hexadecimal|folder"):
        read_marker(root)
    with pytest.raises((ValueError, QuarantineUnsafe)):
        write_marker(root)
    assert health(root, None, ()) is Health.MARKER_FOREIGN
    assert not (tmp_path / "elsewhere/root-id").exists()


def test_a_lost_stfolder_is_noticed(root: Root, folder: Path) -> None:
    (folder / ".stfolder").mkdir()
    (folder / "a/.stfolder").mkdir()
    had = stfolders(root)
    assert had == {b"", b"a"}
    assert health(root, None, had) is Health.OK
    assert lost_stfolders(root, had) == []
    (folder / "a/.stfolder").rmdir()
    assert health(root, None, had) is Health.STFOLDER_LOST
    assert lost_stfolders(root, {*had, b"missing"}) == [b"a", b"missing"]


def list_whole(root: Root) -> None:
    fd = root.open_directory(b"")
    try:
        with os.scandir(fd) as entries:
            list(entries)
    finally:
        os.close(fd)


@pytest.mark.parametrize("other", [list_whole, stfolders])
def test_two_listings_of_the_root_at_once_both_see_everything(
    root: Root, folder: Path, other: Callable[[Root], object]
) -> None:
    for number in range(3000):  # more than the kernel hands out at a time
        (folder / f"{number:05}.jpg").touch()
    fd = root.open_directory(b"")
    try:
        with os.scandir(fd) as entries:
            seen = [next(entries).name]
            other(root)
            seen += [entry.name for entry in entries]
    finally:
        os.close(fd)
    assert len(seen) == 3001


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_without_renameat2_nothing_is_replaced_either(
    folder: Path, root: Root, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(at, "_renameat2", refuse)
    (folder / "taken.jpg").write_bytes(b"t")
    (folder / "x.jpg").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        at.rename_at(root.fd, b"x.jpg", root.fd, b"taken.jpg")
    at.rename_at(root.fd, b"x.jpg", root.fd, b"new.jpg")
    at.rename_at(root.fd, b"a", root.fd, b"b")
    assert sorted(each.name for each in folder.iterdir()) == ["b", "new.jpg", "taken.jpg"]


def test_absent_means_that_nothing_at_all_is_there(folder: Path, root: Root) -> None:
    (folder / "link.jpg").symlink_to("nowhere")
    (folder / "folder.jpg").mkdir()
    (folder / "file").write_bytes(b"")
    there = [b"a/x.jpg", b"link.jpg", b"folder.jpg", b"file"]
    gone = {RelPath(path) for path in (b"x.jpg", b"a/y.jpg", b"b/x.jpg", b"file/x.jpg")}
    assert root.absent([*(RelPath(path) for path in there), *gone]) == gone
