"""Each check of `doctor` that needs no server: what makes it fail, and what it then says to do."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import AnyHttpUrl, SecretStr

from immich_dbsync.disk.watch import FolderLimit, WatchLimit
from immich_dbsync.doctor import (
    configuration,
    database,
    filesystems,
    folders,
    keyfile,
    server,
    syncs,
    syncthing,
    watches,
)
from immich_dbsync.doctor.examination import examine
from immich_dbsync.doctor.filesystems import Mount
from immich_dbsync.doctor.finding import Finding, Level
from immich_dbsync.doctor.policies import policies
from immich_dbsync.errors import DatabaseUnreachable, LoginRefused, SettingsError
from immich_dbsync.immich.library import Owner
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import Account
from immich_dbsync.settings import CONFIG_VARIABLE, SNAP_VARIABLE, Settings
from immich_dbsync.store.state import OwnerState

ROOT = Path("/srv/sync/one")
ADA = Account(Owner(OwnerId(UUID(int=1)), "a@b", "Ada", active=True), "the-key")
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


def test_what_has_just_answered_need_not_be_started() -> None:
    refused = database.no_database(LoginRefused("PostgreSQL refuses the login: no such role.")).mend
    assert refused.startswith("Mend user, password or database name in IMMICH_DBSYNC_DATABASE_URL")
    assert database.no_database(DatabaseUnreachable("x")).mend.startswith("Start PostgreSQL")


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
    of_two = server.nobody(["a@b", "c@d"]).mend
    assert of_two == "Or for another of 2 users, see users list. Run: immich-dbsync users add a@b"
    assert server.nobody([]).mend == "Make the first in Immich's web page"
    assert server.unusable([], ["a@b"], settings()) == []


UNKNOWN = "API key 1 of 1 is not known to this Immich: make a new one in its account settings"
DELETED = "API key 1 belongs to c@d, who is deleted in Immich: take the key out"


@pytest.mark.parametrize(
    ("problem", "given", "without", "mend"),
    [
        (UNKNOWN, {}, ["a@b"], "Take it out of /etc/keys. Run: immich-dbsync users add a@b"),
        (UNKNOWN, {}, [], "Take it out of /etc/keys"),
        (DELETED, {}, ["a@b"], "Take it out of /etc/keys"),
        (
            UNKNOWN,
            {"api_keys_file": None, "api_keys": SecretStr("k")},
            ["a@b"],
            "Put another key in its place in IMMICH_DBSYNC_API_KEYS; make it in Immich (Account Settings, API Keys)",
        ),
        (
            UNKNOWN,
            {"api_keys": SecretStr("k")},
            ["a@b"],
            "Take it out of IMMICH_DBSYNC_API_KEYS or /etc/keys. Run: immich-dbsync users add a@b",
        ),
    ],
)
def test_a_key_of_no_use_is_replaced_where_it_stands(
    problem: str, given: dict[str, object], without: list[str], mend: str
) -> None:
    found = the(server.unusable([problem], without, settings(**given)))
    assert (found.level, found.found, found.mend) == (Level.WRONG, problem.partition(":")[0], mend)


@pytest.mark.parametrize(
    ("lacking", "level", "mend"),
    [
        ((), Level.OK, ""),
        (("asset.copy",), Level.NOTE, "Give the key this permission in Immich (Account Settings, API Keys)"),
        (("asset.delete",), Level.WRONG, "Run: immich-dbsync users add a@b"),
        (("asset.upload", "asset.copy"), Level.WRONG, "Run: immich-dbsync users add a@b"),
    ],
)
def test_permissions_that_are_missing_are_found(lacking: tuple[str, ...], level: Level, mend: str) -> None:
    found = server.permissions("API key", lacking, server.better_key(ADA, settings()))
    assert (found.level, found.mend) == (level, mend)


@pytest.mark.parametrize(
    "given", [{"api_keys": SecretStr("other the-key")}, {"api_keys": SecretStr("the-key"), "api_keys_file": None}]
)
def test_a_key_that_users_add_would_not_replace_is_not_left_to_it(given: dict[str, object]) -> None:
    mend = server.better_key(ADA, settings(**given))
    assert mend.startswith("Give it asset.upload and asset.delete and asset.copy in Immich")
    assert mend.endswith("or put another in its place in IMMICH_DBSYNC_API_KEYS")


# --- the file of keys ---


def keys_of(**given: object) -> tuple[tuple[str, ...] | None, list[Finding]]:
    return keyfile.keys(settings(**given))


def test_before_the_first_key_a_file_that_is_not_there_is_no_mistake(tmp_path: Path) -> None:
    assert keys_of(api_keys_file=tmp_path / "keys") == ((), [])


def test_what_run_would_refuse_is_found(tmp_path: Path) -> None:
    """A file that is missing beside a key in the variable; and one that others may read, in a folder with a space."""
    missing = tmp_path / "my keys"
    known, found = keys_of(api_keys=SecretStr("k"), api_keys_file=missing)
    assert known == ("k",)
    assert the(found).mend.endswith(f" Run: install -m 600 /dev/null '{missing}'")
    subprocess.run(the(found).mend.partition("Run: ")[2], shell=True, check=True)
    assert keys_of(api_keys=SecretStr("k"), api_keys_file=missing) == (("k",), [])
    missing.chmod(0o644)
    missing.write_text("k")
    known, found = keys_of(api_keys_file=missing)
    assert (known, the(found).found) == (None, f"{missing} may be read by others (mode 0644)")
    assert the(found).mend == f"Run: chmod 600 '{missing}'"


def test_a_folder_that_users_add_could_not_write_to_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "no folder" / "keys"
    [found] = keys_of(api_keys_file=missing)[1]
    assert (found.level, found.mend) == (Level.WRONG, f"Run: mkdir -p -m 700 '{missing.parent}'")
    (tmp_path / "file").touch()
    [found, _] = keys_of(api_keys_file=tmp_path / "file" / "keys")[1]
    assert found.found == f"{tmp_path}/file is no folder"
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    for user, mend in ((0, "Set IMMICH_DBSYNC_API_KEYS_FILE to a file in a folder"), (1, "Run as its owner (")):
        monkeypatch.setattr("os.geteuid", lambda user=user: user)
        [found] = keys_of(api_keys_file=tmp_path / "keys")[1]
        assert (found.level, found.mend.startswith(mend)) == (Level.WRONG, True)
    (tmp_path / "keys").touch(mode=0o600)
    [found] = keys_of(api_keys_file=tmp_path / "keys")[1]
    assert found.level is Level.NOTE


# --- folders ---


def test_a_sync_root_that_is_missing_or_no_folder_is_found(tmp_path: Path) -> None:
    assert folders.sync_root(tmp_path).level is Level.OK
    missing = tmp_path / "missing"
    assert folders.sync_root(missing).mend == (
        "Mount it, or make it and give it (chown) to the user as whom the file sync tool writes there."
        f" Run: mkdir -p {missing}"
    )
    assert folders.sync_root(tmp_path / "my photos").mend.endswith(f" Run: mkdir -p '{tmp_path}/my photos'")
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
    """What is said to do makes it the right one: without a mark, and with another folder's."""
    known = UUID(int=1)
    for found, before in (("has no mark", None), ("has the mark of another folder", UUID(int=2))):
        root = tmp_path / f"my {found}"
        state = root / ".immich-dbsync"
        root.mkdir()
        if before is not None:
            state.mkdir()
            (state / "root-id").write_text(f"{before}\n")
        said = folder_of(root, root_id=known)
        assert (said.level, found in said.found) == (Level.WRONG, True)
        subprocess.run(said.mend.partition("Run: ")[2], shell=True, check=True)
        assert (state / "root-id").read_text() == f"{known}\n"
        assert folder_of(root, root_id=known).level is Level.OK
        assert ".stfolder" in folder_of(root, root_id=known, st=(b"Camera",)).mend


@pytest.mark.parametrize("root_id", [None, UUID(int=1)])
def test_what_is_no_mark_is_put_aside_and_never_written_through(tmp_path: Path, root_id: UUID | None) -> None:
    state, target = tmp_path / ".immich-dbsync", tmp_path / "target"
    state.mkdir()
    target.write_text("mine")
    (state / "root-id").symlink_to(target)
    found = folder_of(tmp_path, root_id=root_id)
    assert found.found == f"{state}/root-id is no mark of ours"
    subprocess.run(found.mend.partition("Run: ")[2], shell=True, check=True)
    assert (state / "root-id.aside").is_symlink()
    if root_id is not None:  # and should it be back by the time that the next advice is followed:
        found = folder_of(tmp_path, root_id=root_id)
        (state / "root-id").symlink_to(target)
        assert subprocess.run(found.mend.partition("Run: ")[2], shell=True, check=False).returncode != 0
    assert target.read_text() == "mine"


def test_a_folder_that_may_not_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    assert "may not be read and written" in folder_of(tmp_path).found


@pytest.mark.parametrize("user", [0, 1])
def test_where_only_rights_are_missing_nothing_is_moved_or_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    """The folder, our own in it, the mark, and the sync root."""
    (tmp_path / ".immich-dbsync").mkdir()
    (tmp_path / ".immich-dbsync" / "root-id").write_text("1")
    really = os.open

    def refused(name: str) -> Callable[..., int]:
        def refusing(path: str | bytes | Path, *given: Any, **how: Any) -> int:
            if Path(os.fsdecode(path)).name == name:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return really(path, *given, **how)

        return refusing

    monkeypatch.setattr("os.geteuid", lambda: user)
    for name in (tmp_path.name, ".immich-dbsync", "root-id"):
        with monkeypatch.context() as patched:
            patched.setattr("os.open", refused(name))
            found = folder_of(tmp_path, root_id=UUID(int=1))
        assert found.level is Level.WRONG
        assert found.found.endswith((" may not be opened", " may not be read"))
        assert (" Run: setfacl " if user == 0 else "Run as its owner (") in found.mend


def test_a_file_in_place_of_our_own_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / ".immich-dbsync").touch()
    assert folder_of(tmp_path).mend.endswith(f" Run: mv {tmp_path}/.immich-dbsync {tmp_path}/.immich-dbsync.aside")


def test_a_good_folder_says_what_makes_it_good(tmp_path: Path) -> None:
    found = folder_of(tmp_path, on=[Mount(Path("/"), "ext4")]).found
    assert found == (
        f"{tmp_path} is there, readable and writable, on ext4; files can be renamed into its quarantine,"
        " and inotify tells of changes"
    )


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
    assert found.mend == (
        "As root, and restart the service afterwards. Run: sysctl -w fs.inotify.max_user_watches=1048576"
        " fs.inotify.max_user_instances=1024 | tee /etc/sysctl.d/60-immich-dbsync.conf"
    )
    assert "max_user_watches=4194304" in watches.watches(2_000_000, 2, limits=tmp_path).mend
    assert watches.watches(1, 100, limits=tmp_path).level is Level.WRONG
    enough = watches.watches(1, 100, limits=limits(tmp_path, 1 << 24, 128)).mend
    assert f"max_user_watches={1 << 24} " in enough  # what is high already is not lowered
    limits(tmp_path, 8192, 128)
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


def sync_of(given: OwnerState | None, *, running: bool) -> list[Finding]:
    return [*syncs.sync("a@b", given, running=running, better_key="a better key")]


def test_a_user_whom_nobody_syncs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert the(sync_of(None, running=False)).mend.endswith(" Run: immich-dbsync run")
    assert the(sync_of(state(), running=True)).level is Level.OK
    monkeypatch.setenv(SNAP_VARIABLE, "photos")
    assert the(sync_of(None, running=False)).mend.endswith(" Run: snap set photos dbsync.enabled=true")


def test_one_who_is_paused_is_noted() -> None:
    found = the(sync_of(state(problems={"paused": {"text": "x"}}), running=False))
    assert (found.level, found.mend) == (Level.NOTE, "It goes on with this. Run: immich-dbsync users resume a@b")


@pytest.mark.parametrize(
    ("given", "said", "mend"),
    [
        (
            {"problems": {"quota": {"text": "Immich takes no more uploads."}}},
            "Immich takes no more uploads",
            "Run: immich-dbsync resync --user a@b",
        ),
        ({"problems": {"key": {"text": "Immich refuses the API key."}}}, "Immich refuses the API key", "a better key"),
        ({"problems": {"owner": {"text": "deleted"}}}, "deleted", "Run: immich-dbsync users remove a@b"),
        ({"problems": {"root": {"text": "x"}}}, "x", "the folder of a@b"),
        ({"problems": {"watch": {"text": str(WatchLimit("x", 9))}}}, str(WatchLimit("x", 9)), "Run: sysctl -w "),
        ({"problems": {"watch": {"text": str(FolderLimit("x"))}}}, str(FolderLimit("x")), "Move away what holds no"),
        ({"problems": {"copy": {"text": "x"}}}, "x", "asset.copy"),
        ({"problems": {"new": {"text": "x"}}}, "x", "Run: journalctl -u immich-dbsync --since -1h"),
        ({"holds": 1}, "1 hold waits", "Run: immich-dbsync holds list"),
        ({"holds": 2}, "2 holds wait", "Run: immich-dbsync holds list"),
        ({"refused": 2, "damaged": 1}, "2 files refused by Immich, 1 damaged", "Run: immich-dbsync status"),
    ],
)
def test_what_waits_for_a_person_is_found(given: dict[str, object], said: str, mend: str) -> None:
    [good, found] = sync_of(state(**given), running=True)
    assert levels([good, found]) == [Level.OK, Level.WRONG]
    assert (found.found, mend in found.mend) == (said, True)


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


# --- in a snap ---


@pytest.mark.parametrize(
    ("snap", "program"),
    [
        ("immich-dbsync", "immich-dbsync"),
        ("immich-dbsync_two", "immich-dbsync_two"),
        ("immich-distribution", "immich-distribution.dbsync"),
    ],
)
def test_in_a_snap_commands_are_called_as_there(monkeypatch: pytest.MonkeyPatch, snap: str, program: str) -> None:
    monkeypatch.setenv(SNAP_VARIABLE, snap)
    assert server.nobody(["a@b"]).mend == f"Run: {program} users add a@b"
    assert database.as_expected(["x"]).mend == f"Run: {program} triggers install"
    assert "dbsync.database-url" in database.no_database(DatabaseUnreachable("x")).mend
    monkeypatch.setenv("SNAP_COMMON", "/var/snap/x/common")
    place = "/var/snap/x/common/dbsync/api-keys"  # a snap may write there, and not to /etc
    unset = the(configuration.configuration(settings(api_keys_file=None))).mend
    assert unset == f"Set it with: snap set {snap} dbsync.api-keys-file={place}"
    assert folders.unknown_mounts(OSError(errno.EACCES, "x")).mend == f"Run: snap connect {snap}:mount-observe"


# --- all of them ---


@pytest.mark.parametrize(
    "given",
    [
        *({"database_url": SecretStr(url)} for url in ("foo", "mysql://x", "postgresql://u:p@%zz:abc/immich")),
        {"database_url": SecretStr("postgresql://postgres@127.0.0.1:99999/x")},
        {"database_url": SecretStr("postgresql://u@127.0.0.1:1/x?sslmode=none")},
        {"database_url": None, "DB_HOSTNAME": "a@b:c"},
        {"sync_root": Path("here")},
    ],
)
async def test_where_a_check_could_not_run_not_all_is_well(given: dict[str, object]) -> None:
    nowhere = AnyHttpUrl("http://127.0.0.1:1")
    found = [finding async for finding in examine(lambda: settings(**given, server_url=nowhere))]
    of_it = [each for each in found if each.level is Level.WRONG and each.what in {"settings", "database"}]
    assert of_it
    assert "p@%zz" not in str(found)
