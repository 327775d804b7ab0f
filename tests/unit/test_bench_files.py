"""The benchmarks' files: the same in every run, and what their records say of them."""

import hashlib
from pathlib import Path

import xxhash

from tests.bench.eye import CAME, LEFT, Eye
from tests.bench.files import (
    OLD,
    SMALL,
    Planned,
    asset_of,
    digests,
    in_folders,
    make,
    make_folders,
    mixed,
    remove,
    resized,
    tiny,
    write,
)


def test_a_files_digests_are_those_of_its_bytes(tmp_path: Path) -> None:
    texts = [Planned("a.jpg", 1), Planned("b.jpg", 80), Planned("c.jpg", 3_000_001)]
    holes = [Planned(f"{size}.jpg", size, hole=True) for size in (1, 4096, 100_000)]
    for file in texts + holes:
        status = write(tmp_path, file)
        assert (status.st_blocks == 0) == file.hole
        content = (tmp_path / file.path).read_bytes()
        assert len(content) == file.size == status.st_size
        sha1, xxh3 = digests(file)
        assert sha1 == hashlib.sha1(content, usedforsecurity=False).digest()
        assert xxh3 == xxhash.xxh3_128_digest(content)


def test_what_nobody_reads_is_a_hole_with_the_digests_of_what_could_be_there(tmp_path: Path) -> None:
    file = Planned("a.jpg", 80)
    [line] = make(tmp_path, [file], unread=True)
    assert (tmp_path / "a.jpg").read_bytes() == bytes(80)
    sha1, xxh3 = (digest.hex() for digest in digests(file))
    assert sha1.encode() in line
    assert xxh3.encode() in line


def test_what_is_copied_into_the_table_is_what_is_there(tmp_path: Path) -> None:
    files = tiny("some", 3)
    [part] = make(tmp_path, files)
    for file, line in zip(files, part.decode().splitlines(), strict=True):
        path, size, mtime, ctime, inode, xxh3, sha1, asset = line.split("\t")
        status = (tmp_path / file.path).stat()
        content = (tmp_path / file.path).read_bytes()
        assert bytes.fromhex(path.removeprefix("\\\\x")) == file.path.encode()
        assert [int(size), int(mtime), int(ctime)] == [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        assert int(inode) == status.st_ino
        assert bytes.fromhex(xxh3.removeprefix("\\\\x")) == xxhash.xxh3_128_digest(content)
        assert bytes.fromhex(sha1.removeprefix("\\\\x")) == hashlib.sha1(content, usedforsecurity=False).digest()
        assert asset == str(asset_of(file.path))


def test_a_file_can_be_old(tmp_path: Path) -> None:
    assert write(tmp_path, Planned("a.jpg", 10), mtime=OLD).st_mtime == OLD


def test_small_files_are_the_same_in_every_run_and_of_many_sizes() -> None:
    files = resized(tiny("some", 1000), seed=1)
    assert files == resized(tiny("some", 1000), seed=1)
    assert files != resized(tiny("some", 1000), seed=2)
    assert len({file.size for file in files}) == 1000
    assert all(file.size in SMALL for file in files)
    assert len({digests(file) for file in resized(tiny("some", 100), seed=1, holes=True)}) == 100


def test_mixed_files_add_up() -> None:
    total = 1 << 30
    files = mixed("some", total, seed=1)
    assert files == mixed("some", total, seed=1)
    assert abs(sum(file.size for file in files) - total) < 3
    assert len({file.path for file in files}) == len(files)
    assert {Path(file.path).suffix for file in files} == {".mp4", ".jpg", ".png"}


def test_folders_hold_so_many_each() -> None:
    files = in_folders("some", 2500)
    assert len({file.path for file in files}) == 2500
    assert len({Path(file.path).parent for file in files}) == 3


def test_assets_have_version_4_ids_of_their_own() -> None:
    ids = {asset_of(file.path) for file in tiny("some", 100)}
    assert len(ids) == 100
    assert {asset.version for asset in ids} == {4}


def test_all_is_removed(tmp_path: Path) -> None:
    files = in_folders("some", 10, each=1)
    make_folders(tmp_path / "root", files)
    for file in files:
        write(tmp_path / "root", file)
    remove(tmp_path / "root")
    remove(tmp_path / "root")  # not there any more
    assert [*tmp_path.iterdir()] == []


def test_the_eye_sees_files_leave_and_come(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "below").mkdir()
    with Eye([tmp_path], LEFT) as left, Eye([tmp_path / "below"], CAME) as came:
        assert left.names() == []
        for name in ("a.jpg", ".hidden", "b.jpg"):
            (tmp_path / name).rename(tmp_path / "below" / name)
        assert left.wait(2, seconds=5) > 0
        assert came.names() == [b"a.jpg", b"b.jpg"]
