"""``triggers install``, ``verify``, ``remove`` and ``sql`` as processes: what they print and their exit codes."""

import asyncio
import json
from collections.abc import Iterator

import psycopg
import pytest

from immich_dbsync.demo.stage import staged
from immich_dbsync.errors import DatabaseBusy
from tests.acceptance.commands import environment, execute, invoked, on_terminal
from tests.databases import Servers
from tests.databases import execute as sql
from tests.integration.assets import connected
from tests.waiting import until


@pytest.fixture
def env(database_url: str) -> dict[str, str]:
    return environment({"IMMICH_DBSYNC_DATABASE_URL": database_url})


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    with servers.database() as name:
        yield servers.cluster().url(name)


def test_install_verify_and_remove_in_plain_words(env: dict[str, str]) -> None:
    ended = execute("triggers", "verify", env=env)
    assert ended.code == 6
    assert ended.out.splitlines()[0] == "The triggers differ from what install makes:"
    assert ended.err == "Mend them with: immich-dbsync triggers install\n"

    ended = execute("triggers", "install", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "Installed. What was wrong before:"

    ended = execute("triggers", "install", env=env)
    assert (ended.code, ended.out, ended.err) == (0, "Already installed; nothing was changed.\n", "")

    ended = execute("triggers", "verify", env=env)
    assert (ended.code, ended.out, ended.err) == (0, "Schema and triggers are in order.\n", "")

    ended = execute("triggers", "remove", "--purge", "--yes", env=env)
    assert ended.code == 0
    assert "Every schema of ours will be dropped, with 0 records, 0 lines of history." in ended.err
    assert ended.out.splitlines() == ["Removed:", *ended.out.splitlines()[1:]]
    assert "schema immich_dbsync_v1" in ended.out

    for words in (["--purge"], []):
        ended = execute("triggers", "remove", *words, env=env)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out == "Nothing like that of immich-dbsync is in this database; nothing was changed.\n"


def test_remove_shows_first_what_it_does_and_asks(env: dict[str, str]) -> None:
    execute("triggers", "install", env=env)
    for words, sentence in (([], "What stays: 0 records"), (["--purge"], "Every schema of ours will be dropped")):
        ended = execute("triggers", "remove", *words, env=env)
        assert ended.code == 14
        assert sentence in ended.err
        assert "add --yes" in ended.err
        refused = on_terminal("triggers", "remove", *words, env=env, dialogue=[("[y/N]", "n\n")])
        assert refused.code == 14
    assert execute("triggers", "verify", env=env).code == 0


def test_after_the_triggers_alone_were_removed_an_install_goes_on_with_what_is_known(url: str) -> None:
    env = environment({"IMMICH_DBSYNC_DATABASE_URL": url})
    execute("triggers", "install", env=env)
    with connected(url) as connection:
        connection.execute("insert into immich_dbsync_v1.owners (owner_id) values (gen_random_uuid())")
        ended = execute("triggers", "remove", "--yes", env=env)
        assert ended.code == 0
        assert "schema" not in ended.out
        assert connection.execute("select count(*) from pg_trigger where tgname like 'immich_dbsync%'").fetchone() == (
            0,
        )
        assert execute("triggers", "verify", env=env).code == 6
        assert execute("triggers", "install", env=env).code == 0
        assert execute("triggers", "verify", env=env).code == 0
        assert connection.execute("select count(*) from immich_dbsync_v1.owners").fetchone() == (1,)


def test_install_verify_and_remove_as_json(url: str) -> None:
    env = environment({"IMMICH_DBSYNC_DATABASE_URL": url})
    nothing = {"version": 1, "ok": True, "differences": [], "changed": [], "warnings": []}

    ended = execute("triggers", "verify", "--json", env=env)
    missing = ended.json["differences"]
    assert (ended.code, ended.err) == (6, "")
    assert missing
    assert ended.json == nothing | {"ok": False, "differences": missing}

    ended = execute("triggers", "install", "--json", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert ended.json == nothing | {"changed": missing}

    assert execute("triggers", "install", "--json", env=env).json == nothing
    assert execute("triggers", "verify", "--json", env=env).json == nothing

    ended = execute("triggers", "remove", "--purge", "--yes", "--json", env=env)
    assert ended.code == 0
    assert ended.json["changed"]
    assert execute("triggers", "remove", "--purge", "--yes", "--json", env=env).json == nothing


def test_a_disabled_trigger_is_found_and_mended(url: str) -> None:
    settings = {"IMMICH_DBSYNC_DATABASE_URL": url}
    invoked("triggers", "install", settings=settings)
    asyncio.run(sql(url, "alter table asset disable trigger immich_dbsync_v1_updated"))
    ended = invoked("triggers", "verify", settings=settings)
    assert ended.code == 6
    assert "immich_dbsync_v1_updated" in ended.out
    ended = invoked("triggers", "install", settings=settings)
    assert ended.code == 0
    assert "immich_dbsync_v1_updated" in ended.out
    assert invoked("triggers", "verify", settings=settings).code == 0


def test_what_install_may_not_mend_is_said_in_one_line_and_as_json(url: str) -> None:
    settings = {"IMMICH_DBSYNC_DATABASE_URL": url}
    invoked("triggers", "install", settings=settings)
    asyncio.run(sql(url, "alter table immich_dbsync_v1.events add column mine text"))
    ended = invoked("triggers", "install", settings=settings)
    assert "What cannot be mended without touching data: " in ended.complaint(6)
    assert ended.out == ""
    ended = invoked("triggers", "install", "--json", settings=settings)
    ended_as_json = json.loads(ended.out)
    assert ended.code == 6
    assert ended_as_json["ok"] is False
    assert "mine" in " ".join(ended_as_json["differences"])


def test_a_table_in_use_is_waited_for_and_then_said_to_be(url: str) -> None:
    env = environment({"IMMICH_DBSYNC_DATABASE_URL": url})
    with psycopg.connect(url) as connection:
        connection.execute("lock table asset in access share mode")  # as a backup does
        connection.execute("lock table asset in share row exclusive mode")
        complaint = execute("triggers", "install", env=env).complaint(8)
    assert complaint.startswith("The tables were in use all the time")
    assert "Nothing was changed" in complaint
    assert execute("triggers", "verify", env=env).code == 6


def test_sql_prints_what_install_runs_and_needs_no_setting(url: str) -> None:
    ended = execute("triggers", "sql", env=environment({}))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("begin;\n")
    assert ended.out.endswith("commit;\n")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ended.out.encode())
    verified = execute("triggers", "verify", env=environment({"DB_URL": url}))
    assert (verified.code, verified.out) == (0, "Schema and triggers are in order.\n")


def test_errors_are_no_json_and_leave_stdout_empty() -> None:
    settings = {"IMMICH_DBSYNC_DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/d"}
    for name in ("install", "verify", "remove"):
        ended = invoked("triggers", name, "--json", settings=settings)
        assert ended.complaint(4, "s3cret").startswith("PostgreSQL does not answer")
        assert ended.out == ""


async def test_remove_refuses_while_a_service_runs(url: str) -> None:
    async with staged(url, version="3.1.0") as stage:
        stage.start()

        async def started() -> bool:
            running = await stage.connection.fetchval(
                "select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1"
            )
            return bool(running) and "owner.started" in stage.log.read_text()

        await until(started, seconds=30)
        ended = await asyncio.to_thread(execute, "triggers", "remove", "--yes", env=stage.environment())
        assert "stop it first" in ended.complaint(DatabaseBusy.exit_code)
        assert stage.stop() == 0
        ended = await asyncio.to_thread(execute, "triggers", "remove", "--yes", env=stage.environment())
        assert ended.code == 0
