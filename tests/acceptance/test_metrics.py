"""Metrics, health and readiness over HTTP, of the command as a process."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Service, command, put
from tests.databases import Servers
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def port() -> int:
    """One that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion, port: int) -> AsyncIterator[Stage]:
    async with staged(library_url, version=immich_version) as stage:
        stage.settings |= {"IMMICH_DBSYNC_METRICS_PORT": str(port), "IMMICH_DBSYNC_SETTLE_TIME": "0.05"}
        yield stage


@pytest.fixture
async def get(port: int) -> AsyncIterator[Callable[..., Awaitable[tuple[int, str]]]]:
    async with aiohttp.ClientSession() as session:

        async def get(path: str, host: str = "", address: str = "127.0.0.1") -> tuple[int, str]:
            """The status and the text; (0, "") while nobody answers."""
            try:
                headers = {"Host": host} if host else {}
                async with session.get(f"http://{address}:{port}{path}", headers=headers) as response:
                    return response.status, await response.text()
            except aiohttp.ClientConnectionError:
                return 0, ""

        yield get


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_is_done_is_counted_and_timed(stage: Stage, get: Callable[..., Awaitable[tuple[int, str]]]) -> None:
    put(stage.folder, "a.png", picture(1))
    owner = str(stage.user)

    async def now() -> Samples:
        status, text = await get("/metrics")
        return samples(text) if status == 200 else {}

    async def counted(name: str, value: float, **labels: str) -> Samples:
        async def check() -> Samples:
            found = await now()
            return found if found.get((name, frozenset(labels.items()))) == value else {}

        return await until(check, seconds=20)

    with Service(stage.environment(), stage.log):
        found = await counted("immich_dbsync_deeds_total", 1, owner=owner, action="upload")
        assert found["immich_dbsync_arrival_seconds_count", frozenset()] == 1
        posted = {("method", "POST"), ("path", "/api/assets"), ("outcome", "201")}
        assert found["immich_dbsync_request_seconds_count", frozenset(posted)] == 1
        await stage.connection.execute("update asset set status = 'trashed', \"deletedAt\" = now()")
        found = await counted("immich_dbsync_deeds_total", 1, owner=owner, action="quarantine")
        assert found["immich_dbsync_removal_seconds_count", frozenset()] == 1
        assert 0 < found["immich_dbsync_removal_seconds_sum", frozenset()] < 10
        for gauge in ("immich_dbsync_listening", "immich_dbsync_server_available", "immich_dbsync_sessions_total"):
            assert found[gauge, frozenset()] == 1
        found = await counted("immich_dbsync_scan_seconds_count", 1, owner=owner)
        assert found["immich_dbsync_scanned_files_total", frozenset({("owner", owner)})] == 1
        assert found["immich_dbsync_root_healthy", frozenset({("owner", owner)})] == 1
        assert found["immich_dbsync_holds", frozenset({("owner", owner)})] == 0
        assert found["immich_dbsync_queue_files", frozenset({("owner", owner), ("queue", "upload")})] == 0
        assert 0 <= found["immich_dbsync_heartbeat_age_seconds", frozenset()] < 30
        status, text = await get("/metrics")
        assert status == 200
        for secret in (stage.key, "a.png", "ada@example.org"):
            assert secret not in text


async def test_ready_and_alive(servers: Servers, stage: Stage, get: Callable[..., Awaitable[tuple[int, str]]]) -> None:
    async def ready() -> bool:
        return (await get("/readyz"))[0] == 200

    async def waits() -> str:
        status, text = await get("/readyz")
        return text if status == 503 else ""

    with Service(stage.environment(), stage.log):
        await until(ready, seconds=20)
        assert (await get("/healthz"))[0] == 200
        # As while Immich restores a backup: nobody may connect, and who is connected is ended.
        name = await stage.connection.fetchval("select current_database()")
        elsewhere = await asyncpg.connect(servers.cluster().url())
        try:
            await elsewhere.execute(f'alter database "{name}" allow_connections false')
            await elsewhere.execute(
                """select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = $1 and application_name like 'immich-dbsync%'""",
                name,
            )
            assert "waiting for the database" in await until(waits, seconds=20)
            assert (await get("/healthz"))[0] == 200
        finally:
            await elsewhere.execute(f'alter database "{name}" allow_connections true')
            await elsewhere.close()
        await until(ready, seconds=20)


async def test_only_this_machine_by_its_own_names(stage: Stage, get: Callable[..., Awaitable[tuple[int, str]]]) -> None:
    with Service(stage.environment(), stage.log):

        async def alive() -> bool:
            return (await get("/healthz"))[0] == 200

        await until(alive, seconds=20)
        for host in ("localhost", "localhost:80", "127.0.0.1:9", "[::1]:80", "[::1]", "LOCALHOST"):
            assert (await get("/metrics", host))[0] == 200, host
        for host in ("example.org", "example.org:80", "127.0.0.1.example.org", "10.0.0.1", "[::2]:80", "localhost.:80"):
            assert (await get("/metrics", host))[0] == 421, host
        assert (await get("/metrics", address="127.0.0.2"))[0] == 0
        assert (await get("/metrics", address="[::1]"))[0] == (200 if _has_ipv6() else 0)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as free:
            free.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_a_port_that_is_taken(stage: Stage, port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        said = (await command("run", env=stage.environment())).complaint(3)
    assert said.startswith(f"Port {port} of 127.0.0.1 can't be had for the metrics: ")
    assert "IMMICH_DBSYNC_METRICS_PORT" in said


async def test_nothing_listens_unless_it_is_wanted(
    stage: Stage, get: Callable[..., Awaitable[tuple[int, str]]]
) -> None:
    del stage.settings["IMMICH_DBSYNC_METRICS_PORT"]
    put(stage.folder, "a.png", picture(1))
    with Service(stage.environment(), stage.log) as service:
        await service.until_logged("owner.started")
        assert (await get("/healthz"))[0] == 0
