"""``users add``, ``remove``, ``pause`` and ``resume`` as processes, with and without a service that runs."""

import asyncio
import grp
import os
import pwd
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.immich.keys import NAME
from tests.acceptance.commands import Service, command, installed, on_terminal, put
from tests.databases import Servers
from tests.integration.assets import least_role
from tests.waiting import until

ADA, BOB = "ada@example.org", "bob@example.org"


@pytest.fixture
async def stage(servers: Servers, database: str) -> AsyncIterator[Stage]:
    """A stage whose user has neither folder nor key; keys go to a file that is not there yet."""
    async with staged(servers.cluster().url(database), version="3.1.0") as stage:
        stage.folder.rmdir()
        await stage.connection.execute("delete from api_key")
        stage.settings |= {
            "IMMICH_DBSYNC_API_KEYS": "",
            "IMMICH_DBSYNC_API_KEYS_FILE": str(keys_file(stage)),
            "IMMICH_DBSYNC_SETTLE_TIME": "0.05",
            "IMMICH_DBSYNC_MOVE_GRACE": "0.2",
        }
        yield stage


def keys_file(stage: Stage) -> Path:
    return stage.home / "keys"


def keys(stage: Stage) -> list[str]:
    return [line for line in keys_file(stage).read_text().splitlines() if not line.startswith("#")]


async def rows(stage: Stage) -> list[tuple[str, list[str]]]:
    """Every API key in Immich: name and permissions."""
    return [(row["name"], row["permissions"]) for row in await stage.connection.fetch("select * from api_key")]


async def becomes(stage: Stage, name: str, status: str) -> None:
    async def check() -> bool:
        found = await stage.connection.fetchval(
            'select status::text from asset where "originalFileName" = $1 order by "createdAt" desc limit 1', name
        )
        return bool(found == status)

    await until(check, seconds=20)


async def states(stage: Stage) -> dict[str, str]:
    listed = (await command("users", "list", "--json", env=stage.environment())).json["users"]
    return {user["email"]: user["state"] for user in listed}


# --- add ---


async def test_add_sets_up_all_that_a_user_needs(stage: Stage) -> None:
    root = stage.home / "sync"
    root.chmod(0o750)
    ended = await command("users", "add", ADA, env=stage.environment())
    assert ended.code == 0
    folder, key, service = ended.out.splitlines()
    assert folder == f"Folder   {stage.folder} was made: owner root:root, mode 0750." or os.geteuid() != 0
    assert key == f"API key  made in Immich's database, tested, and kept in {keys_file(stage)}."
    assert service == "No service runs: start it with `immich-dbsync run`."
    assert stage.folder.stat().st_mode & 0o7777 == 0o750
    assert keys_file(stage).stat().st_mode & 0o7777 == 0o600
    assert await rows(stage) == [(NAME, list(PERMISSIONS))]
    assert keys(stage)[0] not in ended.out + ended.err
    assert await states(stage) == {ADA: "set up"}

    put(stage.folder, "a.jpg", b"a")
    with Service(stage.environment(), stage.home / "log") as service_process:
        await service_process.until_synced(stage, 1)
        assert await states(stage) == {ADA: "synced"}


async def test_a_second_time_it_changes_nothing_and_mends_what_is_missing(stage: Stage) -> None:
    env = stage.environment()
    assert (await command("users", "add", ADA, env=env)).code == 0
    before = keys(stage), await rows(stage)
    ended = await command("users", "add", "ada", "--json", env=env)
    assert ended.code == 0
    assert ended.json["version"] == 1
    assert (ended.json["user"], ended.json["id"]) == (ADA, str(stage.user))
    assert ended.json["folder"]["made"] is False
    assert (ended.json["key"], ended.json["lacking"], ended.json["service"]) == ("kept", [], "no service")
    assert (keys(stage), await rows(stage)) == before
    # A key that lost a permission is replaced by one that has it.
    await stage.connection.execute("update api_key set permissions = array['asset.upload']")
    ended = await command("users", "add", ADA, env=env)
    assert "made in Immich's database" in ended.out
    assert keys(stage) != before[0]
    assert len(keys(stage)) == 1
    # So is one that was deleted in Immich; what somebody else wrote into the file stays.
    await stage.connection.execute("delete from api_key")
    with (stage.home / "keys").open("a") as file:
        file.write("another\n")
    assert (await command("users", "add", ADA, env=env)).code == 0
    assert len(keys(stage)) == 2
    assert keys(stage)[0] == "another"
    assert await states(stage) == {ADA: "set up"}


async def test_a_service_that_runs_begins_and_ends_without_a_restart(stage: Stage) -> None:
    bob = await create_user(stage.connection, email=BOB, name="Bob")
    his = stage.home / "sync" / str(bob)
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    with Service(env, stage.home / "log") as service:
        await service.until_logged("scan.summary")
        ended = await command("users", "add", "Bob", env=env)
        assert ended.out.splitlines()[-1] == "The service syncs it now."
        put(his, "b.jpg", b"b")
        await becomes(stage, "b.jpg", "active")

        ended = await command("users", "pause", BOB, env=env)
        assert ended.out.splitlines() == [f"{BOB} is paused.", "The service has stopped syncing it."]
        # Also while it syncs nobody it would make its schema again.
        await command("users", "pause", ADA, env=env)
        assert "A service is running" in (await command("triggers", "remove", "--purge", "--yes", env=env)).complaint(8)
        await command("users", "resume", ADA, env=env)
        put(his, "paused.jpg", b"paused")
        put(stage.folder, "a.jpg", b"a")
        await becomes(stage, "a.jpg", "active")
        assert await stage.connection.fetchval("select count(*) from asset") == 2
        assert await states(stage) == {ADA: "synced", BOB: "paused"}
        status = await command("status", env=env)
        assert status.code == 0
        assert f"{BOB}\tpaused\t1\t" in status.out
        assert f"{BOB}: paused by a person; go on with: immich-dbsync users resume {BOB}" in status.err

        ended = await command("users", "resume", BOB, "--json", env=env)
        assert ended.json == {
            "version": 1,
            "user": BOB,
            "id": str(bob),
            "paused": False,
            "changed": True,
            "service": "yes",
        }
        await becomes(stage, "paused.jpg", "active")
        ended = await command("users", "resume", BOB, env=env)
        assert ended.out.splitlines()[0] == f"{BOB} was not paused before."

        ended = await command("users", "remove", BOB, "--delete-key", "--yes", env=env)
        assert ended.code == 0
        assert ended.out.splitlines()[0] == f"{BOB} is synced no more."
        (his / "b.jpg").unlink()
        put(stage.folder, "later.jpg", b"later")
        await becomes(stage, "later.jpg", "active")
        await becomes(stage, "b.jpg", "active")
        assert len(await rows(stage)) == len(keys(stage)) == 1
        assert await states(stage) == {ADA: "synced", BOB: "no API key"}
        status = await command("status", "--json", env=env)
        assert [owner["email"] for owner in status.json["owners"]] == [ADA]
        assert (await service.stop())[0] == 0
        assert service.logged("owner.failed") == []


async def test_a_user_who_comes_back_is_seen_as_for_the_first_time(stage: Stage) -> None:
    """What they deleted while they were not synced stays in Immich, and what Immich deleted waits for a person."""
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    for name in ("kept.jpg", "deleted.jpg", "trashed.jpg"):
        put(stage.folder, name, name.encode())
    with Service(env, stage.home / "log") as service:
        await service.until_synced(stage, 3)
        await command("users", "remove", ADA, "--yes", env=env)
        (stage.folder / "deleted.jpg").unlink()
        trash = """update asset set status = 'trashed', "deletedAt" = now() where "originalFileName" = 'trashed.jpg'"""
        await stage.connection.execute(trash)
        await command("users", "add", ADA, env=env)

        async def held() -> bool:
            return bool((await command("holds", "list", "--json", env=env)).json["holds"])

        await until(held, seconds=20)
    assert (stage.folder / "trashed.jpg").exists()
    await becomes(stage, "deleted.jpg", "active")
    await becomes(stage, "kept.jpg", "active")


async def test_a_file_of_keys_that_is_edited_by_hand_is_read_again(stage: Stage) -> None:
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    bob = await create_user(stage.connection, email=BOB)
    his = stage.home / "sync" / str(bob)
    his.mkdir()
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    put(his, "b.jpg", b"b")
    with Service(env, stage.home / "log") as service:
        await service.until_logged("scan.summary")
        with keys_file(stage).open("a") as file:
            file.write(f"{key}\n")
        await stage.connection.execute("select pg_notify('immich_dbsync_v1', 'users')")
        await becomes(stage, "b.jpg", "active")
        # One that others may read is not read, and those who are synced stay so.
        keys_file(stage).chmod(0o644)
        await stage.connection.execute("select pg_notify('immich_dbsync_v1', 'users')")
        told = await service.until_logged("keys.unreadable")
        assert "chmod 600" in told["reason"]
        put(his, "c.jpg", b"c")
        await becomes(stage, "c.jpg", "active")


async def test_owner_and_mode_may_be_given(stage: Stage) -> None:
    env = stage.environment()
    for option, text in (("--folder-mode", "75x"), ("--folder-mode", "0077"), ("--folder-owner", "no-such-user")):
        ended = await command("users", "add", ADA, option, text, env=env)
        assert (ended.code, ended.out) == (2, "")
        assert text in ended.err
    assert not stage.folder.exists()
    user = "nobody:1" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
    ended = await command("users", "add", ADA, "--folder-owner", user, "--folder-mode", "0710", env=env)
    assert ended.code == 0
    status = stage.folder.stat()
    assert status.st_mode & 0o7777 == 0o710
    assert os.geteuid() != 0 or (status.st_uid, status.st_gid) == (65534, 1)
    assert "belongs to" not in ended.err


async def test_a_folder_that_is_not_as_was_asked_is_said_to_be(stage: Stage) -> None:
    """What was asked for is not done to a folder that somebody made; but said, with what does it."""
    stage.folder.mkdir(0o711)
    stage.folder.chmod(0o711)
    env = stage.environment()
    ended = await command("users", "add", ADA, "--folder-mode", "0750", env=env)
    assert ended.code == 12
    assert ended.err.splitlines()[0] == (
        "! The folder was there before, and was not changed. To have it as you said:"
        f" chmod 0750 {shlex.quote(str(stage.folder))}"
    )
    assert stage.folder.stat().st_mode & 0o7777 == 0o711
    ended = await command("users", "add", ADA, "--folder-owner", "1:2", "--folder-mode", "0711", "--json", env=env)
    assert ended.code == 12
    user, group = pwd.getpwuid(1).pw_name, grp.getgrgid(2).gr_name
    assert ended.json["folder"]["mend"] == f"chown {user}:{group} {stage.folder}"
    ended = await command("users", "add", ADA, "--folder-mode", "0711", "--json", env=env)
    assert (ended.code, ended.json["folder"]["mend"]) == (0, "")


async def test_a_mistyped_owner_gets_the_nearest_suggested(stage: Stage) -> None:
    env = stage.environment()
    for given, meant in (("nobdy", "nobody"), ("nobody:daemn", "daemon")):
        ended = await command("users", "add", ADA, "--folder-owner", given, env=env)
        assert ended.code == 2
        said = " ".join(ended.err.replace("│", "").split())
        assert f"for --folder-owner. Did you mean {meant}?" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
async def test_whose_the_folder_is_is_said_where_it_may_be_a_mistake(stage: Stage) -> None:
    env = stage.environment()
    ended = await command("users", "add", ADA, env=env)
    assert ended.err.splitlines()[0] == (
        f"It belongs to root. If the file sync tool runs as somebody else, let them have it: chown USER: {stage.folder}"
    )
    assert stage.folder.stat().st_mode & 0o7777 == 0o750
    # A second time somebody has decided it.
    os.chown(stage.folder, 65534, 65534)
    assert "belongs to" not in (await command("users", "add", ADA, env=env)).err
    bob = await create_user(stage.connection, email=BOB)
    his = stage.home / "sync" / str(bob)
    his.mkdir(0o700)
    os.chown(his, 65534, 65534)
    ended = await command("users", "add", BOB, env=env)
    assert ended.code == 0
    assert ended.err.splitlines()[0] == (
        f"! It belongs to nobody, unlike the sync root. If that is not who is to fill it: chown USER: {his}"
    )


# --- a key that is given ---


async def test_a_key_made_in_immich_is_read_from_a_pipe(stage: Stage) -> None:
    key = await create_api_key(stage.connection, stage.user, PERMISSIONS, "by hand")
    ended = await asyncio.to_thread(
        installed, "users", "add", ADA, "--key-stdin", env=stage.environment(), given=f"{key}\n"
    )
    assert ended.code == 0
    assert f"API key  tested, and kept in {keys_file(stage)}." in ended.out
    assert keys(stage) == [key]
    assert await rows(stage) == [("by hand", list(PERMISSIONS))]


async def test_on_a_terminal_a_key_is_asked_for_and_not_shown(stage: Stage) -> None:
    key = await create_api_key(stage.connection, stage.user, ("asset.upload", "asset.delete"), "by hand")
    ended = await asyncio.to_thread(
        on_terminal, "users", "add", ADA, "--key-stdin", env=stage.environment(), dialogue=[("API key: ", f"{key}\n")]
    )
    assert ended.code == 0
    assert key not in ended.out
    assert "It lacks asset.copy" in ended.out
    assert keys(stage) == [key]


async def test_who_gives_no_key_after_all_changes_nothing(stage: Stage) -> None:
    words = ("users", "add", ADA, "--key-stdin")
    ended = await asyncio.to_thread(on_terminal, *words, env=stage.environment(), dialogue=[("API key: ", "\x03")])
    assert ended.code == 14
    assert ended.out.endswith("immich-dbsync: Nothing was changed.\n")
    assert not keys_file(stage).exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "This is no API key"),
        ("two words\n", "This is no API key"),
        ("n0-such-k3y\n", "does not know this API key: was it copied whole?"),
        ("bobs", "This API key belongs to bob@example.org, not to ada@example.org."),
        ("poor", "This API key lacks asset.delete"),
    ],
)
async def test_a_key_that_is_of_no_use_is_refused(stage: Stage, given: str, said: str) -> None:
    bob = await create_user(stage.connection, email=BOB)
    named = {
        "bobs": await create_api_key(stage.connection, bob, PERMISSIONS),
        "poor": await create_api_key(stage.connection, stage.user, ("asset.upload",)),
    }
    given = named.get(given, given)
    ended = await command("users", "add", ADA, "--key-stdin", env=stage.environment(), given=given)
    assert said in ended.complaint(9)
    assert given.strip() not in ended.out + ended.err or not given.strip()
    assert not keys_file(stage).exists()


# --- what may go wrong ---


async def test_without_a_file_for_keys_it_says_what_to_set(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_API_KEYS_FILE"] = ""
    complaint = (await command("users", "add", ADA, env=stage.environment())).complaint(3)
    assert "Set api_keys_file, to /etc/immich-dbsync.keys for example" in complaint
    assert await rows(stage) == []
    assert not stage.folder.exists()


@pytest.mark.parametrize("verb", ["add", "remove", "pause", "resume"])
async def test_a_mistyped_user_gets_the_nearest_suggested(stage: Stage, verb: str) -> None:
    await command("triggers", "install", env=stage.environment())
    complaint = (await command("users", verb, "ada@exmaple.org", env=stage.environment())).complaint(13)
    assert "Immich has no user 'ada@exmaple.org'. Did you mean ada@example.org?" in complaint


async def test_a_user_who_is_deleted_in_immich_is_not_added(stage: Stage) -> None:
    await stage.connection.execute("""update "user" set status = 'deleted', "deletedAt" = now()""")
    complaint = (await command("users", "add", ADA, env=stage.environment())).complaint(13)
    assert complaint == "ada@example.org is deleted in Immich: restore them there first."


async def test_a_server_of_another_database_leaves_no_key_behind(stage: Stage, other_database: str) -> None:
    async with StandIn(other_database, version="3.1.0") as immich:
        stage.settings["IMMICH_DBSYNC_SERVER_URL"] = immich.url
        complaint = (await command("users", "add", ADA, env=stage.environment())).complaint(9)
    assert "does not know the key that was just made in the database: the two do not belong together" in complaint
    assert await rows(stage) == []
    assert not keys_file(stage).exists()


async def test_a_server_that_is_down_leaves_nothing_behind(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_SERVER_URL"] = "http://127.0.0.1:1"
    complaint = (await command("users", "add", ADA, env=stage.environment())).complaint(11)
    assert complaint.endswith("Start Immich, or mend the server URL; no key was made.")
    assert await rows(stage) == []
    assert not stage.folder.exists()


async def test_a_file_that_cannot_be_written_leaves_no_key_behind(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_API_KEYS_FILE"] = str(stage.home / "missing" / "keys")
    complaint = (await command("users", "add", ADA, env=stage.environment())).complaint(3)
    there = stage.home / "missing"
    assert (
        f"can't be written to {there / 'keys'}: there is no folder {there}. Make it with: mkdir -p {there}" in complaint
    )
    assert await rows(stage) == []
    assert not stage.folder.exists()  # the folder that was made is not left behind


async def test_a_folder_that_was_there_stays_whatever_fails(stage: Stage) -> None:
    stage.folder.mkdir()
    stage.settings["IMMICH_DBSYNC_API_KEYS_FILE"] = str(stage.home / "missing" / "keys")
    assert (await command("users", "add", ADA, env=stage.environment())).code == 3
    assert stage.folder.is_dir()


async def test_a_role_that_may_not_make_keys_is_told_both_ways_out(
    stage: Stage, servers: Servers, database: str
) -> None:
    role = least_role(stage.database_url)
    stage.settings["IMMICH_DBSYNC_DATABASE_URL"] = servers.cluster().url(database, role.replace(" ", "%20"))
    complaint = (await command("users", "add", ADA, env=stage.environment())).complaint(7)
    assert "Connect as the role that owns Immich's tables" in complaint
    assert "--key-stdin" in complaint
    # A key that is given needs no more rights than there are; nor does what else is done with users.
    key = await create_api_key(stage.connection, stage.user, PERMISSIONS)
    env = stage.environment()
    assert (await command("users", "add", ADA, "--key-stdin", env=env, given=key)).code == 0
    for verb in ("pause", "resume"):
        assert (await command("users", verb, ADA, env=env)).code == 0
    assert (await command("users", "remove", ADA, "--yes", env=env)).code == 0


async def test_a_key_in_the_environment_is_left_to_whoever_put_it_there(stage: Stage) -> None:
    await command("triggers", "install", env=stage.environment())
    key = await create_api_key(stage.connection, stage.user, ("asset.upload",))
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = key
    stage.folder.mkdir()
    env = stage.environment()
    assert "IMMICH_DBSYNC_API_KEYS" in (await command("users", "add", ADA, env=env)).complaint(3, key)
    assert "take it out there" in (await command("users", "remove", ADA, "--yes", env=env)).complaint(3, key)
    assert (await command("users", "pause", ADA, env=env)).code == 0
    assert await states(stage) == {ADA: "paused"}


# --- remove ---


async def test_remove_shows_first_what_it_does_and_asks(stage: Stage) -> None:
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    ended = await command("users", "remove", ADA, "--delete-key", env=env)
    assert ended.code == 14
    assert ended.out == ""
    assert "0 files of ada@example.org are synced now; files and assets stay." in ended.err
    assert "To be deleted in Immich: 1 API key made by `users add`." in ended.err
    assert ended.err.splitlines()[-1] == (
        "immich-dbsync: Nobody can be asked here: add --yes if you are sure. Nothing was changed."
    )
    ended = await asyncio.to_thread(on_terminal, "users", "remove", ADA, env=env, dialogue=[("[y/N]", "n\n")])
    assert ended.code == 14
    assert "Sync ada@example.org no more? [y/N]" in ended.out
    assert (len(keys(stage)), len(await rows(stage))) == (1, 1)
    ended = await asyncio.to_thread(on_terminal, "users", "remove", ADA, env=env, dialogue=[("[y/N]", "y\n")])
    assert ended.code == 0
    assert "Their API key stays in Immich: delete it there, or with --delete-key." in ended.out
    assert (keys(stage), len(await rows(stage))) == ([], 1)
    ended = await command("users", "remove", ADA, "--delete-key", "--yes", "--json", env=env)
    assert ended.code == 0
    assert ended.json | {"folder": ""} == {
        "version": 1,
        "user": ADA,
        "id": str(stage.user),
        "folder": "",
        "synced": 0,
        "quarantined": 0,
        "keys_taken_out": 0,
        "keys_deleted": 1,
    }
    assert await rows(stage) == []
    complaint = (await command("users", "remove", ADA, "--yes", env=env)).complaint(13)
    assert complaint == "ada@example.org is not synced."


async def test_remove_deletes_only_keys_that_add_made(stage: Stage) -> None:
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    await create_api_key(stage.connection, stage.user, ("all",), "her own")
    await command("users", "remove", ADA, "--delete-key", "--yes", env=env)
    assert await rows(stage) == [("her own", ["all"])]


async def test_keys_that_may_not_be_deleted_are_said_to_be_before_anything_is_done(
    stage: Stage, servers: Servers, database: str
) -> None:
    await command("users", "add", ADA, env=stage.environment())
    role = least_role(stage.database_url)
    stage.settings["IMMICH_DBSYNC_DATABASE_URL"] = servers.cluster().url(database, role.replace(" ", "%20"))
    before = keys(stage), await rows(stage)
    ended = await command("users", "remove", ADA, "--delete-key", "--yes", env=stage.environment())
    complaint = ended.complaint(7)
    assert complaint.startswith("This database role may not delete API keys in Immich, so nothing was changed.")
    assert "leave out --delete-key" in complaint
    assert (keys(stage), await rows(stage)) == before
    assert (await command("users", "remove", ADA, "--yes", env=stage.environment())).code == 0


# --- keys that are replaced ---


async def test_a_key_that_is_replaced_is_deleted_in_immich_if_we_made_it(stage: Stage) -> None:
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    [first] = keys(stage)
    await create_api_key(stage.connection, stage.user, ("all",), "her own")
    await stage.connection.execute("update api_key set permissions = array['asset.upload'] where name = $1", NAME)
    ended = await command("users", "add", ADA, env=env)
    assert "It replaces 1 API key of theirs, deleted in Immich." in ended.out
    assert "! " not in ended.err
    assert sorted(await rows(stage)) == [("her own", ["all"]), (NAME, list(PERMISSIONS))]
    assert first not in keys(stage)
    # One that a person made is theirs, even if it stood in the file; its place is taken all the same.
    given = await create_api_key(stage.connection, stage.user, PERMISSIONS, "by hand")
    another = await create_api_key(stage.connection, stage.user, PERMISSIONS, "also by hand")
    for key, replaced in ((given, 1), (another, 0)):
        ended = await command("users", "add", ADA, "--key-stdin", "--json", env=env, given=key)
        assert (ended.json["replaced"], ended.json["others"]) == (replaced, 0)
        assert keys(stage) == [key]
    assert sorted(name for name, _ in await rows(stage)) == ["also by hand", "by hand", "her own"]


async def test_a_key_that_another_installation_may_use_is_only_told_of(stage: Stage) -> None:
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    elsewhere = env | {"IMMICH_DBSYNC_API_KEYS_FILE": str(stage.home / "other-keys")}
    ended = await command("users", "add", ADA, env=elsewhere)
    assert ended.code == 0
    assert "! Immich has 1 more API key that `users add` made for them and that nothing here uses." in ended.err
    assert len(await rows(stage)) == 2
    # What is set here is in use here.
    ended = await command("users", "add", ADA, env=elsewhere | {"IMMICH_DBSYNC_API_KEYS": keys(stage)[0]})
    assert (ended.code, "more API key" in ended.err) == (0, False)


async def test_a_user_who_is_gone_from_immich_can_be_removed_by_id(stage: Stage) -> None:
    env = stage.environment()
    await command("users", "add", ADA, env=env)
    put(stage.folder, "a.jpg", b"a")
    with Service(env, stage.home / "log") as service:
        await service.until_synced(stage, 1)
    await stage.connection.execute('delete from "user"')
    ended = await command("users", "remove", str(stage.user), "--yes", env=env)
    assert ended.code == 0
    assert await stage.connection.fetchval("select count(*) from immich_dbsync_v1.records") == 0
    assert (stage.folder / "a.jpg").exists()


async def test_pausing_somebody_who_is_not_synced_says_how_to_begin(stage: Stage) -> None:
    await command("triggers", "install", env=stage.environment())
    complaint = (await command("users", "pause", ADA, env=stage.environment())).complaint(13)
    assert complaint == f"{ADA} is not synced. Begin with: immich-dbsync users add {ADA}"
