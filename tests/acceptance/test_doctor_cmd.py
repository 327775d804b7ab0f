"""``immich-dbsync doctor`` as a process: from nothing to a folder that is synced, and what may go wrong later."""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from tests.acceptance.commands import Service, command, environment, invoked, on_terminal, put, without_override
from tests.databases import Servers
from tests.integration.assets import least_role, url_of
from tests.waiting import until

ADA = "ada@example.org"
_SETTING = re.compile(r"\b(IMMICH_DBSYNC_\w+)")
_COMMAND = re.compile(r"Run: (.+)$")


@pytest.fixture
def other_database(servers: Servers) -> Iterator[str]:
    with servers.database("2.7.5") as name:
        yield servers.cluster().url(name)


@pytest.fixture
async def stage(servers: Servers, database: str) -> AsyncIterator[Stage]:
    async with staged(servers.cluster().url(database), version="3.1.0") as stage:
        yield stage


def require_pasteable(mend: str) -> None:
    """Where there is a command, all behind it is a line that a shell understands."""
    if line := _COMMAND.search(mend):
        subprocess.run(["sh", "-n", "-c", line[1]], check=True)


async def findings(stage: Stage) -> dict[str, dict[str, str]]:
    """What is not well, by what was looked at."""
    ended = await command("doctor", "--json", env=stage.environment())
    assert ended.code in {0, 12}, ended
    for each in ended.json["findings"]:
        require_pasteable(each["mend"])
    return {each["what"]: each for each in ended.json["findings"] if each["level"] != "ok"}


def let_in(stage: Stage) -> None:
    """Have the database's socket there for everybody, and not for PostgreSQL's user and root's powers alone."""
    Path(parse_qs(urlsplit(stage.database_url).query)["host"][0]).chmod(0o755)


async def set_up(stage: Stage) -> dict[str, str]:
    await command("triggers", "install", env=stage.environment())
    return stage.environment()


async def test_from_nothing_its_hints_alone_lead_to_a_folder_that_is_synced(stage: Stage) -> None:
    """The person at the keyboard knows four things of their own, and else does only what the first wrong line says."""
    stage.folder.rmdir()
    root = stage.home / "sync"
    root.rmdir()
    await stage.connection.execute("delete from api_key")
    known = {
        "IMMICH_DBSYNC_DATABASE_URL": stage.database_url,
        "IMMICH_DBSYNC_SERVER_URL": stage.immich.url,
        "IMMICH_DBSYNC_SYNC_ROOT": str(root),
        "IMMICH_DBSYNC_API_KEYS_FILE": str(stage.home / "keys"),
    }
    settings: dict[str, str] = {}
    done: list[str] = []
    ended = await command("doctor", "--json", env=environment(settings))
    while (wrong := [each for each in ended.json["findings"] if each["level"] == "wrong"]) and len(done) < 12:
        mend = wrong[0]["mend"]
        if variable := _SETTING.search(mend):
            assert variable[1] not in settings, mend
            settings[variable[1]] = known[variable[1]]
            done.append(variable[1])
        else:
            line = _COMMAND.search(mend)
            assert line is not None, mend
            done.append(line[1])
            program, *arguments = shlex.split(line[1])
            if arguments == ["run"]:
                break
            if program == "immich-dbsync":
                followed = await command(*arguments, env=environment(settings))
                assert followed.code == 0, followed
            else:
                assert await (await asyncio.create_subprocess_exec(program, *arguments)).wait() == 0
        ended = await command("doctor", "--json", env=environment(settings))
        assert ended.code == 12
    assert done == [
        "IMMICH_DBSYNC_DATABASE_URL",
        "IMMICH_DBSYNC_SYNC_ROOT",
        "IMMICH_DBSYNC_API_KEYS_FILE",
        f"mkdir -p {root}",
        "IMMICH_DBSYNC_SERVER_URL",
        "immich-dbsync triggers install",
        f"immich-dbsync users add {ADA}",
        "immich-dbsync run",
    ]
    with Service(environment(settings), stage.home / "log") as service:
        put(stage.folder, "Camera/a.jpg", b"a")
        await service.until_synced(stage, 1)
        ended = await command("doctor", env=environment(settings))
    assert (ended.code, ended.err) == (0, "Nothing needs to be mended.\n")
    assert {line.split("\t")[0] for line in ended.out.splitlines()} == {"ok"}
    assert all(len(line.split("\t")) == 5 for line in ended.out.splitlines())


async def test_it_changes_nothing(stage: Stage, servers: Servers, database: str) -> None:
    env = await set_up(stage)
    put(stage.folder, "a.jpg", b"a")

    def everything() -> tuple[str, list[Any]]:
        paths = [stage.home / "sync", *(stage.home / "sync").rglob("*")]
        return servers.cluster().dump(database), sorted((str(path), path.lstat().st_ctime_ns) for path in paths)

    before = everything()
    await command("doctor", env=env)
    assert everything() == before
    assert {request for request in stage.immich.requests if request[0] != "GET"} == {
        ("POST", "/api/assets"),  # an empty form, which is refused
        ("DELETE", "/api/assets"),  # of no asset
        ("PUT", "/api/assets/copy"),  # from no asset to no other
    }


async def test_on_a_terminal_it_says_why_and_how(stage: Stage) -> None:
    ended = await asyncio.to_thread(on_terminal, "doctor", env=stage.environment())
    assert ended.code == 12
    shown = re.sub(r"\x1b\[[0-9;]*m", "", ended.out)
    assert "✗ triggers  schema immich_dbsync_v1 is missing" in shown
    assert "    mend  Run: immich-dbsync triggers install" in shown
    assert "✓ Immich's trash  on" in shown
    assert "checks done" in shown  # a line that moves


def test_one_that_is_wrong_needs_somebody() -> None:
    ended = invoked("doctor", settings={"IMMICH_DBSYNC_SYNCROOT": "/x"})
    assert (ended.code, ended.err) == (12, "1 of 1 needs somebody.\n")


async def test_a_setting_that_makes_no_sense_is_its_only_finding(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_SYNCROOT"] = "/x"
    found = await findings(stage)
    assert found.keys() == {"settings"}
    assert "Did you mean IMMICH_DBSYNC_SYNC_ROOT?" in found["settings"]["found"]


async def test_a_database_that_is_down_or_refuses_is_found_and_the_rest_is_looked_at(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_DATABASE_URL"] = "postgresql://u:s3cret@127.0.0.1:1/immich"
    ended = await command("doctor", env=stage.environment())
    assert ended.code == 12
    assert "does not answer at 127.0.0.1:1" in ended.out
    assert "s3cret" not in ended.out + ended.err
    assert f"Immich 3.1.0 answers at {stage.immich.url}" in ended.out


async def test_a_database_of_something_else_is_found(stage: Stage) -> None:
    await stage.connection.execute("drop schema public cascade; create schema public")
    found = await findings(stage)
    assert found.keys() == {"Immich's tables"}


async def test_a_server_that_is_not_the_databases_is_found(stage: Stage, other_database: str) -> None:
    await set_up(stage)
    async with StandIn(other_database, version="2.7.5") as immich:
        stage.settings["IMMICH_DBSYNC_SERVER_URL"] = immich.url
        ended = await command("doctor", "--json", env=stage.environment())
    said = [each["found"] for each in ended.json["findings"] if "server and database" in each["what"]]
    assert said == [
        "the server is Immich 2.7.5, the database is Immich 3.1.0's",
        f"the server does not know the key of {ADA} that the database has",
    ]


async def test_of_two_libraries_of_one_version_the_key_tells(stage: Stage, other_database: str) -> None:
    """A copy of the database, say: the same key, but to the server it is another user's."""
    await set_up(stage)
    key = await create_api_key(stage.connection, stage.user, ["all"])
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = key
    async with staged(other_database, version="2.7.5") as other:
        digest = await stage.connection.fetchval("select key from api_key where permissions = '{all}'")
        await other.connection.execute("update api_key set key = $1, permissions = '{all}'", digest)
        stage.settings["IMMICH_DBSYNC_SERVER_URL"] = other.immich.url
        ended = await command("doctor", env=stage.environment())
    assert f"to the server, the key of {ADA} is user {other.user}'s" in ended.out


async def test_keys_of_no_use_are_found(stage: Stage, tmp_path: Path) -> None:
    await set_up(stage)
    poor = await create_api_key(stage.connection, stage.user, ["asset.upload"])
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"n0-such-k3y {poor}"
    found = await findings(stage)
    assert found["API key"]["found"].startswith("API key 1 of 2 is not known to this Immich")
    assert found[f"API key of {ADA}"]["found"] == "it lacks asset.delete and asset.copy"
    file = tmp_path / "keys"
    file.write_text(poor)
    file.chmod(0o640)
    stage.settings |= {"IMMICH_DBSYNC_API_KEYS": "", "IMMICH_DBSYNC_API_KEYS_FILE": str(file)}
    found = await findings(stage)
    assert found["API key"]["found"] == f"{file} may be read by others (mode 0640)"
    assert found["API key"]["mend"] == f"Run: chmod 600 {file}"


async def test_each_user_has_lines_of_their_own(stage: Stage) -> None:
    bob = await create_user(stage.connection, email="bob@example.org")
    key = await create_api_key(stage.connection, bob, PERMISSIONS)
    stage.settings["IMMICH_DBSYNC_API_KEYS"] = f"{stage.key} {key}"
    env = await set_up(stage)
    with Service(env, stage.home / "log") as service:
        await service.until_logged("scan.finished")
        found = await findings(stage)
        assert found["folder of bob@example.org"]["mend"] == "Run: immich-dbsync users add bob@example.org"
        assert found["sync of bob@example.org"]["level"] == "wrong"
        assert f"folder of {ADA}" not in found
        await command("users", "pause", ADA, env=env)

        async def paused() -> bool:
            return (await findings(stage)).get(f"sync of {ADA}", {}).get("found") == "paused"

        await until(paused)
    (stage.folder / ".immich-dbsync" / "root-id").unlink()
    assert "has no mark" in (await findings(stage))[f"folder of {ADA}"]["found"]


async def test_what_may_not_be_opened_wants_rights_and_nothing_else(stage: Stage) -> None:
    """A user's folder, our own in it, and the folder above; asked by somebody who may not look into them."""
    await set_up(stage)
    let_in(stage)
    state = stage.folder / ".immich-dbsync"
    state.mkdir()
    for closed, what in ((stage.folder, f"folder of {ADA}"), (state, f"folder of {ADA}"), (stage.home, "sync root")):
        closed.chmod(0)
        ended = await command("doctor", "--json", env=stage.environment(), before=without_override())
        closed.chmod(0o700)
        assert (ended.code, "Traceback" in ended.err) == (12, False), ended
        found = {each["what"]: each for each in ended.json["findings"] if each["level"] == "wrong"}
        assert " may not be " in found[what]["found"], found
        assert not re.search(r"[Mm]ove|[Mm]ount|mv |mkdir", found[what]["mend"])


async def test_a_url_that_makes_no_sense_is_wrong_and_never_well(stage: Stage) -> None:
    stage.settings["IMMICH_DBSYNC_DATABASE_URL"] = "postgresql://postgres:s3cret@127.0.0.1:99999/x"
    ended = await command("doctor", env=stage.environment())
    assert (ended.code, "Nothing needs to be mended" in ended.err) == (12, False)
    assert "s3cret" not in ended.out + ended.err


async def test_doctor_and_status_say_when_run_would_refuse_to_start(stage: Stage, tmp_path: Path) -> None:
    env = await set_up(stage)
    missing = tmp_path / "keys"
    with Service(env, stage.home / "log") as service:
        await service.until_logged("scan.finished")
        assert (await command("status", env=env)).code == 0
        assert (await command("doctor", env=env)).code == 0
        env = {**env, "IMMICH_DBSYNC_API_KEYS_FILE": str(missing)}
        refused = (await command("run", env=env)).complaint(3)
        for name in ("status", "doctor"):
            ended = await command(name, env=env)
            assert (ended.code, refused.rstrip(".") in ended.out + ended.err) == (12, True), ended


async def test_rights_that_are_missing_are_one_line(stage: Stage, servers: Servers, database: str) -> None:
    role = least_role(servers.cluster().url(database))
    await stage.connection.execute(f'revoke usage on schema immich_dbsync_v1 from "{role}"')
    stage.settings["IMMICH_DBSYNC_DATABASE_URL"] = url_of(servers.cluster(), database, role)
    ended = await command("doctor", "--json", env=stage.environment())
    said = [each["found"] for each in ended.json["findings"] if each["what"] == "rights"]
    assert said == [f'role "{role}" lacks usage on schema immich_dbsync_v1']


async def test_a_share_of_syncthing_that_only_receives_is_found(stage: Stage) -> None:
    await set_up(stage)
    (stage.folder / "Camera").mkdir()
    config = stage.home / "syncthing"
    config.mkdir()
    share = f'<folder id="x" label="Phone" path="{stage.folder}/Camera" type="receiveonly"/>'
    (config / "config.xml").write_text(f"<configuration>{share}</configuration>")
    stage.settings["STCONFDIR"] = str(config)
    found = await findings(stage)
    assert found["Syncthing"]["found"] == (
        f"folder 'Phone' ({stage.folder}/Camera) only receives, so no deletion in Immich reaches the phone"
    )


async def test_where_its_reader_leaves_in_the_middle_it_says_nothing_more(stage: Stage) -> None:
    env = await set_up(stage)
    for lines in (3, 6, 9):
        ended = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", f'{sys.executable} -m immich_dbsync doctor | head -{lines} >&2; exit "${{PIPESTATUS[0]}}"'],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode in {0, 12, 141}, ended
        assert "Traceback" not in ended.stderr
        assert "Unclosed" not in ended.stderr
        assert "destroyed" not in ended.stderr
