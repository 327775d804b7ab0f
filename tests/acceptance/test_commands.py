"""``status``, ``users list`` and ``resync --dry-run`` as processes; and what every command says of itself."""

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from immich_dbsync import __version__
from immich_dbsync.cli.main import COMMANDS
from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.immich.api import Server, Upload
from immich_dbsync.model import Sha1
from tests.acceptance.commands import Service, command, environment, execute, installed, invoked, put
from tests.command_tree import tree
from tests.databases import Servers
from tests.waiting import until


@dataclass(frozen=True)
class Place:
    """A stage, and how to tell whether anything of it changed."""

    stage: Stage
    servers: Servers
    database: str

    def everything(self) -> tuple[list[str], list[tuple[str, tuple[int, ...]]]]:
        """All that the database holds, and every path below the sync root with what its inode says."""
        data = self.servers.cluster().dump(self.database)
        root = self.stage.home / "sync"
        return data.splitlines(), sorted(
            (str(path.relative_to(root)), _inode(path)) for path in [root, *root.rglob("*")]
        )


def _inode(path: Path) -> tuple[int, ...]:
    status = path.lstat()
    return status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@pytest.fixture
async def place(servers: Servers, database: str) -> AsyncIterator[Place]:
    async with staged(servers.cluster().url(database), version="3.1.0") as stage:
        yield Place(stage, servers, database)


@pytest.fixture
async def stage(place: Place) -> Stage:
    return place.stage


async def _upload(stage: Stage, name: str, data: bytes) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield data

    digest = Sha1(hashlib.sha1(data, usedforsecurity=False).digest())
    async with Server(stage.immich.url) as server:
        await server.upload(stage.key, Upload(name.encode(), len(data), 10**18, digest), body())


# --- status ---


async def test_status_before_anything_is_installed_says_so(stage: Stage) -> None:
    ended = await command("status", env=stage.environment())
    assert ended.code in {6, 12}
    assert "triggers install" in ended.out + ended.err
    assert "Traceback" not in ended.err


async def test_status_with_no_owner_yet(stage: Stage) -> None:
    await command("triggers", "install", env=stage.environment())
    ended = await command("status", env=stage.environment())
    said = "no owner is synced yet: start the service with `immich-dbsync run`"
    assert (ended.code, ended.out, ended.err) == (12, "", f"! {said}\n")
    ended = await command("status", "--json", env=stage.environment())
    assert (ended.code, ended.err, ended.json) == (12, "", {"version": 1, "problems": [said], "owners": []})


async def test_status_is_0_while_all_is_well_and_12_when_somebody_is_needed(stage: Stage) -> None:
    for number in range(3):
        put(stage.folder, f"{number}.jpg", b"%d" % number)
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_synced(stage, 3)
        ended = await command("status", env=stage.environment())
        assert (ended.code, ended.err) == (0, "")
        user, running, *counts, scanned = ended.out.rstrip("\n").split("\t")
        assert (user, running, counts) == ("ada@example.org", "running", ["3", "0", "0", "0", "0", "0"])
        assert datetime.fromisoformat(scanned).tzinfo is not None

        ended = await command("status", "--json", env=stage.environment())
        assert (ended.code, ended.err) == (0, "")
        [owner] = ended.json["owners"]
        assert owner["owner"] == str(stage.user)
        assert owner["email"] == "ada@example.org"
        assert (owner["running"], owner["active"], owner["problems"]) == (True, True, [])
        assert (owner["synced"], owner["waiting"], owner["refused"], owner["quarantined"]) == (3, 0, 0, 0)

        assert (await service.stop())[0] == 0
    ended = await command("status", env=stage.environment())
    assert ended.code == 12
    assert "ada@example.org: no service syncs this owner now: start it with `immich-dbsync run`" in ended.err
    ended = await command("status", "--json", env=stage.environment())
    assert ended.code == 12
    [owner] = ended.json["owners"]
    assert owner["running"] is False
    assert owner["problems"] == ["no service syncs this owner now: start it with `immich-dbsync run`"]


async def test_status_names_a_trigger_that_is_gone_and_how_to_mend_it(stage: Stage) -> None:
    await command("triggers", "install", env=stage.environment())
    await stage.connection.execute("drop trigger immich_dbsync_v1_updated on asset")
    ended = await command("status", env=stage.environment())
    assert ended.code == 12
    assert "immich_dbsync_v1_updated" in ended.err
    assert "Mend it with: immich-dbsync triggers install" in ended.err
    ended = await command("status", "--json", env=stage.environment())
    assert ended.code == 12
    assert "immich_dbsync_v1_updated" in " ".join(ended.json["problems"])


async def test_status_and_resync_tell_of_a_server_that_is_down(stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_synced(stage, 1)
        stage.settings["IMMICH_DBSYNC_SERVER_URL"] = "http://127.0.0.1:1"
        ended = await command("status", env=stage.environment())
        assert ended.code == 12
        assert "! Immich's server does not answer" in ended.err
        ended = await command("resync", "--dry-run", env=stage.environment())
    assert ended.code == 11
    counted, complaint = ended.err.splitlines()
    assert counted == "1 file compared: nothing to do. Nothing was changed."
    assert complaint.startswith("immich-dbsync: None of it can be done now: Immich's server does not answer")
    assert complaint.endswith("Start Immich, or mend the server URL.")


async def test_status_tells_of_a_key_that_lacks_a_permission(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = await create_api_key(stage.connection, stage.user, ["asset.read"])
    put(stage.folder, "a.jpg", b"a")
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_logged("owner.paused")
        ended = await command("status", env=stage.environment())
    assert ended.code == 12
    assert "ada@example.org: Immich refuses the API key: Missing required permission: asset.upload." in ended.err
    assert "Make a new key with asset.upload, asset.delete and asset.copy." in ended.err
    assert "Traceback" not in service.text()


async def test_status_tells_of_a_user_who_is_deleted_in_immich(stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_synced(stage, 1)
        await stage.connection.execute("""update "user" set status = 'deleted', "deletedAt" = now()""")
        ended = await command("status", env=stage.environment())
    assert ended.code == 12
    assert "ada@example.org: the user is deleted in Immich: nothing of theirs is touched" in ended.err


async def test_status_names_refused_files_printably(stage: Stage) -> None:
    put(stage.folder, os.fsdecode(b"two\nlines \xff.jpg"), b"x" * 100)
    await stage.connection.execute('update "user" set "quotaSizeInBytes" = 10')
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_logged("owner.paused")
        ended = await command("status", env=stage.environment())
        assert all(line.isprintable() for line in service.text().splitlines())
    assert ended.code == 12
    assert "Quota has been exceeded" in ended.err
    assert all(line.replace("\t", "").isprintable() for line in ended.err.splitlines())


# --- users ---


async def test_users_list_tells_whose_folders_are_synced(stage: Stage) -> None:
    people = {
        "bob@example.org": "no folder",
        "eve@example.org": "not set up",
        "kim@example.org": "no API key",
        "zoe@example.org": "deleted in Immich",
    }
    ids = {email: await create_user(stage.connection, email=email, name=email[:3].title()) for email in people}
    bobs = await create_api_key(stage.connection, ids["bob@example.org"], PERMISSIONS)
    (stage.home / "sync" / str(ids["kim@example.org"])).mkdir()
    zoe = ids["zoe@example.org"]
    await stage.connection.execute("""update "user" set status = 'deleted', "deletedAt" = now() where id = $1""", zoe)
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {bobs}"

    ended = await command("users", "list", env=stage.environment())
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert {email: state for email, _, state, _ in rows} == {"ada@example.org": "set up"} | people
    assert rows[0] == ["ada@example.org", "Ada", "set up", str(stage.folder)]

    ended = await command("users", "list", "--json", env=stage.environment())
    assert (ended.code, ended.err) == (0, "")
    users = {user["email"]: user for user in ended.json["users"]}
    assert {email: user["state"] for email, user in users.items()} == {"ada@example.org": "set up"} | people
    assert users["ada@example.org"] == {
        "id": str(stage.user),
        "email": "ada@example.org",
        "name": "Ada",
        "state": "set up",
        "folder": str(stage.folder),
        "has_folder": True,
        "has_key": True,
        "paused": False,
        "running": False,
    }
    assert stage.key not in ended.out


async def test_users_list_needs_no_key(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = ""
    ended = await command("users", "list", env=stage.environment())
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"ada@example.org\tAda\tno API key\t{stage.folder}\n"


# --- resync ---


@pytest.fixture
async def differing(place: Place) -> Place:
    """A folder and a library that differ in four ways since the service was stopped, and a second, equal pair."""
    stage = place.stage
    bob = await create_user(stage.connection, email="bob@example.org")
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {key}"
    theirs = stage.home / "sync" / str(bob)
    theirs.mkdir()
    (stage.folder / "trip").mkdir()
    for folder, name in ((stage.folder, "gone.jpg"), (stage.folder, "trip/stays.jpg"), (stage.folder, "trashed.jpg")):
        put(folder, name, name.encode())
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_synced(stage, 3)
        assert (await service.stop())[0] == 0
    (stage.folder / "gone.jpg").unlink()
    trash = """update asset set status = 'trashed', "deletedAt" = now() where "originalFileName" = 'trashed.jpg'"""
    assert await stage.connection.execute(trash) == "UPDATE 1"
    await _upload(stage, "there.jpg", b"there")

    async def metadata_read() -> bool:
        return not await stage.connection.fetchval("select exists (select from asset where thumbhash is null)")

    await until(metadata_read)
    put(stage.folder, "there.jpg", b"there")
    put(stage.folder, "new\n.jpg", b"new")
    put(theirs, "bobs.jpg", b"bobs")
    return place


async def test_resync_dry_run_says_what_would_be_done_and_does_nothing(differing: Place) -> None:
    env = differing.stage.environment()
    before = differing.everything()
    requests = len(differing.stage.immich.requests)

    ended = await command("resync", "--dry-run", env=env)
    assert ended.code == 0
    rows = sorted(tuple(line.split("\t")[:3]) for line in ended.out.splitlines())
    mine, bobs = "ada@example.org", "bob@example.org"
    assert rows == [
        (mine, "adopt", "there.jpg"),
        (mine, "quarantine", "trashed.jpg"),
        (mine, "trash", "gone.jpg"),
        (mine, "upload", "new\\n.jpg"),
        (bobs, "upload", "bobs.jpg"),
    ]
    assert ended.err == (
        "5 files compared: 1 to adopt, 1 to quarantine, 1 to trash, 2 to upload. Nothing was changed.\n"
    )

    ended = await command("resync", "--dry-run", "--json", env=env)
    assert ended.code == 0
    assert ended.json["version"] == 1
    assert ended.json["files"] == 5
    assert ended.json["totals"] == {"adopt": 1, "quarantine": 1, "trash": 1, "upload": 2}
    planned = [(line["user"], line["action"], line["path"]) for line in ended.json["planned"]]
    assert sorted(planned) == rows

    for user in (bobs, str(await differing.stage.connection.fetchval('select id from "user" where email = $1', bobs))):
        ended = await command("resync", "--dry-run", "--json", "--user", user, env=env)
        assert [(line["user"], line["action"], line["path"]) for line in ended.json["planned"]] == [rows[-1]]

    after = differing.everything()
    assert [line for line in after[0] if line not in before[0]] == []
    assert after == before
    assert len(differing.stage.immich.requests) == requests

    complaint = (await command("resync", "--dry-run", "--user", "eve@example.org", env=env)).complaint(13)
    assert complaint == (
        "No API key belongs to 'eve@example.org'. Did you mean bob@example.org?"
        " There are keys of: ada@example.org, bob@example.org."
    )


async def test_resync_finds_nothing_to_do_where_all_is_equal(stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_synced(stage, 1)
        ended = await command("resync", "--dry-run", env=stage.environment())  # beside a running service
        assert (ended.code, ended.out) == (0, "")
        assert ended.err == "1 file compared: nothing to do. Nothing was changed.\n"


async def test_resync_before_anything_is_installed_says_so(stage: Stage) -> None:
    complaint = (await command("resync", "--dry-run", env=stage.environment())).complaint(6)
    assert "immich-dbsync triggers install" in complaint


# --- every command ---


LEAVES = sorted(tree())


def test_all_commands_are_found() -> None:
    assert set(LEAVES) >= {
        "run",
        "demo",
        "status",
        "resync",
        "holds list",
        "holds show",
        "holds approve",
        "holds reject",
        "users list",
        "triggers install",
        "triggers verify",
        "triggers remove",
        "triggers sql",
    }


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_help_of_a_command_has_an_example_of_it(leaf: str) -> None:
    ended = invoked(*leaf.split(), "--help", settings={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert ended.code == 0
    example = ended.out.partition("Example: ")[2]
    assert f"immich-dbsync {leaf}" in example


def test_the_version_and_the_help_are_printed_by_the_installed_command() -> None:
    ended = execute("--version", env=environment({}))
    assert (ended.code, ended.out, ended.err) == (0, f"immich-dbsync {__version__}\n", "")
    ended = execute("--help", env=environment({}))
    assert ended.code == 0
    assert all(name in ended.out for name in ("run", "demo", "status", "resync", "triggers", "users"))


def test_a_mistyped_command_is_said_to_be() -> None:
    ended = invoked("statsu", settings={})
    assert ended.code == 2
    assert "statsu" in ended.err


@pytest.mark.parametrize(("name", "option"), [("status", "--nonsense"), ("run", "--help")])
def test_a_command_as_it_is_installed(name: str, option: str) -> None:
    """The other tests run the same commands in a process that need not load them first."""
    ended = installed(name, option, env=environment({}))
    assert ended == execute(name, option, env=environment({}))
    assert ended.code == {"--help": 0, "--nonsense": 2}[option]
    assert f"immich-dbsync {name}" in ended.out + ended.err


_EACH_ALONE = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    import_module(name)
    for loaded in [loaded for loaded in sys.modules if loaded.startswith("immich_dbsync")]:
        del sys.modules[loaded]
    print(name)
"""


def test_every_command_can_be_loaded_without_the_others() -> None:
    """As each is, when it is typed: none may need what only another one has loaded before."""
    modules = [f"immich_dbsync.cli.{name}_cmd" for name in COMMANDS]
    done = subprocess.run([sys.executable, "-c", _EACH_ALONE, *modules], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (modules, "")


def test_a_version_that_the_demo_has_not_gets_the_nearest_suggested() -> None:
    ended = invoked("demo", "--immich", "3.0", settings={})
    assert ended.code == 2
    assert "there is 2.7.5 and 3.1.0. Did you mean 3.1.0?" in ended.out
