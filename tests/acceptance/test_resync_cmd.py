"""``immich-dbsync resync``, beside a running service and without one."""

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

import pytest

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from tests.acceptance.commands import Service, command, on_terminal, put
from tests.databases import Servers
from tests.waiting import until

BOB = "bob@example.org"
QUICK = {"IMMICH_DBSYNC_MOVE_GRACE": "0.2", "IMMICH_DBSYNC_SETTLE_TIME": "0.05"}


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    with servers.database() as name:
        yield servers.cluster().url(name)


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    async with staged(database, version="3.1.0", settings=dict(QUICK)) as stage:
        yield stage


async def status_of(stage: Stage, data: bytes) -> str | None:
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    found: str | None = await stage.connection.fetchval("select status::text from asset where checksum = $1", digest)
    return found


async def test_without_a_service_it_does_all_of_it_itself(stage: Stage) -> None:
    put(stage.folder, "Camera/a.jpg", b"a")
    put(stage.folder, "b.jpg", b"b")
    ended = await command("resync", env=stage.environment())
    assert (ended.code, ended.out) == (0, "ada@example.org\tupload\t2\n")
    assert ended.err == "2 files compared: 2 upload.\n"
    assert await status_of(stage, b"a") == await status_of(stage, b"b") == "active"

    (stage.folder / "b.jpg").unlink()
    ended = await command("resync", "--json", env=stage.environment())
    assert ended.code == 0
    [user] = ended.json["users"]
    assert (user["user"], user["done"], user["left"], user["damaged"]) == ("ada@example.org", {"trash": 1}, {}, [])
    assert await status_of(stage, b"b") == "trashed"

    ended = await command("resync", env=stage.environment())
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "1 file compared: all was as it should be.\n"


async def test_a_dry_run_plans_no_deletion_in_a_folder_that_lost_its_stfolder(stage: Stage) -> None:
    put(stage.folder, "Camera/a.jpg", b"a")
    (stage.folder / "Camera" / ".stfolder").mkdir()
    await command("resync", env=stage.environment())
    (stage.folder / "Camera" / "a.jpg").unlink()
    (stage.folder / "Camera" / ".stfolder").rmdir()
    ended = await command("resync", "--dry-run", env=stage.environment())
    assert "not healthy" in ended.out
    assert "trash" not in ended.out
    (stage.folder / "Camera" / ".stfolder").mkdir()
    ended = await command("resync", "--dry-run", env=stage.environment())
    assert ended.out == "ada@example.org\ttrash\tCamera/a.jpg\tdeleted from the folder\n"


async def test_beside_a_running_service_it_asks_the_service(stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    with Service(stage.environment(), stage.home / "log") as service:
        await service.until_synced(stage, 1)
        await service.until_logged("scan.summary")  # nothing is under way any more
        uploads = len(stage.immich.requests)
        # The record is lost, as after a restored backup; no event tells of it.
        await stage.connection.execute("delete from immich_dbsync_v1.records")
        ended = await command("resync", env=stage.environment())
        assert (ended.code, ended.out) == (0, "ada@example.org\tadopt\t1\n")
        assert len(service.logged("scan.finished")) > 1
        assert len(stage.immich.requests) == uploads
        assert (await service.stop())[0] == 0
    assert await stage.connection.fetchval("select count(*) from immich_dbsync_v1.asks where done_at is null") == 0


async def test_what_is_asked_of_a_service_that_ends_is_done_by_the_command(stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    env = stage.environment()
    with Service(env, stage.home / "log") as service:
        await service.until_synced(stage, 1)
        os.kill(service.process.pid, signal.SIGSTOP)  # it holds its lock and answers nothing

        async def kill_when_asked() -> None:
            async def asked() -> bool:
                return bool(await stage.connection.fetchval("select count(*) from immich_dbsync_v1.asks"))

            await until(asked, seconds=20)
            service.kill()

        killer = asyncio.create_task(kill_when_asked())
        put(stage.folder, "b.jpg", b"b")
        ended = await command("resync", env=env)
        await killer
    assert ended.code == 0
    assert await status_of(stage, b"b") == "active"


async def test_all_users_are_asked_about_at_once(stage: Stage) -> None:
    """Whose folder takes long keeps nobody else's from being compared."""
    bob = await create_user(stage.connection, email="bob@example.org")
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    env = stage.environment() | {"IMMICH_DBSYNC_API_KEYS": f"{stage.key} {key}"}
    put(stage.folder, "a.jpg", b"a")
    put(stage.home / "sync" / str(bob), "b.jpg", b"b")
    with Service(env, stage.home / "log") as service:
        await service.until_synced(stage, 2)
        os.kill(service.process.pid, signal.SIGSTOP)  # it holds its locks and answers nothing

        async def go_on_when_both_are_asked() -> None:
            async def asked() -> bool:
                asks = "select count(*) from immich_dbsync_v1.asks where done_at is null"
                return bool(await stage.connection.fetchval(asks) == 2)

            try:
                await until(asked, seconds=20)
            finally:
                os.kill(service.process.pid, signal.SIGCONT)

        ended, _ = await asyncio.gather(command("resync", env=env), go_on_when_both_are_asked())
    assert ended.code == 0
    assert ended.err.startswith("2 files compared:")


async def test_a_path_narrows_it_down(stage: Stage) -> None:
    for name in ("Camera/a.jpg", "Other/b.jpg", "c.jpg"):
        put(stage.folder, name, name.encode())
    env = stage.environment()
    ended = await command("resync", "--path", "Camera", env=env)
    assert (ended.code, ended.out) == (0, "ada@example.org\tupload\t1\n")
    ended = await command("resync", "--path", str(stage.folder / "c.jpg"), env=env)
    assert (ended.code, ended.out) == (0, "ada@example.org\tupload\t1\n")
    assert await status_of(stage, b"Other/b.jpg") is None
    ended = await command("resync", "--path", "Other", "--dry-run", env=env)
    assert ended.out == "ada@example.org\tupload\tOther/b.jpg\tnew in the folder\n"
    assert await status_of(stage, b"Other/b.jpg") is None


async def test_a_mistyped_path_gets_the_nearest_that_is_there(stage: Stage) -> None:
    put(stage.folder, "Camera/a.jpg", b"a")
    env = stage.environment()
    for typed, meant in (("Camra/a.jpg", "Camera"), ("Camera/aa.jpg", "Camera/a.jpg")):
        for more in ([], ["--dry-run"]):
            said = (await command("resync", "--path", typed, *more, env=env)).complaint(13)
            assert f"Did you mean {meant}?" in said
    assert (await command("resync", env=env)).code == 0
    (stage.folder / "Camera" / "a.jpg").unlink()  # what was there is looked at, too
    (stage.folder / "Camera").rmdir()
    assert (await command("resync", "--path", "Camera", env=env)).code == 0
    said = (await command("resync", "--path", "Camra", "--dry-run", env=env)).complaint(13)
    assert "Nothing is or was at 'Camra'." in said


@pytest.mark.parametrize("path", ["../other", "/etc", "a//b", "."])
async def test_a_path_that_is_nobodys_is_said_to_be(stage: Stage, path: str) -> None:
    ended = await command("resync", "--path", path, env=stage.environment())
    assert repr(path) in ended.complaint(13)


async def test_of_several_users_a_relative_path_must_name_one(stage: Stage) -> None:
    bob = await create_user(stage.connection, email="bob@example.org")
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    (stage.home / "sync" / str(bob)).mkdir()
    env = stage.environment() | {"IMMICH_DBSYNC_API_KEYS": f"{stage.key} {key}"}
    assert "--user" in (await command("resync", "--path", "Camera", env=env)).complaint(13)
    put(stage.folder, "Camera/a.jpg", b"a")
    put(stage.home / "sync" / str(bob), "Camera/b.jpg", b"b")
    ended = await command("resync", "--path", "Camera", "--user", "bob@example.org", env=env)
    assert ended.out == "bob@example.org\tupload\t1\n"
    assert "ada@example.org" in (await command("resync", "--user", "adda@example.org", env=env)).complaint(13)


def _damage(path: Path) -> None:
    """Other bytes under the same stat, as a failing disk leaves them: the ctime alone can't be set back."""
    before = path.stat()
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "looking at the folder of ada@example.org: 3 files looked at"),
        (["--rehash"], "looking at the folder of ada@example.org: 2 files read again, 2 bytes, 3 files looked at"),
        (["--dry-run"], "comparing: 3 files looked at, 1 to be done"),
        (["--dry-run", "--rehash"], "2 files read again, 2 bytes"),
    ],
)
async def test_on_a_terminal_it_says_how_far_it_is(stage: Stage, words: list[str], told: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        put(stage.folder, name, name[:1].encode())
    assert (await command("resync", env=stage.environment())).code == 0
    put(stage.folder, "c.jpg", b"c")
    ended = await asyncio.to_thread(on_terminal, "resync", *words, env=stage.environment())
    assert ended.code == 0, ended
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.out)
    assert told in shown
    assert shown.splitlines()[-1].rpartition("\r")[2].startswith("3 files compared: ")  # it has gone
    assert told not in (await command("resync", *words, env=stage.environment())).err  # no terminal


@pytest.mark.parametrize("served", [True, False])
async def test_rehash_finds_damage_and_never_syncs_it(stage: Stage, *, served: bool) -> None:
    good, other = b"good picture", b"other picture"
    path = put(stage.folder, "a.jpg", good)
    put(stage.folder, "b.jpg", other)
    env = stage.environment()
    await command("resync", env=env)
    _damage(path)
    # No program can forge a ctime: the record is made to say what it would on a disk that rots.
    ctime = path.stat().st_ctime_ns
    await stage.connection.execute(
        "update immich_dbsync_v1.records set ctime_ns = $1, racy = false where path = 'a.jpg'", ctime
    )
    await stage.connection.execute("update immich_dbsync_v1.records set racy = false")
    requests = len(stage.immich.requests)
    ended = await command("resync", "--rehash", "--dry-run", env=env)
    assert "report damage\ta.jpg" in ended.out
    with Service(env, stage.home / "log") as service:
        await service.until_logged("scan.finished")
        if not served:
            await service.stop()
        ended = await command("resync", "--rehash", env=env)
        assert ended.code == 12
        assert "a.jpg: its bytes changed without a trace of a write" in ended.err
        assert "b.jpg" not in ended.out + ended.err.partition("!")[2]
        ended = await command("status", env=env)
        assert ended.code == 12
        assert "a.jpg: its bytes changed" in ended.err
        # Touched, so that it is looked at again; still not an edit.
        os.utime(path)
        await command("resync", env=env)
        assert [request for request in stage.immich.requests[requests:] if request[0] != "GET"] == []
        assert await status_of(stage, good) == "active"
        # The right bytes come back from a backup.
        put(stage.folder, "a.jpg", good)
        await command("resync", "--rehash", env=env)
        ended = await command("status", env=env)
        assert "a.jpg" not in ended.out + ended.err
    assert [request for request in stage.immich.requests[requests:] if request[0] != "GET"] == []


async def test_it_tells_when_immich_does_not_answer(stage: Stage) -> None:
    put(stage.folder, "a.jpg", b"a")
    env = stage.environment() | {"IMMICH_DBSYNC_SERVER_URL": "http://127.0.0.1:9"}
    ended = await command("resync", env=env)
    assert ended.code == 11
    assert "What needs Immich waits for it" in ended.err
    assert "Traceback" not in ended.err


# --- some of several users ---


@pytest.fixture
async def two(stage: Stage) -> Stage:
    """A second user beside the first, each with a picture that was not synced yet."""
    bob = await create_user(stage.connection, email=BOB, name="Bob")
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {key}"
    put(stage.folder, "a.jpg", b"a")
    put(his(stage, bob), "b.jpg", b"b")
    assert (await command("triggers", "install", env=stage.environment())).code == 0
    return stage


def his(stage: Stage, bob: UUID) -> Path:
    return stage.home / "sync" / str(bob)


async def folder_of_bob(stage: Stage) -> Path:
    return his(stage, await stage.connection.fetchval('select id from "user" where email = $1', BOB))


@pytest.mark.parametrize("served", [True, False])
async def test_who_is_paused_is_left_alone(two: Stage, *, served: bool) -> None:
    env = two.environment()
    assert (await command("users", "pause", BOB, env=env)).code == 0
    with Service(env, two.home / "log") if served else nullcontext() as service:
        if service is not None:
            await service.until_synced(two, 1)
        ended = await command("resync", env=env)
        assert ended.code == 0
        assert BOB not in ended.out
        resume = f"Go on with: immich-dbsync users resume {BOB}"
        assert ended.err.splitlines()[-1] == f"{BOB} is paused, and was left out. {resume}"
        ended = await command("resync", "--json", env=env)
        assert [user["user"] for user in ended.json["users"]] == ["ada@example.org"]
        assert [left["user"] for left in ended.json["left_out"]] == [BOB]
        for named in (["--user", "bob"], ["--user", BOB], ["--path", str(await folder_of_bob(two) / "b.jpg")]):
            said = (await command("resync", *named, env=env)).complaint(13)
            assert said == f"{BOB} is paused, so nothing is done for them. {resume}"
    assert (await status_of(two, b"a"), await status_of(two, b"b")) == ("active", None)
    # What would be done may be looked at.
    ended = await command("resync", "--dry-run", "--user", BOB, env=env)
    assert (ended.code, ended.out) == (0, f"{BOB}\tupload\tb.jpg\tnew in the folder\n")
    assert f"{BOB} is paused: none of theirs is done before: immich-dbsync users resume {BOB}" in ended.err
    assert (await command("users", "resume", BOB, env=env)).code == 0
    assert (await command("resync", "--user", BOB, env=env)).code == 0
    assert await status_of(two, b"b") == "active"


@pytest.mark.parametrize("served", [True, False])
async def test_a_folder_that_is_missing_keeps_nobody_else_from_being_compared(two: Stage, *, served: bool) -> None:
    env = two.environment()
    missing = await folder_of_bob(two)
    missing.rename(two.home / "away")
    with Service(env, two.home / "log") if served else nullcontext() as service:
        if service is not None:
            await service.until_synced(two, 1)
        put(two.folder, "later.jpg", b"later")
        ended = await command("resync", "--dry-run", env=env)
        assert ended.code == 10
        assert f"immich-dbsync: {BOB} was left out: '{missing}' " in ended.err
        assert BOB not in ended.out
        assert served or "ada@example.org\tupload\tlater.jpg" in ended.out
        ended = await command("resync", "--json", env=env)
        assert ended.code == 10
        assert f"immich-dbsync: {BOB} was left out: '{missing}' " in ended.err
        assert [user["user"] for user in ended.json["users"]] == ["ada@example.org"]
        [left] = ended.json["left_out"]
        assert (left["user"], str(missing) in left["why"]) == (BOB, True)
    assert await status_of(two, b"later") == "active"
    assert str(missing) in (await command("resync", "--user", BOB, env=env)).complaint(10)


async def test_of_one_file_one_is_compared(stage: Stage) -> None:
    put(stage.folder, "Camera/a.jpg", b"a")
    env = stage.environment()
    assert (await command("resync", env=env)).code == 0
    for path in ("Camera/a.jpg", str(stage.folder / "Camera" / "a.jpg"), "Camera"):
        ended = await command("resync", "--path", path, env=env)
        assert ended.err == "1 file compared: all was as it should be.\n", path
    put(stage.folder, "Camera/b.jpg", b"b")
    ended = await command("resync", "--dry-run", "--path", "Camera/b.jpg", env=env)
    assert ended.err == "1 file compared: 1 to upload. Nothing was changed.\n"
