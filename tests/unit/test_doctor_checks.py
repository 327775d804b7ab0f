"""Each check of `doctor` that needs no server: what makes it fail, and what it then says to do."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from immich_dbsync.doctor import configuration, database, filesystems, folders, server, syncs, syncthing, watches
from immich_dbsync.doctor.filesystems import Mount
from immich_dbsync.doctor.finding import Finding, Level
from immich_dbsync.doctor.policies import policies
from immich_dbsync.errors import LoginRefused, SettingsError
from immich_dbsync.model import OwnerId
from immich_dbsync.settings import CONFIG_VARIABLE, Settings
from immich_dbsync.store.state import OwnerState

ROOT = Path("/srv/sync/one")
EMPTY = Path("/var/empty")


def levels(findings: Iterable[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


def the(findings: Iterable[Finding]) -> Finding:
    [only] = findings
    assert only.why
    assert bool(only.mend) is (only.level is not Level.OK)
    return only


# --- settings ---


def settings(**given: object) -> Settings:
    good: dict[str, Any] = {
        "database_url": SecretStr("postgresql://u:p4ss@h/d"),
        "sync_root": ROOT,
        "api_keys_file": Path("/etc/keys"),
    }
    return Settings(**(good | given))


@pytest.fixture(autouse=True)
def no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.setattr("immich_dbsync.settings.DEFAULT_CONFIG", EMPTY / "none.toml")


def test_settings_that_are_whole_are_found_so() -> None:
    assert the(configuration.configuration(settings())).level is Level.OK


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("database_url", 'database_url = "postgresql://USER:PASSWORD@HOST:5432/immich"'),
        ("sync_root", 'sync_root = "/srv/immich-sync"'),
        ("api_keys_file", 'api_keys_file = "/etc/immich-dbsync.keys"'),
    ],
)
def test_a_setting_that_is_missing_comes_with_the_line_to_write(name: str, example: str) -> None:
    found = the(configuration.configuration(settings(**{name: None})))
    assert (found.level, found.found) == (Level.WRONG, f"{name} is not set")
    assert found.mend == f"Set {example} in /etc/immich-dbsync.toml, or IMMICH_DBSYNC_{name.upper()}"


def test_a_sync_root_has_to_be_a_whole_path() -> None:
    found = the(configuration.configuration(settings(sync_root=Path("sync"))))
    assert found.level is Level.WRONG
    assert "absolute" in found.found


def test_immichs_own_variables_and_keys_in_a_variable_will_do() -> None:
    given = settings(database_url=None, DB_HOSTNAME="h", api_keys_file=None, api_keys=SecretStr("k"))
    assert the(configuration.configuration(given)).level is Level.OK


def test_a_file_with_a_password_that_others_may_read_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "dbsync.toml"
    file.write_text('database_url = "postgresql://u:p4ss@h/d"\n')
    file.chmod(0o640)
    monkeypatch.setenv(CONFIG_VARIABLE, str(file))
    found = the(configuration.configuration(settings()))
    assert (found.level, found.mend) == (Level.WRONG, f"Run: chmod 600 {file}")
    file.chmod(0o600)
    assert str(file) in the(configuration.configuration(settings())).found


def test_settings_that_make_no_sense_are_said_to() -> None:
    found = configuration.unreadable(SettingsError("There is no setting x."))
    assert (found.level, found.found) == (Level.WRONG, "There is no setting x")


# --- database ---


def test_a_login_that_is_refused_is_said() -> None:
    found = database.no_database(LoginRefused("PostgreSQL refuses the login: no such role."))
    assert (found.level, found.found) == (Level.WRONG, "PostgreSQL refuses the login: no such role")


@pytest.mark.parametrize(
    ("offset", "error", "level"),
    [(0.1, 0.0, Level.OK), (-2.5, 1.0, Level.OK), (2.1, 0.0, Level.WRONG), (-60.0, 1.0, Level.WRONG)],
)
def test_clocks_that_differ_are_found(offset: float, error: float, level: Level) -> None:
    found = database.clock(offset, error)
    assert found.level is level
    if level is Level.WRONG:
        assert f"{abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this machine's" in found.found


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("1.136.0", Level.OK),
        ("v2.7.5", Level.OK),
        ("3.2.9", Level.OK),
        ("3.3.0", Level.NOTE),
        ("1.135.3", Level.NOTE),
        (None, Level.NOTE),
    ],
)
def test_a_version_that_was_not_tried_is_noted(version: str | None, level: Level) -> None:
    assert database.supported(version).level is level


def test_of_many_differences_some_are_named() -> None:
    found = database.as_expected([f"thing {number} is missing" for number in range(5)])
    assert found.found == "thing 0 is missing; thing 1 is missing; thing 2 is missing, and 2 more"
    assert found.mend == "Run: immich-dbsync triggers install"


# --- server and keys ---


def test_a_server_of_another_version_is_not_the_databases() -> None:
    assert server.same_version("3.1.0", "3.1.0").level is Level.OK
    found = server.same_version("3.1.0", "2.7.5")
    assert (found.level, found.found) == (Level.WRONG, "the server is Immich 3.1.0, the database is Immich 2.7.5's")


def test_where_nobody_is_set_up_the_first_is_named() -> None:
    assert server.nobody(["ada@example.org"]).mend == "Run: immich-dbsync users add ada@example.org"
    assert server.nobody(["a@b", "c@d"]).mend == "Run: immich-dbsync users add a@b (or another of 2)"
    assert the(server.unusable([], [], None)).mend == "Make the first in Immich's web page"
    assert server.unusable([], ["a@b"], None) == []


def test_a_key_that_is_unknown_is_said_with_where_it_stands() -> None:
    found = the(server.unusable(["API key 1 of 1 is not known to this Immich"], ["a@b"], Path("/etc/keys")))
    assert found.level is Level.WRONG
    assert "/etc/keys" in found.mend


@pytest.mark.parametrize(
    ("lacking", "level", "mend"),
    [
        ((), Level.OK, ""),
        (("asset.copy",), Level.NOTE, "Give the key this permission in Immich"),
        (("asset.delete",), Level.WRONG, "Run: immich-dbsync users add a@b"),
        (("asset.upload", "asset.copy"), Level.WRONG, "Run: immich-dbsync users add a@b"),
    ],
)
def test_permissions_that_are_missing_are_found(lacking: tuple[str, ...], level: Level, mend: str) -> None:
    found = server.permissions("API key", "a@b", lacking)
    assert (found.level, found.mend) == (level, mend)


# --- folders ---


def test_a_sync_root_that_is_missing_or_no_folder_is_found(tmp_path: Path) -> None:
    assert folders.sync_root(tmp_path).level is Level.OK
    missing = tmp_path / "missing"
    assert folders.sync_root(missing).mend == f"Mount it, or make it. Run: mkdir -p {missing}"
    missing.touch()
    assert folders.sync_root(missing).found == f"{missing} is no folder"


def folder_of(
    path: Path, *, root_id: UUID | None = None, on: Iterable[Mount] = (), st: tuple[bytes, ...] = ()
) -> Finding:
    return the(folders.folder(path, "a@b", root_id=root_id, stfolders=st, mounted=list(on)))


def test_a_folder_that_is_missing_is_made_or_put_back(tmp_path: Path) -> None:
    assert folder_of(tmp_path).level is Level.OK
    missing = tmp_path / "missing"
    assert folder_of(missing).mend == "Run: immich-dbsync users add a@b"
    assert folder_of(missing, root_id=UUID(int=1)).mend == "Mount or put back the folder"


def test_a_folder_that_is_not_the_one_that_was_synced_is_found(tmp_path: Path) -> None:
    found = folder_of(tmp_path, root_id=UUID(int=1))
    assert found.level is Level.WRONG
    assert "marker_missing" in found.found
    state = tmp_path / ".immich-dbsync"
    state.mkdir()
    (state / "root-id").write_text(f"{UUID(int=2)}\n")
    assert "marker_foreign" in folder_of(tmp_path, root_id=UUID(int=1)).found
    (state / "root-id").write_text("nonsense")
    assert folder_of(tmp_path).mend == "Move that file away"
    (state / "root-id").write_text(f"{UUID(int=2)}\n")
    assert folder_of(tmp_path, root_id=UUID(int=2)).level is Level.OK
    assert ".stfolder" in folder_of(tmp_path, root_id=UUID(int=2), st=(b"Camera",)).mend


def test_a_folder_that_may_not_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    assert "may not be read and written" in folder_of(tmp_path).found


def test_a_file_in_place_of_our_own_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / ".immich-dbsync").touch()
    assert "away" in folder_of(tmp_path).mend


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (Mount(Path("/"), "nfs4"), "a network file system"),
        (Mount(Path("/"), "exfat"), "no lasting inode numbers"),
    ],
)
def test_file_systems_with_less_are_noted(tmp_path: Path, mount: Mount, said: str) -> None:
    [good, found] = folders.folder(tmp_path, "a@b", root_id=None, stfolders=(), mounted=[mount])
    assert (good.level, found.level) == (Level.OK, Level.NOTE)
    assert said in found.found


def test_what_is_mounted_inside_is_noted(tmp_path: Path) -> None:
    mount = Mount(tmp_path.resolve() / "Camera", "ext4")
    [_, found] = folders.folder(tmp_path, "a@b", root_id=None, stfolders=(), mounted=[Mount(Path("/"), "ext4"), mount])
    assert str(mount.path) in found.found


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    text = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        r"23 22 0:50 / /srv/my\040photos rw - nfs4 host:/x rw" + "\n"
        "24 22 0:51 / /srv/a rw - tmpfs tmpfs rw\n"
        "25 24 0:52 / /srv/a rw master:2 - fuse.mergerfs x rw\n"
    )
    found = filesystems.mounts(text)
    photos = filesystems.holding(Path("/srv/my photos/ada"), found)
    assert photos == Mount(Path("/srv/my photos"), "nfs4")
    assert filesystems.holding(Path("/srv/a/b"), found) == Mount(Path("/srv/a"), "fuse.mergerfs")
    assert filesystems.holding(Path("/srv/ab"), found) == Mount(Path("/"), "ext4")
    assert [mount.path.name for mount in filesystems.below(Path("/srv"), found)] == ["my photos", "a"]
    assert filesystems.mounts()


# --- inotify ---


def limits(path: Path, watches: object, instances: object) -> Path:
    (path / "max_user_watches").write_text(f"{watches}\n")
    (path / "max_user_instances").write_text(f"{instances}\n")
    return path


def test_too_few_watches_come_with_the_line_that_raises_them(tmp_path: Path) -> None:
    assert watches.watches(1000, 2, limits=limits(tmp_path, 8192, 128)).level is Level.OK
    found = watches.watches(8000, 2, limits=tmp_path)
    assert found.level is Level.WRONG
    assert found.mend.startswith("Run: sysctl fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024,")
    assert "max_user_watches=4194304" in watches.watches(2_000_000, 2, limits=tmp_path).mend
    assert watches.watches(1, 100, limits=tmp_path).level is Level.WRONG
    assert watches.watches(1, 1, limits=tmp_path / "none").level is Level.WRONG


def test_folders_are_counted_as_they_are_watched(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".hidden" / "c").mkdir(parents=True)
    assert watches.count([tmp_path, tmp_path / "missing"]) == 3


# --- Syncthing ---


def config(tmp_path: Path, attributes: str, inside: str = "") -> Path:
    file = tmp_path / "config.xml"
    file.write_text(f'<configuration version="37"><folder id="x" {attributes}>{inside}</folder></configuration>')
    return file


@pytest.mark.parametrize(
    ("attributes", "inside", "level", "said"),
    [
        ('type="sendreceive"', "<paused>false</paused>", Level.OK, "sends and receives"),
        ('type="sendonly"', "", Level.WRONG, "nothing comes from the phone"),
        ('type="receiveonly"', "", Level.WRONG, "no deletion in Immich reaches the phone"),
        ('type="receiveencrypted"', "", Level.WRONG, "is encrypted"),
        ("", "<ignoreDelete>true</ignoreDelete>", Level.NOTE, "ignores deletions"),
        ("", "<paused>true</paused>", Level.NOTE, "is paused"),
        ('fsWatcherEnabled="false"', "", Level.NOTE, "is not watched"),
    ],
)
def test_what_a_share_can_not_do_is_found(
    tmp_path: Path, attributes: str, inside: str, level: Level, said: str
) -> None:
    file = config(tmp_path, f'path="{ROOT}/Camera" {attributes}', inside)
    found = the(syncthing.syncthing([file], [ROOT]))
    assert found.level is level
    assert said in found.found


@pytest.mark.parametrize("path", [ROOT, ROOT.parent])
def test_a_share_that_holds_the_quarantine_is_found(tmp_path: Path, path: Path) -> None:
    found = the(syncthing.syncthing([config(tmp_path, f'path="{path}"')], [ROOT]))
    assert (found.level, found.mend) == (Level.WRONG, "Share a folder below it, as in <user id>/Camera")


def test_a_share_elsewhere_is_nobodys_business(tmp_path: Path) -> None:
    assert list(syncthing.syncthing([config(tmp_path, 'path="/srv/sync/one-more" type="sendonly"')], [ROOT])) == []


@pytest.mark.parametrize("text", ["<configuration", "", "<!DOCTYPE x [" + '<!ENTITY a "aaaaaaaaaa">' + "]><x>&b;</x>"])
def test_a_configuration_that_cannot_be_read_is_noted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.xml"
    file.write_text(text)
    assert the(syncthing.syncthing([file], [ROOT])).level is Level.NOTE


def test_a_configuration_that_explodes_is_refused(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    file = tmp_path / "config.xml"
    file.write_text(f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{entities}]><x>&e11;</x>')
    assert the(syncthing.syncthing([file], [ROOT])).level is Level.NOTE


def test_configurations_are_found_where_syncthing_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for inside in (".config/syncthing", ".local/state/syncthing"):
        (tmp_path / inside).mkdir(parents=True)
        (tmp_path / inside / "config.xml").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.xml").touch()
    monkeypatch.setenv("STCONFDIR", str(tmp_path / "elsewhere"))
    found = [file for file in syncthing.configurations([]) if file.is_relative_to(tmp_path)]
    assert [file.parent.name for file in found] == ["syncthing", "syncthing", "elsewhere"]


# --- syncs ---


def state(**given: object) -> OwnerState:
    counts = dict.fromkeys(("synced", "waiting", "refused", "damaged", "holds", "quarantined", "events"), 0)
    nothing = dict.fromkeys(("first_scan_at", "last_scan_at", "last_scan", "summary"))
    values: dict[str, object] = {"owner": OwnerId(UUID(int=1)), "enabled": True, "problems": {}, "undecided": {}}
    return OwnerState(**(values | counts | nothing | given))  # type: ignore[arg-type]


def test_a_user_whom_nobody_syncs_is_found() -> None:
    assert the(syncs.sync("a@b", None, running=False)).mend.startswith("Run: immich-dbsync run")
    assert the(syncs.sync("a@b", state(), running=True)).level is Level.OK


def test_one_who_is_paused_is_noted() -> None:
    found = the(syncs.sync("a@b", state(problems={"paused": {"text": "x"}}), running=False))
    assert (found.level, found.mend) == (Level.NOTE, "Go on with: immich-dbsync users resume a@b")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"problems": {"quota": {"text": "Immich takes no more uploads."}}}, "Immich takes no more uploads"),
        ({"holds": 1}, "1 hold waits"),
        ({"holds": 2}, "2 holds wait"),
        ({"refused": 2, "damaged": 1}, "2 files refused by Immich, 1 damaged"),
    ],
)
def test_what_waits_for_a_person_is_found(given: dict[str, object], said: str) -> None:
    [good, found] = syncs.sync("a@b", state(**given), running=True)
    assert levels([good, found]) == [Level.OK, Level.WRONG]
    assert found.found == said


# --- policies ---


def test_a_policy_for_a_folder_that_nobody_has_is_told_with_the_nearest(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "Camera" / "2026").mkdir(parents=True)
    (two / "Old phone").mkdir(parents=True)
    assert [*policies(["Camera", "Old phone", "Camera/2026"], [one, two])] == []
    [found] = policies(["Camra"], [one, two])
    assert (found.level, found.what) == (Level.NOTE, "policies")
    assert found.found == "no user has a folder 'Camra', which a policy is for"
    assert found.mend.endswith("Did you mean Camera?")
    [found] = policies(["Camera/2062"], [one, two])
    assert found.mend.endswith("Did you mean Camera/2026?")
    [found] = policies(["Nothing like it"], [one, two])
    assert found.mend.endswith("make the folder.")
    # Where a folder is not there, or nobody is synced, nobody can say.
    assert [*policies(["Camra"], [one, tmp_path / "three"])] == [*policies(["Camra"], [])] == []
