"""What `doctor` says of file systems on which no file can go to quarantine; needs root, for the mounts."""

import subprocess
from pathlib import Path

from immich_dbsync.doctor import folders
from immich_dbsync.doctor.finding import Finding, Level
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
