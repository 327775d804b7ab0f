"""What the service uses while nothing happens."""

import time
from collections.abc import Iterator

import psycopg

from tests.bench.figures import Figure, Measure, at_most
from tests.bench.ground import Ground
from tests.bench.library import folder
from tests.bench.service import service

_HEARTBEAT_S = 15  # the default of the setting
_SETTLE_S = 5.0  # after the first scan, for what follows it a moment later

_TRANSACTIONS = "select xact_commit + xact_rollback from pg_stat_database where datname = %s"


def idle(ground: Ground) -> Iterator[Figure]:
    """Over one minute, with 20,000 files in the folder."""
    ours, seconds = folder(ground), ground.sizes.idle_s
    with psycopg.connect(ground.cluster.url(), autocommit=True) as outside:

        def autovacuum(state: str) -> None:
            outside.execute(f"alter system set autovacuum = {state}".encode())
            outside.execute("select pg_reload_conf()")

        def queries() -> int:
            row = outside.execute(_TRANSACTIONS, ("folder",)).fetchone()
            assert row is not None
            return int(row[0])

        autovacuum("off")  # its queries are none of ours
        try:
            with service(ours.immich, ours.person) as running:
                time.sleep(min(_SETTLE_S, seconds))
                before, asked, began = running.usage(), queries(), time.monotonic()
                time.sleep(seconds)
                took, asked = time.monotonic() - began, queries() - asked
                after, resident = running.usage(), running.memory()
        finally:
            autovacuum("on")
    heartbeats = seconds / _HEARTBEAT_S
    processor = (after.processor_s - before.processor_s) / took * 1000
    bound = int(heartbeats) + 1  # one may fall on the edge
    asks = (at_most(Measure.MEDIAN, bound),)
    yield Figure(f"idle: queries in {seconds} s", "queries", [asked], [heartbeats], "heartbeats", asks)
    yield Figure("idle: resident memory", "MB", [resident], (), "", (at_most(Measure.MEDIAN, 80),))
    yield Figure("idle: processor", "ms a second", [processor])
    yield Figure("idle: wake-ups", "a second", [(after.switches - before.switches) / took])
