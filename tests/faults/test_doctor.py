"""What `doctor` says of file systems on which no file can go to quarantine, and to whom little is allowed; needs root,
for the mounts and for another user.
"""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

import pytest

from immich_dbsync.doctor import examination, folders
from immich_dbsync.doctor.finding import Finding, Level
from immich_dbsync.immich.library import Owner
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import Account
from immich_dbsync.settings import Settings
from tests.mounts import mounted, small_disk


def found(path: Path) -> list[Finding]:
    findings = folders.folder(path, "a@b", root_id=None, stfolders=(), mounted=[])
    return [finding for finding in findings if finding.level is not Level.OK]


def test_a_quarantine_on_another_file_system_is_found(tmp_path: Path) -> None:
    quarantine = tmp_path / ".immich-dbsync" / "quarantine"
    quarantine.mkdir(parents=True)
    assert found(tmp_path) == []
    with mounted(quarantine):
        [finding] = found(tmp_path)
    assert (finding.level, finding.found) == (Level.WRONG, "its quarantine is on another file system")


def test_a_file_system_that_is_mounted_read_only_is_found() -> None:
    with small_disk(1) as disk:
        assert found(disk) == []
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "read-only" in found(disk)[0].found


# --- asked by another user ---

STRANGER = 12345
ADA = Account(Owner(OwnerId(UUID(int=1)), "a@b", "Ada", active=True), "key")


@pytest.fixture
def sync_root() -> Iterator[Path]:
    """Below no folder that is closed to others, as pytest's are."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        (root / str(ADA.owner.id) / ".immich-dbsync").mkdir(parents=True)
        yield root


def asked_by_a_stranger(root: Path) -> list[dict[str, str]]:
    """All that is wrong with Ada's folder, as another user is told who is not root."""

    async def ask() -> list[Finding]:
        found = [folders.sync_root(root)]
        return found + [finding async for finding in examination._folders(Settings(sync_root=root), [ADA], {})]

    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
            wrong = [asdict(finding) for finding in asyncio.run(ask()) if finding.level is Level.WRONG]
            os.write(writing, json.dumps(wrong).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        told = answer.read()
    assert os.waitpid(pid, 0)[1] == 0
    found: list[dict[str, str]] = json.loads(told)
    return found


@pytest.mark.parametrize(
    ("closed", "what", "said"),
    [
        (".", "sync root", "may not be looked at"),
        ("user", "folder of a@b", "may not be opened"),
        ("user/.immich-dbsync", "folder of a@b", "may not be opened"),
    ],
)
def test_what_is_closed_to_who_asks_wants_its_owner_or_root(sync_root: Path, closed: str, what: str, said: str) -> None:
    folder = sync_root / closed.replace("user", str(ADA.owner.id))
    for each in (sync_root / str(ADA.owner.id), folder):
        each.chmod(0o777)
    folder.chmod(0o700)
    if closed == ".":  # then it is what lies in it that can't be looked at
        sync_root = sync_root / "sync"
    found = {each["what"]: each for each in asked_by_a_stranger(sync_root)}
    assert found[what]["found"].endswith(said), found
    assert found[what]["mend"] == "Run as its owner (root), or as root"
