"""Whatever is wrong is said in one line with an exit code of its own, and what may come later is waited for."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import create_tables
from tests.acceptance.commands import Service, command, ended, environment, execute, invoked, without_override
from tests.databases import Servers
from tests.databases import execute as sql
from tests.waiting import until

PASSWORD = "s3cret-p4ss"
URL = f"postgresql://immich:{PASSWORD}@127.0.0.1:1/immich"
GOOD = {
    "IMMICH_DBSYNC_DATABASE_URL": URL,
    "IMMICH_DBSYNC_SYNC_ROOT": "/srv/sync",
    "IMMICH_DBSYNC_API_KEYS": "s3cret-k3y",
}
STOP_S = 10.0
READING = ("status", "users list", "resync --dry-run", "triggers verify")


async def _fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await create_tables(connection, "3.1.0")
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server of this module's own: it asks the role ``secured`` for its password, and may be stopped."""
    # A commit of Immich's survives a crash, as on its own server: without that its API key could be gone afterwards.
    with Cluster(settings={"synchronous_commit": "on"}) as cluster:
        hba = cluster.folder / "data" / "pg_hba.conf"
        hba.write_text("local all secured scram-sha-256\n" + hba.read_text())
        asyncio.run(
            sql(
                cluster.url(),
                f"create role secured login password '{PASSWORD}'",
                "create role poor login",
                "create database immich",
                "create database ancient",
                "select pg_reload_conf()",
            )
        )
        asyncio.run(_fill(cluster.url("immich")))
        asyncio.run(sql(cluster.url("ancient"), "create table assets (id uuid)"))
        yield cluster


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    with servers.database() as name:
        yield servers.cluster().url(name)


@pytest.fixture
async def stage(url: str) -> AsyncIterator[Stage]:
    async with staged(url, version="3.1.0") as stage:
        yield stage


@pytest.fixture
async def mortal(cluster: Cluster) -> AsyncIterator[Stage]:
    """A stage whose database may be stopped."""
    async with staged(cluster.url("immich"), version="3.1.0", settings={"IMMICH_DBSYNC_HEARTBEAT": "1"}) as stage:
        yield stage
        await sql(stage.database_url, 'delete from "user"')


async def _add_person(stage: Stage, email: str) -> tuple[Path, str]:
    user = await create_user(stage.connection, email=email)
    return stage.home / "sync" / str(user), await create_api_key(stage.connection, user, PERMISSIONS)


def _put(folder: Path, name: str, data: bytes | int = b"") -> Path:
    """A file with an old mtime, as a file sync tool renames it into place; a number is the size of a sparse one."""
    path = folder / name
    hidden = folder / f".{name}.tmp"
    with hidden.open("wb") as file:
        if isinstance(data, int):
            file.truncate(data)
        else:
            file.write(data or os.urandom(64))
    os.utime(hidden, (1_700_000_000, 1_700_000_000))
    hidden.rename(path)
    return path


async def _until_assets(url: str, count: int, *, seconds: float = 20.0) -> None:
    """Wait until Immich has that many assets; on a connection of its own, for the others may have been cut."""
    connection = await asyncpg.connect(url)
    try:

        async def there() -> bool:
            return bool(await connection.fetchval("select count(*) = $1 from asset", count))

        await until(there, seconds=seconds)
    finally:
        await connection.close()


# --- settings ---

WRONG_SETTINGS: dict[str, tuple[dict[str, str], str]] = {
    "no database": ({"IMMICH_DBSYNC_DATABASE_URL": ""}, "No database is set. Set IMMICH_DBSYNC_DATABASE_URL=postgres"),
    "other database": ({"IMMICH_DBSYNC_DATABASE_URL": URL.replace("postgresql", "mysql")}, "must begin with postgres"),
    "slash in password": ({"IMMICH_DBSYNC_DATABASE_URL": f"postgresql://u:{PASSWORD}/x@h/d"}, "as %XX"),
    "at in password": ({"IMMICH_DBSYNC_DATABASE_URL": f"postgresql://u:{PASSWORD}@x@h/d"}, "as %XX"),
    "bracket in URL": ({"IMMICH_DBSYNC_DATABASE_URL": f"postgresql://u:{PASSWORD}@[h/d"}, "can't be read"),
    "no sync root": ({"IMMICH_DBSYNC_SYNC_ROOT": ""}, "No sync root is set. Set IMMICH_DBSYNC_SYNC_ROOT"),
    "relative sync root": ({"IMMICH_DBSYNC_SYNC_ROOT": "sync"}, "must be an absolute path, not 'sync'"),
    "no key": ({"IMMICH_DBSYNC_API_KEYS": ""}, "No API key is set. Set IMMICH_DBSYNC_API_KEYS_FILE and run"),
    "mistyped variable": ({"IMMICH_DBSYNC_SYNCROOT": "/x"}, "Did you mean IMMICH_DBSYNC_SYNC_ROOT?"),
    "no number": ({"IMMICH_DBSYNC_UPLOADS": "many"}, "IMMICH_DBSYNC_UPLOADS: it must be a whole number"),
    "too many": ({"IMMICH_DBSYNC_UPLOADS": "99"}, "IMMICH_DBSYNC_UPLOADS: it must be less than or equal to 32"),
    "endless": ({"IMMICH_DBSYNC_SETTLE_TIME": "inf"}, "IMMICH_DBSYNC_SETTLE_TIME: it must be a finite number"),
    "no server": ({"IMMICH_DBSYNC_SERVER_URL": "immich"}, "IMMICH_DBSYNC_SERVER_URL: it must be a URL such as"),
    "no such file": ({"IMMICH_DBSYNC_CONFIG": "/no/such.toml"}, "'/no/such.toml', which is no file"),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_a_wrong_setting_is_named(name: str) -> None:
    settings, said = WRONG_SETTINGS[name]
    done = invoked("run", settings=GOOD | settings)
    assert said in done.complaint(3, PASSWORD, "s3cret-k3y")


def test_a_wrong_setting_ends_the_process_with_one_line() -> None:
    done = execute("run", env=environment({}))
    assert done.complaint(3).startswith("No database is set.")
    assert done.out == ""


WRONG_FILES = {
    "no TOML": (b"database_url = s3cret-k3y\nx", "is not valid TOML"),
    "no text": (b"sync_root = '\xff'", "is not valid TOML"),
    "mistyped key": (b"sync_rot = '/srv'", "There is no setting 'sync_rot'"),
    "wrong type": (b"api_keys = ['s3cret-k3y']", "api_keys: it must be text in quotes"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_settings_file_is_named(tmp_path: Path, name: str) -> None:
    text, said = WRONG_FILES[name]
    file = tmp_path / "dbsync.toml"
    file.write_bytes(text)
    settings = {"IMMICH_DBSYNC_CONFIG": str(file), "IMMICH_DBSYNC_DATABASE_URL": URL}
    complaint = invoked("run", settings=settings).complaint(3, "s3cret-k3y", PASSWORD)
    assert said in complaint
    if name == "mistyped key":
        assert complaint.endswith("Did you mean sync_root?")


def test_a_settings_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dbsync.toml"
    file.touch(mode=0o000)
    done = execute("run", env=environment(GOOD | {"IMMICH_DBSYNC_CONFIG": str(file)}), before=without_override())
    assert done.complaint(3) == f"{file} can't be read: Permission denied."


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (b"s3cret-k3y\n", 0o644, "may be read by others (mode 0644). Run: chmod 600 /"),
        (b"# none yet\n\n", 0o600, "No API key is set."),
        (b"\xff\xfe", 0o600, "it is not UTF-8 text"),
        (None, 0o600, "No such file or directory"),
    ],
)
def test_a_keys_file_must_be_private_and_hold_keys(tmp_path: Path, text: bytes | None, mode: int, said: str) -> None:
    file = tmp_path / "keys"
    if text is not None:
        file.write_bytes(text)
        file.chmod(mode)
    settings = {"IMMICH_DBSYNC_API_KEYS": "", "IMMICH_DBSYNC_API_KEYS_FILE": str(file)}
    assert said in invoked("run", settings=GOOD | settings).complaint(3, "s3cret-k3y", PASSWORD)


# --- the database ---


@pytest.mark.parametrize("arguments", ["run", *READING])
def test_a_refused_login_is_said_without_the_password(cluster: Cluster, arguments: str) -> None:
    url = cluster.url("immich", "secured").replace("secured@", "secured:wr0ng-p4ss@")
    settings = GOOD | {"IMMICH_DBSYNC_DATABASE_URL": url}
    complaint = ended(*arguments.split(), settings=settings).complaint(4, "wr0ng-p4ss", "s3cret-k3y")
    assert 'password authentication failed for user "secured"' in complaint


def test_the_right_password_is_taken_from_immichs_own_variables(cluster: Cluster) -> None:
    names = {"DB_HOSTNAME": str(cluster.folder), "DB_USERNAME": "secured", "DB_PASSWORD": PASSWORD}
    env = environment(GOOD | {"IMMICH_DBSYNC_DATABASE_URL": ""} | names | {"DB_DATABASE_NAME": "immich"})
    done = execute("triggers", "verify", env=env)
    assert done.code == 6
    assert done.out.startswith("The triggers differ from what install makes:")


@pytest.mark.parametrize(
    ("database", "role", "said"),
    [
        ("immich", "stranger", 'role "stranger" does not exist'),
        ("imich", "postgres", 'database "imich" does not exist'),
    ],
)
def test_a_role_or_database_that_does_not_exist_is_named(cluster: Cluster, database: str, role: str, said: str) -> None:
    env = environment(GOOD | {"IMMICH_DBSYNC_DATABASE_URL": cluster.url(database, role)})
    assert said in execute("run", env=env).complaint(4)
    assert said in execute("triggers", "install", env=env).complaint(4)


@pytest.mark.parametrize("arguments", READING)
def test_commands_do_not_wait_for_a_database_that_is_down(arguments: str) -> None:
    complaint = ended(*arguments.split(), settings=GOOD).complaint(4, PASSWORD, "s3cret-k3y")
    assert "does not answer" in complaint
    assert "127.0.0.1" in complaint


@pytest.mark.parametrize("arguments", ["run", "triggers install", *READING])
def test_a_database_that_is_no_immich_is_said_to_be_none(cluster: Cluster, arguments: str) -> None:
    settings = GOOD | {"IMMICH_DBSYNC_DATABASE_URL": cluster.url("postgres")}
    complaint = ended(*arguments.split(), settings=settings).complaint(5, "s3cret-k3y")
    assert "right" in complaint
    assert "has Immich started?" in complaint


def test_an_immich_that_is_too_old_is_said_to_be(cluster: Cluster) -> None:
    env = environment(GOOD | {"IMMICH_DBSYNC_DATABASE_URL": cluster.url("ancient")})
    assert execute("run", env=env).complaint(5) == (
        "This Immich is older than 1.136, which is not supported: update Immich first."
    )


def test_a_role_that_may_not_create_triggers_is_told_the_grant(cluster: Cluster) -> None:
    env = environment(GOOD | {"IMMICH_DBSYNC_DATABASE_URL": cluster.url("immich", "poor")})
    complaint = execute("run", env=env).complaint(7)
    assert 'Role "poor" may not put triggers on public.asset' in complaint
    assert 'GRANT "postgres" TO "poor";' in complaint


def test_a_role_that_may_not_read_the_tables_is_told_what_to_grant(cluster: Cluster) -> None:
    assert ended("triggers", "install", settings={"DB_URL": cluster.url("immich")}).code == 0
    try:
        settings = GOOD | {"IMMICH_DBSYNC_DATABASE_URL": cluster.url("immich", "poor")}
        for arguments in ("run", "status", "users list", "resync --dry-run"):
            complaint = ended(*arguments.split(), settings=settings).complaint(7)
            assert "permission denied for" in complaint
            assert complaint.endswith("immich-dbsync doctor")
        told = ended("doctor", settings=settings)
        assert (told.code, "immich-dbsync triggers sql --role poor | psql " in told.out) == (12, True)
    finally:
        ended("triggers", "remove", settings={"DB_URL": cluster.url("immich")})


async def test_a_database_that_is_down_at_the_start_is_waited_for(cluster: Cluster, mortal: Stage) -> None:
    _put(mortal.folder, "a.jpg")
    await asyncio.to_thread(cluster.stop_server)
    try:
        with Service(mortal.environment(), mortal.home / "log") as service:
            told = await service.until_logged("database.unavailable")
            assert "does not answer at" in told["reason"]
            await asyncio.to_thread(cluster.start_server)
            await _until_assets(mortal.database_url, 1)
            assert (await service.stop())[0] == 0
            assert "Traceback" not in service.text()
    finally:
        if not (cluster.folder / "data" / "postmaster.pid").exists():
            await asyncio.to_thread(cluster.start_server)


async def test_sigterm_ends_the_wait_for_a_database() -> None:
    # port 1 on this host answers nobody
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://immich:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/immich"
        log = Path(f"/proc/self/fd/{os.memfd_create('log')}")
        with Service(environment(GOOD | {"IMMICH_DBSYNC_DATABASE_URL": url}), log) as service:
            await service.until_logged("database.unavailable")
            code, seconds = await service.stop()
            assert code == 0
            assert seconds < STOP_S
            assert PASSWORD not in service.text()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_database_that_restarts_under_the_service_is_no_end(cluster: Cluster, mortal: Stage, mode: str) -> None:
    with Service(mortal.environment(), mortal.home / "log") as service:
        _put(mortal.folder, "a.jpg")
        await _until_assets(mortal.database_url, 1)
        await asyncio.to_thread(cluster.stop_server, mode)
        await service.until_logged("database.unavailable")
        _put(mortal.folder, "b.jpg")
        await asyncio.to_thread(cluster.start_server)
        await _until_assets(mortal.database_url, 2)
        _put(mortal.folder, "c.jpg")
        await _until_assets(mortal.database_url, 3)
        assert (await service.stop())[0] == 0
        assert "Traceback" not in service.text()


# --- keys ---


@pytest.mark.parametrize("arguments", ["run", "resync --dry-run"])
async def test_a_key_that_immich_does_not_know_is_said_to_be_unknown(stage: Stage, arguments: str) -> None:
    await command("triggers", "install", env=stage.environment())
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = "n0-such-k3y"
    complaint = (await command(*arguments.split(), env=stage.environment())).complaint(9, "n0-such-k3y")
    assert complaint.startswith("API key 1 of 1 is not known to this Immich: make a new one")


async def test_the_key_of_a_deleted_user_is_said_to_be(stage: Stage) -> None:
    await stage.connection.execute("""update "user" set status = 'deleted', "deletedAt" = now()""")
    complaint = (await command("run", env=stage.environment())).complaint(9, stage.key)
    assert complaint == "API key 1 belongs to ada@example.org, who is deleted in Immich: take the key out."


async def test_a_bad_key_beside_a_good_one_is_reported_and_the_good_one_works(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"n0-such-k3y {stage.key}"
    _put(stage.folder, "a.jpg")
    with Service(stage.environment(), stage.home / "log") as service:
        told = await service.until_logged("key.unusable")
        assert told["reason"].startswith("API key 1 of 2 is not known")
        await _until_assets(stage.database_url, 1)
        assert "n0-such-k3y" not in service.text()
        assert stage.key not in service.text()


# --- folders ---


@pytest.mark.parametrize("what", ["missing", "file", "link"])
async def test_a_root_that_is_none_is_named(stage: Stage, what: str) -> None:
    stage.folder.rmdir()
    said = "does not exist: create it, or mount it"
    if what == "file":
        stage.folder.touch()
        said = "is not a folder"
    elif what == "link":
        (stage.home / "elsewhere").mkdir()
        stage.folder.symlink_to(stage.home / "elsewhere")
        said = "is a link: put the folder itself there"
    for arguments in ("run", "resync --dry-run"):
        complaint = (await command(*arguments.split(), env=stage.environment())).complaint(10, stage.key)
        assert str(stage.folder) in complaint
        assert said in complaint


async def test_a_root_that_may_not_be_read_is_named(cluster: Cluster, mortal: Stage) -> None:
    cluster.folder.chmod(0o755)  # else the socket could not be reached without the rights taken away here
    mortal.folder.chmod(0)
    done = await command("run", env=mortal.environment(), before=without_override())
    complaint = done.complaint(10, mortal.key)
    assert f"{str(mortal.folder)!r} can't be opened (Permission denied): give the service the right" in complaint


async def test_a_sync_root_that_is_missing_is_named(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_SYNC_ROOT"] = str(stage.home / "elsewhere")
    complaint = (await command("run", env=stage.environment())).complaint(10)
    assert f"{str(stage.home / 'elsewhere' / stage.folder.name)!r} does not exist" in complaint


async def test_the_users_beside_one_without_a_folder_sync_and_theirs_may_come_later(stage: Stage) -> None:
    late, key = await _add_person(stage, "bob@example.org")
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{key} {stage.key}"
    _put(stage.folder, "a.jpg")
    with Service(stage.environment(), stage.home / "log") as service:
        told = await service.until_logged("root.unusable")
        assert told["owner"] == late.name
        assert "does not exist" in told["reason"]
        await _until_assets(stage.database_url, 1)
        status = await command("status", env=stage.environment())
        assert status.code == 12
        assert "bob@example.org: " in status.err
        late.mkdir()
        _put(late, "b.jpg")
        await _until_assets(stage.database_url, 2)
        assert (await command("status", env=stage.environment())).code == 0


# --- the server ---


async def test_a_server_that_is_down_at_the_start_is_waited_for(stage: Stage) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stage.settings["IMMICH_DBSYNC_SERVER_URL"] = f"http://127.0.0.1:{port}"
    _put(stage.folder, "a.jpg")
    with Service(stage.environment(), stage.home / "log") as service:
        told = await service.until_logged("server.unavailable")
        assert "does not answer" in told["reason"]
        await service.until_logged("scan.finished")
        async with StandIn(stage.database_url, port=port):
            await _until_assets(stage.database_url, 1)
            await service.until_logged("server.available")
        assert (await service.stop())[0] == 0
        assert stage.key not in service.text()


# --- the end ---


async def test_sigterm_ends_the_service_during_a_large_upload(stage: Stage) -> None:
    stage.immich.faults.delay_s = 60
    _put(stage.folder, "film.mp4", 200_000_000)

    async def uploading() -> bool:
        return ("POST", "/api/assets") in stage.immich.requests

    with Service(stage.environment(), stage.home / "log") as service:
        await until(uploading, seconds=20)
        code, seconds = await service.stop()
        assert code == 0
        assert seconds < STOP_S
        assert service.logged("service.stopped")
        assert "Traceback" not in service.text()
    assert await stage.connection.fetchval("select count(*) from asset") == 0


async def test_sigterm_ends_the_service_while_it_hashes_a_large_file(stage: Stage) -> None:
    _put(stage.folder, "film.mp4", 60_000_000_000)
    with Service(stage.environment(), stage.home / "log") as service:

        async def hashing() -> bool:
            return service.bytes_read() > 1_000_000_000

        await until(hashing, seconds=30)
        code, seconds = await service.stop()
        assert code == 0
        assert seconds < STOP_S
        assert service.logged("service.stopped")


async def test_ctrl_c_ends_the_service_in_good_order(stage: Stage) -> None:
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_logged("scan.finished")
        code, seconds = await service.stop(signal.SIGINT)
        assert code == 0
        assert seconds < STOP_S
        assert "Traceback" not in service.text()


async def test_a_second_service_stands_by_and_takes_over(stage: Stage) -> None:
    with (
        Service(stage.environment(), stage.home / "first.log") as first,
        Service(stage.environment(), stage.home / "second.log") as second,
    ):

        async def settled() -> bool:
            return len(first.logged("owner.started")) + len(second.logged("owner.started")) == 1 and bool(
                first.logged("owner.standby") or second.logged("owner.standby")
            )

        await until(settled, seconds=20)
        active, waiting = (first, second) if first.logged("owner.started") else (second, first)
        _put(stage.folder, "a.jpg")
        await _until_assets(stage.database_url, 1)
        assert waiting.logged("owner.started") == []
        active.kill()
        _put(stage.folder, "b.jpg")
        await _until_assets(stage.database_url, 2)
        await waiting.until_logged("owner.started")
        assert (await waiting.stop())[0] == 0
