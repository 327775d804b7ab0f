"""PostgreSQL goes away, freezes, refuses and changes under the service, with work in flight on both sides.

Immich's own statements succeed all the while, and none waits for a lock of ours for longer than a second: both what the
stand-in sends and what ``Meter`` sends in another synced user's library.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from immich_dbsync import sql
from immich_dbsync.demo.cluster import Cluster
from immich_dbsync.demo.server import StandIn
from immich_dbsync.demo.tables import ImmichVersion, create_tables
from immich_dbsync.store import install
from tests.databases import MAJORS, NEWEST, Servers
from tests.faults.meter import LONGEST_WAIT_MS, Meter
from tests.faults.parts import parts
from tests.faults.proxy import Proxy
from tests.faults.report import Report
from tests.faults.rig import Rig, rigged, second_user
from tests.faults.traffic import Traffic
from tests.integration.assets import least_role
from tests.mounts import small_disk
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)

_TIMES = 3
_OURS = "application_name like 'immich-dbsync%' and datname = current_database()"


@dataclass
class World:
    """What a fault may touch: the rig, the proxy before its database, and Immich's meter."""

    rig: Rig
    proxy: Proxy
    traffic: Traffic
    meter: Meter
    url: str  # without the proxy

    async def execute(self, *statements: str) -> None:
        """As an administrator, who waits for no lock for longer than Immich does."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f"set lock_timeout = {LONGEST_WAIT_MS}")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def until_logged(self, event: str, *, beyond: int, seconds: float = 25.0) -> None:
        """Return when the service has said so more often than ``beyond`` times."""

        async def said() -> bool:
            return len(self.rig.logged(event)) > beyond

        await until(said, seconds=seconds)

    def said(self, event: str = "database.unavailable") -> int:
        return len(self.rig.logged(event))


Fault = Callable[[World], Awaitable[None]]


@asynccontextmanager
async def world_of(url: str, version: ImmichVersion, user: str = "postgres") -> AsyncIterator[World]:
    """A service that reaches its database through a proxy, as this user, and two users with a folder."""
    parts = urlsplit(url)
    path = Path(parse_qs(parts.query)["host"][0], ".s.PGSQL.5432")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(path))
        rig = await stack.enter_async_context(rigged(f"{url}&lock_timeout={LONGEST_WAIT_MS}", version))
        rig.settings["IMMICH_DBSYNC_DATABASE_URL"] = proxy.url(parts.path[1:], user)
        grace = await second_user(rig)
        meter = await stack.enter_async_context(Meter(url, grace, version))
        rig.start()
        yield World(rig, proxy, Traffic(rig), meter, url)


async def survives(world: World, name: str, fault: Fault, report: Report, times: int = _TIMES) -> None:
    """Inject a fault again and again with work in flight, and have both sides agree after each."""
    rig, traffic = world.rig, world.traffic
    await traffic.stock(times * 3)  # the fault may do a round itself
    in_flight = 0
    for _ in range(times):
        in_flight = await traffic.deeds()
        await fault(world)
        report.injected(name)
        in_flight += await traffic.deeds()
        await rig.agrees(seconds=60)
        assert rig.running()
    await world.meter.rest()  # a resync ends when there is nothing to do any more
    await rig.resync()
    await rig.nothing_is_lost(traffic.contents)
    assert "Traceback" not in rig.log()
    world.meter.check()
    longest = f"Immich: {world.meter.statements} statements, longest {world.meter.longest_s * 1000:.0f} ms"
    report.survived(name, in_flight=f"{in_flight} deeds", note=longest)


# --- the connection ---


async def cut(world: World) -> None:
    """Every connection is reset."""
    before = world.said()
    world.proxy.cut()
    await world.until_logged("database.unavailable", beyond=before)


async def refused(world: World) -> None:
    """Every connection is reset, and new ones as well for a while."""
    before = world.said()
    world.proxy.refusing = True
    world.proxy.cut()
    await world.until_logged("database.unavailable", beyond=before)
    world.proxy.refusing = False


async def frozen(world: World) -> None:
    """Nothing is said any more; the heartbeat notices."""
    before = world.said()
    world.proxy.freeze()
    await world.until_logged("database.unavailable", beyond=before)
    assert "frozen" in world.rig.logged("database.unavailable")[-1]["reason"]
    world.proxy.thaw()


async def slow(world: World) -> None:
    """Every answer comes late while the next deeds are done."""
    world.proxy.delay_s = 0.05


async def mute(world: World) -> None:
    """No notification arrives."""
    world.proxy.mute = True


async def terminated(world: World) -> None:
    """An administrator ends our sessions."""
    before = world.said()
    await world.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {_OURS}")
    await world.until_logged("database.unavailable", beyond=before)


async def cancelled(world: World) -> None:
    """An administrator cancels what our sessions are doing, again and again."""
    for _ in range(20):
        await world.execute(f"select pg_cancel_backend(pid) from pg_stat_activity where {_OURS}")


# --- what is in the database ---


async def triggers_dropped(world: World) -> None:
    """Our triggers are dropped; what happens until that is noticed is not captured."""
    before = world.said("triggers.mended")
    await world.execute(
        "drop trigger immich_dbsync_v1_updated on asset", "drop trigger immich_dbsync_v1_deleted on asset"
    )
    await world.until_logged("triggers.mended", beyond=before)


async def triggers_disabled(world: World) -> None:
    """The same with triggers that are there and do nothing."""
    before = world.said("triggers.mended")
    await world.execute("alter table asset disable trigger user")
    await world.until_logged("triggers.mended", beyond=before)
    await world.execute("alter table asset enable trigger user")


async def renamed_away(world: World) -> None:
    """Immich's table has another name for a while."""
    await world.meter.rest()
    before = world.said()
    await world.execute("alter table asset rename to asset_away")
    await world.until_logged("database.unavailable", beyond=before)
    await world.execute("alter table asset_away rename to asset")
    world.meter.go_on()


async def read_only(world: World) -> None:
    """The database takes no writes of ours for a while."""
    before = world.said()
    name = urlsplit(world.url).path[1:]
    await world.execute(
        f"alter database {name} set default_transaction_read_only = on",
        f"select pg_terminate_backend(pid) from pg_stat_activity where {_OURS}",
    )
    try:
        await world.until_logged("database.unavailable", beyond=before)
    finally:
        connection = await asyncpg.connect(world.url, server_settings={"default_transaction_read_only": "off"})
        await connection.execute(f"alter database {name} reset default_transaction_read_only")
        await connection.close()


FAULTS: dict[str, Fault] = {
    "connections cut": cut,
    "connections refused": refused,
    "connections frozen": frozen,
    "answers late": slow,
    "notifications lost": mute,
    "backends terminated": terminated,
    "statements cancelled": cancelled,
    "triggers dropped": triggers_dropped,
    "triggers disabled": triggers_disabled,
    "table asset renamed away and back": renamed_away,
    "database read-only": read_only,
}


@pytest.mark.newest
@pytest.mark.parametrize("name", parts(FAULTS, always=["notifications lost"]))
async def test_faults_of_the_database(
    library_url: str, immich_version: ImmichVersion, name: str, report: Report
) -> None:
    async with world_of(library_url, immich_version) as world:
        await survives(world, f"database: {name}", FAULTS[name], report)


# --- the server itself ---


@asynccontextmanager
async def mortal(version: ImmichVersion, data: Path | None = None) -> AsyncIterator[tuple[Cluster, World]]:
    """A world on a PostgreSQL server of its own."""
    # A server on which a commit is one, as Immich's is: what was trashed stays trashed.
    with Cluster(MAJORS[NEWEST], data=data, settings={"synchronous_commit": "on"}) as cluster:
        connection = await asyncpg.connect(cluster.url())
        await create_tables(connection, version)
        await connection.close()
        async with world_of(cluster.url(), version) as world:
            yield cluster, world


@pytest.mark.newest
@pytest.mark.long  # with less work in flight: test_a_database_that_restarts_under_the_service_is_no_end
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_the_server_restarts(immich_version: ImmichVersion, mode: str, report: Report) -> None:
    async with mortal(immich_version) as (cluster, world):

        async def restarted(world: World) -> None:
            before = world.said()
            await asyncio.to_thread(cluster.stop_server, mode)
            await world.until_logged("database.unavailable", beyond=before)
            await world.traffic.deeds(immich=False)
            await asyncio.to_thread(cluster.start_server)
            # The test's own connection went with the server.
            world.rig.stage.connection.terminate()
            world.rig.stage.connection = await asyncpg.connect(world.url)

        try:
            await survives(world, f"database: restarted, {mode}", restarted, report)
        finally:
            world.rig.stage.connection.terminate()


@pytest.mark.newest
@pytest.mark.long
async def test_the_servers_disk_is_full(immich_version: ImmichVersion, report: Report) -> None:
    """Immich's statements fail then as well, on their own account: nobody is measured."""
    with small_disk(256) as place:
        async with mortal(immich_version, place) as (_, world):
            ballast = place / "ballast"

            async def filled(world: World) -> None:
                before = world.said()
                await world.meter.rest()
                with ballast.open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                await world.traffic.arrivals(100)  # more than fits into the pages that there are
                await world.until_logged("database.unavailable", beyond=before)
                ballast.unlink()
                world.meter.go_on()

            await survives(world, "database: disk full", filled, report)


@pytest.fixture
def role(database_url: str) -> str:
    """A role with the rights that are printed for it; Immich's tables are another's."""
    return least_role(database_url)


@pytest.mark.newest
@pytest.mark.long
async def test_our_rights_are_revoked(
    database_url: str, role: str, immich_version: ImmichVersion, report: Report
) -> None:
    async with world_of(database_url, immich_version, user=role.replace(" ", "%20")) as world:
        places = iter(["table asset", "schema immich_dbsync_v1", "table immich_dbsync_v1.records"])

        async def revoked(world: World) -> None:
            before, place = world.said(), next(places)
            await world.execute(f'revoke all on {place} from "{role}"')
            await world.until_logged("database.unavailable", beyond=before)
            assert "permission denied" in world.rig.logged("database.unavailable")[-1]["reason"]
            await world.execute(install.grants(role))

        await survives(world, "database: our rights revoked", revoked, report)


@pytest.fixture
def old_database(servers: Servers) -> Iterator[str]:
    """The URL of a database of the oldest Immich."""
    with servers.database("2.7.5") as name:
        yield servers.cluster().url(name)


async def test_immich_is_updated_while_we_run(old_database: str, report: Report) -> None:
    async with AsyncExitStack() as stack, world_of(old_database, "2.7.5") as world:

        async def updated(world: World) -> None:
            stage = world.rig.stage
            port = urlsplit(stage.immich.url).port
            assert port is not None
            await world.meter.rest()
            await stage.immich.__aexit__(None, None, None)
            await world.execute(sql.block("demo/immich", "from_2_7_5"))
            await world.execute("insert into version_history (version) values ('3.1.0')")
            stage.immich = StandIn(world.url, version="3.1.0", media=stage.home / "media", port=port)
            await stack.enter_async_context(stage.immich)
            world.meter.go_on("3.1.0")

        await survives(world, "database: Immich updated, 2.7.5 to 3.1.0", updated, report, times=1)


async def test_the_meter_sees_who_waits_for_us(library_url: str, immich_version: ImmichVersion) -> None:
    """Else the promise that nobody does would be held to nothing."""
    async with world_of(library_url, immich_version) as world:
        await world.traffic.stock(1)
        await world.execute("alter function immich_dbsync_v1.begin_capture() set lock_timeout = '30s'")
        locker = await asyncpg.connect(world.url)
        try:
            await locker.execute("begin; lock table immich_dbsync_v1.events in access exclusive mode")

            async def seen() -> bool:
                return world.meter.waited_s * 1000 > LONGEST_WAIT_MS

            await until(seen)
        finally:
            await locker.close()
        with pytest.raises(AssertionError, match="Immich waited for us"):
            world.meter.check()
