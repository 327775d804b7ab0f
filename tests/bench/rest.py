"""What the service uses while nothing happens."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from immich_dbsync import sql
from tests.bench.figures import Figure, Measure, at_most
from tests.bench.ground import Ground, Immich
from tests.bench.library import folder, million
from tests.bench.service import service

_STATEMENT = re.compile(r"^[^\t\]]+\] LOG: +(?:statement|execute [^:]+): (.+(?:\n\t.*)*)", re.MULTILINE)


def idle(ground: Ground) -> Iterator[Figure]:
    """Over one minute, with 20,000 files in the folder.

    What is to be measured next is made meanwhile: it is none of our queries, and no memory of ours.
    """
    ours, seconds = folder(ground), ground.sizes.idle_s
    beside = ground.beside(million) if "memory" in ground.families else nullcontext()
    with statements_logged(ours.immich), service(ours.immich, ours.person) as running:
        running.until_quiet()
        logged = ground.cluster.folder / "log"
        before, told, began = running.usage(), logged.stat().st_size, time.monotonic()
        with beside:
            running.lives(seconds)
            took, after, resident = time.monotonic() - began, running.usage(), running.memory()
        with logged.open("rb") as file:
            file.seek(told)
            asked = statements(file.read().decode())
    heartbeats = sum(count for statement, count in asked.items() if statement == _HEARTBEAT)
    others = {statement: count for statement, count in asked.items() if statement != _HEARTBEAT}
    processor = (after.processor_s - before.processor_s) / took * 1000
    none = (at_most(Measure.MEDIAN, 0),)
    yield Figure(
        f"idle: queries besides the heartbeat, in {seconds} s",
        "queries",
        [sum(others.values())],
        reaches=none,
        counts={"heartbeats": heartbeats, **others},
    )
    yield Figure("idle: resident memory", "MB", [resident], reaches=(at_most(Measure.MEDIAN, 80),))
    yield Figure("idle: processor", "ms a second", [processor])
    yield Figure("idle: wake-ups", "a second", [(after.switches - before.switches) / took])


@contextmanager
def statements_logged(immich: Immich) -> Iterator[None]:
    """Have PostgreSQL log each statement of who connects to this database before the block ends."""
    name = immich.folder.name
    immich.connection.execute(f"alter database {name} set log_statement = 'all'".encode())
    try:
        yield
    finally:
        immich.connection.execute(f"alter database {name} reset log_statement".encode())


def statements(log: str) -> Counter[str]:
    """How often each statement is in PostgreSQL's log; white space is as narrow as may be."""
    return Counter(_narrow(found.group(1)) for found in _STATEMENT.finditer(log))


def _narrow(statement: str) -> str:
    return " ".join(statement.split())


_HEARTBEAT = _narrow(sql.block("schema/catalog", "heartbeat"))
