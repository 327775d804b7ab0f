"""``immich-dbsync quarantine``: files come back or go for good by hand, beside a service and without one."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from uuid import UUID

import pytest

from immich_dbsync.demo.people import create_api_key, create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import PERMISSIONS, Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Ended, Service, command, on_terminal, put
from tests.files import files_below
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO, THREE = map(picture, range(3))
A, B = "Camera/a.png", "b.png"


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    """Two pictures in the quarantine, their assets in Immich's trash; a third in the folder."""
    async with staged(library_url, version=immich_version) as stage:
        await create_user(stage.connection, email="bob@example.org", name="Bob")
        stage.settings |= {"IMMICH_DBSYNC_SETTLE_TIME": "0.05", "IMMICH_DBSYNC_MOVE_GRACE": "0.2"}
        for name, content in ((A, ONE), (B, TWO), ("c.png", THREE)):
            put(stage.folder, name, content)
        with Service(stage.environment(), stage.log):
            await counts(stage, "select count(*) from immich_dbsync_v1.records where asset_id is not null", 3)
            await stage.connection.execute(
                "update asset set status = 'trashed', \"deletedAt\" = now() where \"originalFileName\" <> 'c.png'"
            )
            await counts(stage, "select count(*) from immich_dbsync_v1.history where action = 'quarantine'", 2)
        yield stage


async def counts(stage: Stage, query: str, wanted: int) -> None:
    async def check() -> bool:
        return bool(await stage.connection.fetchval("select to_regclass('immich_dbsync_v1.history') is not null")) and (
            bool(await stage.connection.fetchval(query) == wanted)
        )

    await until(check, seconds=20)


@contextmanager
def _running(stage: Stage) -> Iterator[Service]:
    with Service(stage.environment(), stage.log) as service:
        yield service


@pytest.fixture(params=["beside a service", "without one"])
def service(request: pytest.FixtureRequest, stage: Stage) -> AbstractContextManager[object]:
    return _running(stage) if request.param == "beside a service" else nullcontext()


async def told(stage: Stage, *words: str) -> Ended:
    return await command("quarantine", *words, env=stage.environment())


async def number(stage: Stage, path: str) -> str:
    [file] = (await told(stage, "list", "--path", path, "--json")).json["files"]
    return str(file["id"])


async def status(stage: Stage, name: str) -> str | None:
    found: str | None = await stage.connection.fetchval(
        'select status::text from asset where "originalFileName" = $1', name.rpartition("/")[2]
    )
    return found


async def deleted_for_good(stage: Stage, name: str) -> None:
    """Immich deletes the asset for good, as it does when the trash is emptied."""
    asset: UUID = await stage.connection.fetchval(
        'select id from asset where "originalFileName" = $1', name.rpartition("/")[2]
    )
    await stage.connection.execute("delete from asset where id = $1", asset)


# --- list ---


async def test_what_is_in_quarantine(stage: Stage) -> None:
    ended = await told(stage, "list")
    assert ended.code == 0, ended
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert [(row[1], row[3], row[4], row[5]) for row in rows] == [
        ("ada@example.org", str(len(content)), "in Immich's trash", name)
        for name, content in sorted([(A, ONE), (B, TWO)], key=lambda each: [row[5] for row in rows].index(each[0]))
    ]
    assert ended.err == "In quarantine: 2 files, 2.0 kB.\n"
    one = await told(stage, "list", "--path", "Camera", "--user", "ada")
    assert [line.split("\t")[5] for line in one.out.splitlines()] == [A]
    nobody = await told(stage, "list", "--user", "bob@example.org")
    assert (nobody.code, nobody.out) == (0, "")


async def test_list_as_json(stage: Stage) -> None:
    await deleted_for_good(stage, B)
    await stage.connection.execute("update immich_dbsync_v1.quarantine set gone = true where path = 'b.png'")
    ended = await told(stage, "list", "--json")
    assert ended.json["version"] == 1
    files = {file["path"]: file for file in ended.json["files"]}
    assert (files[A]["asset"], files[A]["purged_after"], files[A]["size"]) == ("trashed", None, len(ONE))
    assert files[B]["asset"] == "gone"
    assert files[B]["purged_after"] > files[B]["since"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d/b\.png", files[B]["location"])


# --- restore ---


async def test_a_file_comes_back_and_its_asset_leaves_the_trash(
    stage: Stage, service: AbstractContextManager[object]
) -> None:
    before = (stage.folder / "c.png").stat()
    with service:
        ended = await told(stage, "restore", await number(stage, A))
    assert (ended.code, ended.out) == (0, f"{A} is back.\n"), ended
    assert files_below(stage.folder) == {A: ONE, "c.png": THREE}
    after = (stage.folder / A).stat()
    assert (after.st_mtime_ns, after.st_uid, after.st_mode) == (before.st_mtime_ns, before.st_uid, before.st_mode)
    assert await status(stage, A) == "active"
    assert await status(stage, B) == "trashed"
    assert [line.split("\t")[5] for line in (await told(stage, "list")).out.splitlines()] == [B]
    history = await command("history", A, env=stage.environment())
    assert "put back" in history.out


async def test_a_picture_that_immich_has_no_more_is_uploaded_again(
    stage: Stage, service: AbstractContextManager[object]
) -> None:
    await deleted_for_good(stage, B)
    with service:
        ended = await told(stage, "restore", "--path", B, "--json")
    assert ended.code == 0, ended
    [restored] = ended.json["restored"]
    assert (restored["path"], ended.json["left"]) == (B, [])
    assert await status(stage, B) == "active"


async def test_what_is_at_its_place_stays(stage: Stage, service: AbstractContextManager[object]) -> None:
    put(stage.folder, B, picture(9))
    with service:
        ended = await told(stage, "restore", "--path", str(stage.folder / B))
    assert (ended.code, ended.out) == (0, "b (restored).png is back.\n"), ended
    assert files_below(stage.folder) == {B: picture(9), "b (restored).png": TWO, "c.png": THREE}


async def test_the_same_picture_at_its_place_is_enough(stage: Stage, service: AbstractContextManager[object]) -> None:
    put(stage.folder, B, TWO)
    with service:
        ended = await told(stage, "restore", await number(stage, B))
    assert ended.code in {12, 13}, ended  # 13: the service had noticed before
    assert files_below(stage.folder) == {B: TWO, "c.png": THREE}


async def test_everything_below_a_folder_comes_back(stage: Stage, service: AbstractContextManager[object]) -> None:
    with service:
        ended = await told(stage, "restore", "--path", str(stage.folder))
    assert ended.code == 0, ended
    assert files_below(stage.folder) == {A: ONE, B: TWO, "c.png": THREE}


# --- purge ---


async def test_only_what_immich_deleted_for_good_is_deleted(
    stage: Stage, service: AbstractContextManager[object]
) -> None:
    await deleted_for_good(stage, B)
    with service:
        ended = await told(stage, "purge", await number(stage, A), await number(stage, B), "--yes")
    assert (ended.code, ended.out) == (12, "1 file deleted.\n"), ended
    assert f"{A} stays: its asset is in Immich" in ended.err
    kept = files_below(stage.folder / ".immich-dbsync" / "quarantine", hidden=True)
    assert [*kept.values()] == [ONE]
    assert "purge" in (await command("history", B, env=stage.environment())).out


async def test_without_evidence_nothing_is_deleted(stage: Stage, service: AbstractContextManager[object]) -> None:
    """As with a backup of Immich's that is older than the asset, or another server's database."""
    await deleted_for_good(stage, B)
    await stage.connection.execute("delete from asset_audit")
    await stage.connection.execute("delete from immich_dbsync_v1.events")
    with service:
        ended = await told(stage, "purge", await number(stage, B), "--yes")
    assert (ended.code, ended.out) == (12, "0 files deleted.\n"), ended
    assert "nothing says that Immich deleted its asset" in ended.err
    assert TWO in files_below(stage.folder / ".immich-dbsync" / "quarantine", hidden=True).values()


async def test_what_is_old_is_deleted(stage: Stage) -> None:
    await deleted_for_good(stage, A)
    await deleted_for_good(stage, B)
    await stage.connection.execute(
        "update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '8 days' where path = 'b.png'"
    )
    ended = await told(stage, "purge", "--older-than", "7d", "--yes", "--json")
    assert [file["path"] for file in ended.json["purged"]] == [B]
    assert [*files_below(stage.folder / ".immich-dbsync" / "quarantine", hidden=True).values()] == [ONE]


async def test_purge_shows_first_what_it_deletes_and_asks(stage: Stage) -> None:
    await deleted_for_good(stage, B)
    words = ("purge", await number(stage, B))
    ended = await told(stage, *words)
    assert ended.code == 14
    assert f"{B}, unknown to Immich" in ended.err
    assert "add --yes" in ended.err
    question = f"Delete these for good: 1 file, {len(TWO)} bytes?"

    async def answered(answer: str) -> Ended:
        return await asyncio.to_thread(
            on_terminal, "quarantine", *words, env=stage.environment(), dialogue=[(question, f"{answer}\n")]
        )

    refused = await answered("n")
    assert question in refused.out
    assert refused.code == 14
    assert TWO in files_below(stage.folder / ".immich-dbsync" / "quarantine", hidden=True).values()
    for key in ("\x03", "\x04"):  # Ctrl-C, Ctrl-D
        refused = await answered(key)
        assert refused.code == 14
        assert refused.out.endswith("immich-dbsync: Nothing was changed.\n")
    agreed = await answered("y")
    assert agreed.code == 0, agreed
    assert TWO not in files_below(stage.folder / ".immich-dbsync" / "quarantine", hidden=True).values()


async def test_what_is_old_and_stays_is_told_of(stage: Stage) -> None:
    await stage.connection.execute("update immich_dbsync_v1.quarantine set quarantined_at = now() - interval '8 days'")
    ended = await told(stage, "purge", "--older-than", "7d", "--yes")
    assert (ended.code, ended.out) == (0, "0 files deleted.\n")
    assert ended.err == "2 older files stay: Immich has not deleted them for good.\n"


# --- typed wrong ---


async def test_what_is_not_there(stage: Stage) -> None:
    assert "Not in quarantine: 999." in (await told(stage, "restore", "999")).complaint(13)
    assert "Not in quarantine: 999." in (await told(stage, "purge", "999", "--yes")).complaint(13)
    assert (await told(stage, "restore", "--path", "elsewhere")).complaint(13) == (
        "Nothing in quarantine was at or below 'elsewhere'."
    )
    for words in (["list"], ["list", "--json"], ["restore"]):
        ended = await told(stage, *words, "--path", "Camra")
        assert ended.complaint(13).endswith(" Did you mean Camera?")
        assert ended.out == ""
    assert "Did you mean ada@example.org?" in (await told(stage, "list", "--user", "ada@exmple.org")).complaint(13)
    assert "in no user's folder" in (await told(stage, "list", "--path", "/elsewhere")).complaint(13)
    for words, option in ((["restore", "--user", "ada@example.org"], "--path"), (["purge"], "--older-than")):
        ended = await told(stage, *words)
        assert ended.code == 2
        assert f"name the files by their numbers, or with {option}." in " ".join(ended.err.replace("│", "").split())


async def test_who_is_not_synced_is_told_where_the_file_is(stage: Stage) -> None:
    bob = await stage.connection.fetchval("select id from \"user\" where name = 'Bob'")
    await stage.connection.execute(
        """insert into immich_dbsync_v1.quarantine
           (owner_id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id)
           values ($1, 'x', '2026-01-01/x', 1, 1, 1, 'x', 'x', gen_random_uuid())""",
        bob,
    )
    said = (await told(stage, "restore", "--user", "bob", "--path", "x")).complaint(9)
    assert f"{bob}/.immich-dbsync/quarantine" in said


async def test_before_anything_is_installed(database_url: str, immich_version: ImmichVersion) -> None:
    async with staged(database_url, version=immich_version) as stage:
        assert "triggers install" in (await told(stage, "list")).complaint(6)


# --- who is paused ---


async def test_who_is_paused_keeps_what_is_in_quarantine(stage: Stage, service: AbstractContextManager[object]) -> None:
    await deleted_for_good(stage, B)
    await stage.connection.execute("update immich_dbsync_v1.quarantine set gone = true where path = 'b.png'")
    a, b = await number(stage, A), await number(stage, B)
    assert (await command("users", "pause", "ada", env=stage.environment())).code == 0
    with service:
        for words in (["restore", a], ["restore", "--path", A], ["purge", b, "--yes"], ["purge", "--older-than", "0s"]):
            said = (await told(stage, *words)).complaint(13)
            assert said.endswith("Go on with: immich-dbsync users resume ada@example.org")
        assert len((await told(stage, "list")).out.splitlines()) == 2
        assert (await command("users", "resume", "ada", env=stage.environment())).code == 0
        assert (await told(stage, "purge", b, "--yes")).code == 0
        assert (await told(stage, "restore", a)).code == 0


async def test_the_files_of_others_are_seen_to(stage: Stage) -> None:
    """One is paused, one has no folder: neither keeps anybody else's files where they are."""
    env = stage.environment()
    ids = {}
    for name in ("cyd", "eve"):
        ids[name] = await create_user(stage.connection, email=f"{name}@example.org")
        key = await create_api_key(stage.connection, ids[name], PERMISSIONS)
        env["IMMICH_DBSYNC_API_KEYS"] += f" {key}"
        put(stage.home / "sync" / str(ids[name]), A, picture(7))
    assert (await command("resync", env=env)).code == 0
    with Service(env, stage.log):
        await stage.connection.execute(
            'update asset set status = \'trashed\', "deletedAt" = now() where "ownerId" = any($1)', [*ids.values()]
        )
        await counts(stage, "select count(*) from immich_dbsync_v1.history where action = 'quarantine'", 4)
    assert (await command("users", "pause", "cyd@example.org", env=env)).code == 0
    (stage.home / "sync" / str(ids["eve"])).rename(stage.home / "away")
    ended = await command("quarantine", "restore", "--path", A, env=env)
    assert (ended.code, ended.out) == (12, f"{A} is back.\n"), ended
    assert "cyd@example.org is paused, and their files are left out." in ended.err
    assert "eve@example.org was left out: " in ended.err
    assert files_below(stage.folder)[A] == ONE
