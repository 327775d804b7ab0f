"""What the owner of a folder may read, held against the kernel's own answer to a process of theirs."""

import asyncio
import json
import os
import pwd
import struct
from itertools import product
from pathlib import Path

import pytest

from immich_dbsync.core.names import LeftAlone
from immich_dbsync.disk.access import READ, Reader
from immich_dbsync.disk.errors import NotTaken
from immich_dbsync.disk.root import Root
from immich_dbsync.model import RelPath
from tests.integration.harness import Harness, picture

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

MALLORY, ADA, BOB = 12345, 23456, 34567
OWN, PHOTOS, OTHERS = 12345, 500, 501  # the first two are Mallory's groups
NOBODY = 0xFFFFFFFF
OWNER, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system knows Mallory and her groups."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("mallory", "x", uid, OWN, "", "/", "/bin/sh")))
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [OWN, PHOTOS])


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def lists() -> list[bytes | None]:
    """None for no list; lists with a named user, a named group or none, for each mask and others."""
    found: list[bytes | None] = [None]
    for rights, mask, other, named in product((0, 4), (0, 4), (0, 4), ("mallory", "bob", "photos", "others", "both")):
        entries = [(OWNER, 6, NOBODY)]
        entries += [(USER, rights, MALLORY)] if named in {"mallory", "both"} else []
        entries += [(USER, rights, BOB)] if named == "bob" else []
        entries += [(GROUP_OBJ, 4 - rights, NOBODY)]
        entries += [(GROUP, rights, PHOTOS)] if named in {"photos", "both"} else []
        entries += [(GROUP, rights, OTHERS)] if named == "others" else []
        found.append(acl(*entries, (MASK, mask, NOBODY), (OTHER, other, NOBODY)))
    return found


def readable_by_mallory(files: list[Path]) -> list[bool]:
    """What the kernel says to a process of hers."""
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups([OWN, PHOTOS])
            os.setgid(OWN)
            os.setuid(MALLORY)
            os.write(theirs, bytes(os.access(file, os.R_OK, effective_ids=True) for file in files))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        return [bool(each) for each in answer.read()]


def moved_by_mallory(groups: list[int], place: Path, to: Path) -> None:
    """She moves all that is there, in a process of hers; the first of her groups is her own."""
    if (pid := os.fork()) == 0:
        try:
            os.setgroups(groups)
            os.setgid(groups[0])
            os.setuid(MALLORY)
            for each in [*place.iterdir()]:
                each.rename(to / each.name)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def files_of_all_kinds(folder: Path) -> list[Path]:
    files = []
    for number, (mode, gid, given) in enumerate(
        [(mode, gid, None) for mode in (0o600, 0o640, 0o604, 0o644) for gid in (PHOTOS, OTHERS)]
        + [(0o600, gid, each) for each in lists()[1:] for gid in (PHOTOS, OTHERS)]
    ):
        file = folder / f"{number}.jpg"
        file.write_bytes(b"picture")
        os.chown(file, ADA, gid)
        file.chmod(mode)
        if given is not None:
            os.setxattr(file, "system.posix_acl_access", given)
        files.append(file)
    return files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for above in (tmp_path, *list(tmp_path.parents)[:3]):
        above.chmod(0o755)
    os.chown(tmp_path, MALLORY, PHOTOS)
    return tmp_path


@pytest.mark.usefixtures("known")
def test_of_a_known_owner_it_is_what_the_kernel_says(folder: Path) -> None:
    files = files_of_all_kinds(folder)
    said = readable_by_mallory(files)
    assert len({*said}) == 2
    reader = Reader(MALLORY, PHOTOS)
    for file, allowed in zip(files, said, strict=True):
        fd = os.open(file, os.O_RDONLY)
        assert reader.may(READ, fd, os.fstat(fd)) is allowed, file.name
        os.close(fd)


def test_of_an_owner_whom_the_system_does_not_know_nothing_is_read_that_they_may_not(folder: Path) -> None:
    files = files_of_all_kinds(folder)
    said = readable_by_mallory(files)
    with Root(folder) as root:
        taken = []
        for file in files:
            try:
                os.close(root.open_file(RelPath(file.name.encode()))[0])
                taken.append(True)
            except NotTaken:
                taken.append(False)
    assert any(taken)
    assert not [file.name for file, ours, theirs in zip(files, taken, said, strict=True) if ours and not theirs]


@pytest.mark.usefixtures("known")
def test_what_they_may_not_read_is_not_opened(folder: Path) -> None:
    files = files_of_all_kinds(folder)
    said = readable_by_mallory(files)
    with Root(folder) as root:
        for file, allowed in zip(files, said, strict=True):
            if not allowed:
                with pytest.raises(NotTaken):
                    root.open_file(RelPath(file.name.encode()))


@pytest.mark.parametrize("known_to_the_system", [True, False])
async def test_what_lies_in_a_folder_that_the_owner_may_not_enter_is_not_uploaded(
    sync: Harness, request: pytest.FixtureRequest, *, known_to_the_system: bool
) -> None:
    """A folder may be moved with another one that is in it, and whose files have ordinary modes."""
    if known_to_the_system:
        request.getfixturevalue("known")
    for above in (sync.folder, *list(sync.folder.parents)[:4]):
        above.chmod(0o755)
    os.chown(sync.folder, MALLORY, OWN)
    shared = sync.folder.parent / "shared"
    private = shared / "album" / "private"
    private.mkdir(parents=True)
    for place, mode in ((shared, 0o770), (shared / "album", 0o770), (private, 0o700)):
        os.chown(place, ADA, PHOTOS)
        place.chmod(mode)
    for place, number in ((private, 1), (shared / "album", 2)):
        file = place / f"{number}.png"
        file.write_bytes(picture(number))
        os.utime(file, (1_700_000_000, 1_700_000_000))
        os.chown(file, ADA, ADA)
        file.chmod(0o644)
    await asyncio.to_thread(moved_by_mallory, [OWN, PHOTOS], shared, sync.folder)
    assert sync.files().keys() == {"album/2.png", "album/private/1.png"}
    await sync.start()
    await sync.idle()
    assert await sync.status(picture(1)) is None
    # Where nobody knows her groups, she is not taken to be in that of the album either.
    assert await sync.status(picture(2)) == ("active" if known_to_the_system else None)


async def test_a_file_that_the_owner_moved_out_of_a_shared_folder_and_may_not_read_is_not_uploaded(
    sync: Harness,
) -> None:
    """To move it there takes the right to write to both folders, and none to the file."""
    for above in (sync.folder, *list(sync.folder.parents)[:4]):
        above.chmod(0o755)
    os.chown(sync.folder, MALLORY, PHOTOS)
    shared = sync.folder.parent / "shared"
    shared.mkdir()
    os.chown(shared, ADA, PHOTOS)
    shared.chmod(0o770)
    for name, mode in (("ada.png", 0o604), ("open.png", 0o644)):
        file = shared / name
        file.write_bytes(picture(mode))
        os.utime(file, (1_700_000_000, 1_700_000_000))
        os.chown(file, ADA, PHOTOS)
        file.chmod(mode)
    await asyncio.to_thread(moved_by_mallory, [PHOTOS], shared, sync.folder)
    assert sync.files().keys() == {"ada.png", "open.png"}
    await sync.start()
    await sync.idle()
    assert await sync.status(picture(0o644)) == "active"
    assert await sync.status(picture(0o604)) is None
    counts = await sync.connection.fetchval("select last_scan -> 'left_alone' from immich_dbsync_v1.owners")
    assert json.loads(counts) == {LeftAlone.HIDDEN.value: 1, LeftAlone.FOREIGN_LINK.value: 1}
