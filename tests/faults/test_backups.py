"""Immich restores a backup under the running service: the restore succeeds, and no file is removed."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from immich_dbsync.demo.cluster import Cluster, ClusterError
from immich_dbsync.demo.people import create_user
from immich_dbsync.demo.tables import ImmichVersion
from immich_dbsync.store import install
from tests.acceptance.commands import Ended, command
from tests.backups import backup, restore
from tests.databases import Servers
from tests.faults.report import Report
from tests.faults.rig import Rig, picture, rigged
from tests.faults.traffic import Traffic
from tests.waiting import until

pytestmark = [pytest.mark.newest, pytest.mark.timeout(300)]

_OLDER = Path(__file__).with_name("older_schema.sql")


def _in_the_stand_ins_way(error: str) -> bool:
    """Whether the restore and a job of the stand-in waited for each other: it goes on with them, where Immich does not.

    Were it a statement of ours, our schema would be in it.
    """
    waited = re.findall(r"Process \d+: .*(?:\n\s.*)*", error)
    return "deadlock detected" in error and bool(waited) and not any("immich_dbsync" in each for each in waited)


@dataclass
class World:
    """A rig whose database can be dumped and restored."""

    rig: Rig
    cluster: Cluster
    traffic: Traffic

    @property
    def name(self) -> str:
        return urlsplit(self.rig.stage.database_url).path[1:]

    async def dump(self) -> str:
        return await asyncio.to_thread(backup, self.cluster, self.name, "postgres")

    async def restore(self, dump: str) -> None:
        """As Immich does it, while the service runs; the test's own connection goes like all others."""
        before = len(self.rig.logged("database.unavailable"))
        stage = self.rig.stage
        try:
            await asyncio.to_thread(restore, self.cluster, self.name, "postgres", dump)
        except ClusterError as error:
            if not _in_the_stand_ins_way(str(error)):
                raise
            await asyncio.to_thread(restore, self.cluster, self.name, "postgres", dump)
        stage.connection.terminate()
        stage.connection = await asyncpg.connect(stage.database_url)

        async def noticed() -> bool:
            return len(self.rig.logged("database.unavailable")) > before

        await until(noticed)

    async def verified(self) -> None:
        """Our schema and triggers are as they should be, and `status` can be asked."""

        async def whole() -> bool:
            return not (await asyncio.to_thread(install.verify, self.rig.stage.database_url)).differences

        await until(whole)
        assert self.rig.running(), self.rig.log()[-6000:]
        assert "Traceback" not in self.rig.log()

    async def status(self) -> tuple[Ended, Any]:
        ended = await command("status", "--json", env=self.rig.environment())
        return ended, json.loads(ended.out)


@pytest.fixture
async def world(servers: Servers, database_url: str, immich_version: ImmichVersion) -> AsyncIterator[World]:
    async with rigged(database_url, immich_version) as rig:
        try:
            yield World(rig, servers.cluster(), Traffic(rig))
        finally:
            rig.stage.connection.terminate()


async def test_a_backup_of_yesterday(world: World, report: Report) -> None:
    """What was uploaded since is uploaded again, what was deleted in Immich since is back, on both sides."""
    rig, traffic = world.rig, world.traffic
    rig.start()
    await traffic.stock(6)
    await traffic.deeds()
    await rig.agrees()
    dump = await world.dump()
    before = {*rig.files()}
    await traffic.deeds(2)
    await rig.agrees()
    since = traffic.trashed_since(2)
    assert {name for name, _ in since} <= before
    # In flight. Not a restored asset: whether its file was back before the backup was decides what becomes of it.
    await traffic.deeds(immich=False)
    await traffic.immich_deeds(1, files=False)
    await world.restore(dump)
    report.injected("backup: of yesterday")
    await world.verified()
    for name, content in (*since, *traffic.trashed_since(1)):
        rig.want({name: content})
    # What was edited or deleted in the folder since is trashed anew, but for what had come and gone since the backup.
    await rig.agrees(seconds=60)
    await rig.resync()
    await rig.nothing_is_lost(traffic.contents)
    ended, status = await world.status()
    assert ended.code == 0
    assert status["owners"][0]["synced"] == len(rig.files())
    report.survived("backup: of yesterday", in_flight="5 deeds")


@pytest.mark.long
async def test_a_backup_from_before_we_came(world: World, report: Report) -> None:
    """Our schema outlives it and knows assets that are gone: their files are uploaded again."""
    rig = world.rig
    mine = {f"mine{number}.jpg": picture("mine") for number in range(4)}
    for content in mine.values():
        await rig.upload(content)
    dump = await world.dump()
    for name, content in mine.items():
        rig.put(name, content)
    rig.want(mine)
    rig.start()
    await world.traffic.stock(4)
    await rig.trash(mine["mine0.jpg"])
    del rig.wanted.files["mine0.jpg"]
    rig.want(trashed=[mine["mine0.jpg"]])
    (rig.folder / "mine1.jpg").unlink()
    del rig.wanted.files["mine1.jpg"]
    rig.want(trashed=[mine["mine1.jpg"]])
    await rig.agrees()
    files = rig.files()
    await world.restore(dump)
    report.injected("backup: from before we came")
    await world.verified()
    rig.wanted.library.clear()
    rig.want(files)
    rig.want({"mine0.jpg": mine["mine0.jpg"]}, active=[mine["mine1.jpg"]])  # of whose deletion nothing is known now
    await rig.agrees(seconds=60)
    await rig.resync()
    assert files.items() <= rig.files().items()
    assert (await world.status())[0].code == 0
    report.survived("backup: from before we came", in_flight="0 deeds")


async def test_a_backup_with_an_older_schema_of_ours(world: World, report: Report) -> None:
    """It brings the older one back beside the present one, which is mended; what is left over is said."""
    rig = world.rig
    connection = rig.stage.connection
    await connection.execute(await asyncio.to_thread(_OLDER.read_text))
    await connection.execute("insert into immich_dbsync_v0.owners (owner_id) values ($1)", rig.stage.user)
    dump = await world.dump()
    await asyncio.to_thread(install.remove, rig.stage.database_url)
    rig.start()
    await world.traffic.stock(3)
    files = rig.files()
    await world.restore(dump)
    report.injected("backup: with an older schema")
    await world.verified()
    rig.wanted.library.clear()
    rig.want(files)
    await rig.agrees(seconds=60)
    await world.traffic.deeds(immich=False)
    await rig.agrees()
    ended = await command("triggers", "verify", env=rig.environment())
    assert "immich_dbsync_v0" in ended.out + ended.err
    assert any("immich_dbsync_v0" in line["what"] for line in rig.logged("triggers.warning"))
    await rig.resync()
    await rig.nothing_is_lost(world.traffic.contents)
    ended, status = await world.status()
    assert (ended.code, status["owners"][0]["synced"]) == (0, len(rig.files()))
    await asyncio.to_thread(install.remove, rig.stage.database_url)
    report.survived("backup: with an older schema", in_flight="4 deeds")


@pytest.fixture
def elsewhere(servers: Servers, immich_version: ImmichVersion) -> Iterator[str]:
    """The database of another server."""
    with servers.database(immich_version) as name:
        yield name


@pytest.mark.long
@pytest.mark.parametrize("ours", [False, True], ids=["without us", "that has us too"])
async def test_a_backup_of_another_server(world: World, elsewhere: str, report: Report, *, ours: bool) -> None:
    """Nobody of ours is in it: nothing is touched, it is said, and with the right one restored all goes on."""
    rig = world.rig
    rig.start()
    await world.traffic.stock(4)
    right = await world.dump()
    wrong = await _dump_of_another_server(world, elsewhere, ours=ours)
    files, quarantined = rig.files(), rig.quarantined()
    await world.restore(wrong)
    report.injected("backup: of another server")

    async def told() -> bool:
        return any("not known to this Immich" in line["reason"] for line in rig.logged("key.unusable"))

    await until(told)
    ended, status = await world.status()
    assert ended.code == 12
    assert "not known to this Immich" in json.dumps(status)
    rig.put("meanwhile.jpg", meanwhile := picture("meanwhile"))
    assert rig.files() == files | {"meanwhile.jpg": meanwhile}
    assert sorted(rig.quarantined()) == sorted(quarantined)
    await world.restore(right)
    report.injected("backup: of another server")
    await world.verified()
    rig.want({"meanwhile.jpg": meanwhile})
    await world.traffic.deeds()
    await rig.agrees(seconds=60)
    await rig.resync()
    await rig.nothing_is_lost(world.traffic.contents)
    assert (await world.status())[0].code == 0
    report.survived("backup: of another server", in_flight="7 deeds")


async def _dump_of_another_server(world: World, name: str, *, ours: bool) -> str:
    connection = await asyncpg.connect(world.cluster.url(name))
    zoe = await create_user(connection, email="zoe@example.net", name="Zoe")
    if ours:
        await asyncio.to_thread(install.install, world.cluster.url(name))
        await connection.execute("insert into immich_dbsync_v1.owners (owner_id, root_id) values ($1, $1)", zoe)
    await connection.close()
    return await asyncio.to_thread(backup, world.cluster, name, "postgres")
