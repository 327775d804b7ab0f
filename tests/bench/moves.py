"""A folder that is renamed: each of its files is another path, and none another picture."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure, Measure, at_most, growth
from tests.bench.ground import Ground
from tests.bench.library import Library, library
from tests.bench.scans import find
from tests.bench.service import Service, service, until
from tests.bench.sizes import steps
from tests.bench.stats import median

_MB = 1e6

# What lies below a folder begins with its path and a slash, and ends before the "0" that follows the slash in ASCII.
_BELOW = """owner_id = %(owner)s
  and substring(path, 1, 1000) >= %(folder)s || '/'::bytea and substring(path, 1, 1000) < %(folder)s || '0'::bytea"""
_ANY = f"select exists (select from immich_dbsync_v1.records where {_BELOW})"
_COUNT = f"select count(*) from immich_dbsync_v1.records where {_BELOW}"
_COPY = f"insert into floor_records select * from immich_dbsync_v1.records where {_BELOW}"
_MOVE = f"""update floor_records set path = %(target)s || substring(path from length(%(folder)s) + 1) where {_BELOW}"""


def moves(ground: Ground) -> Iterator[Figure]:
    """From the rename of a folder with 10,000 files until each record has its new path."""
    large, sizes = library(ground, ground.sizes.library), ground.sizes
    times: dict[int, list[float]] = {}
    floor_times: list[float] = []
    with service(large.immich, large.person) as running:
        requests, read = len(large.immich.requests()), running.usage().bytes_read
        for count in steps(sizes.bulk):
            name = f"library-{sizes.library}/move-{count}"
            if count == sizes.bulk:
                floor_times.append(_floor(large, name))
            for source, target in ((name, f"{name}-moved"), (f"{name}-moved", name)):
                times.setdefault(count, []).append(_move(running, source, target, count))
                running.until_quiet()
        requests = len(large.immich.requests()) - requests
        read = running.usage().bytes_read - read
    yield Figure(
        f"folder of {sizes.bulk:,} files renamed → all records follow",
        "s",
        times[sizes.bulk],
        floor_times,
        "find, then one UPDATE of all records",
    )
    yield Figure("requests for all these moves", "requests", [requests], (), "", (at_most(Measure.MEDIAN, 0),))
    yield Figure("MB read from files for them", "MB", [read / _MB], (), "", (at_most(Measure.MEDIAN, 1),))
    yield growth("moves", {count: median(samples) for count, samples in times.items()})


def _move(running: Service, source: str, target: str, count: int) -> float:
    immich, person = running.immich, running.person

    def asked(query: str, folder: str) -> int:
        arguments = {"owner": person.id, "folder": folder.encode()}
        row = immich.connection.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return int(row[0])

    began = time.monotonic()
    (person.root / source).rename(person.root / target)
    # To count takes longer than to find that there are still some.
    until(lambda: not asked(_ANY, source) and asked(_COUNT, target) == count, every=0.02)
    return time.monotonic() - began


def _floor(large: Library, folder: str) -> float:
    """List the folder, and rename its records in a table like ours that has no others; nothing of it stays."""
    connection = large.immich.connection
    took = find(Path(large.person.root / folder))
    with connection.transaction(force_rollback=True):
        connection.execute("create table floor_records (like immich_dbsync_v1.records including all)")
        arguments = {"owner": large.person.id, "folder": folder.encode(), "target": f"{folder}-moved".encode()}
        connection.execute(_COPY.encode(), arguments)
        connection.execute("analyze floor_records")
        began = time.monotonic()
        connection.execute(_MOVE.encode(), arguments)
        took += time.monotonic() - began
    return took
