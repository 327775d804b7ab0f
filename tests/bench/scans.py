"""Scans: the first of a folder, of one that Immich has already, of one that has not changed, of a very large one."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tests.bench.figures import Figure, Measure, at_least, at_most, growth
from tests.bench.files import Planned, in_folders, mixed, resized
from tests.bench.floors import sha1
from tests.bench.ground import Ground, Immich, Person, fill
from tests.bench.library import library
from tests.bench.service import service, starting
from tests.bench.sizes import steps
from tests.bench.stats import median

_GIB = 1 << 30
_MB = 1e6


# --- the first ---


def first(ground: Ground) -> Iterator[Figure]:
    """Hash every file and find that Immich has it: nothing is sent, so that hashing alone is measured."""
    sizes = ground.sizes
    yield from _first(ground, "of mixed sizes", mixed("Camera", sizes.first_scan_bytes, seed=3), sizes.first_scan_times)
    yield from _first(ground, "of small files", resized(in_folders("Camera", sizes.small_files), seed=4), 1)


def _first(ground: Ground, what: str, files: Sequence[Planned], times: int) -> Iterator[Figure]:
    total = sum(file.size for file in files)
    rates: list[float] = []
    floor_rates: list[float] = []
    least_rates: list[float] = []
    ground.require_memory(total)
    with ground.immich("first") as immich:
        person = immich.person("first")
        fill(immich, person, files)
        sha1.seconds(person.root, files)  # now all of it is in the page cache
        for _ in range(times):
            floor_rates.append(total / sha1.seconds(person.root, files) / _GIB)
            rates.append(total / _scan_anew(immich, person) / _GIB)
            least_s = sha1.seconds(person.root, files, xxh3=True) + _copy_records(immich, person)
            least_rates.append(total / least_s / _GIB)
            _forget(immich, person)
    floor_is = "SHA-1 alone over the same files, on all cores"
    yield Figure(
        f"first scan {what}: {len(files):,}, {total / _GIB:.1f} GiB",
        "GiB/s",
        rates,
        floor_rates,
        floor_is,
        (at_least(Measure.RATIO, 0.9),),
    )
    yield Figure(f"{what}: both digests, then one INSERT of all records", "GiB/s", least_rates, floor_rates, floor_is)


def _scan_anew(immich: Immich, person: Person) -> float:
    """Seconds from the moment that the owner's sync begins until the first scan has been worked off."""
    with starting(immich, person) as running:
        began = running.until_logged("owner.started")
        ended = running.until_logged("scan.finished")
        assert running.tied() == len(person.files), f"{running.tied()} of {len(person.files)} adopted"
        return ended - began


def _forget(immich: Immich, person: Person) -> None:
    """Have the folder look as if it had never been synced."""
    immich.connection.execute(
        "truncate immich_dbsync_v1.records, immich_dbsync_v1.owners, immich_dbsync_v1.history, immich_dbsync_v1.sends"
    )
    shutil.rmtree(person.root / ".immich-dbsync")


# --- adoption ---

_FLOOR_RECORDS = "create table floor_records (like immich_dbsync_v1.records including all)"


def adoption(ground: Ground) -> Iterator[Figure]:
    """A folder whose files Immich has already, by another way."""
    times: dict[int, float] = {}
    floor_s = 0.0
    for size in steps(ground.sizes.library):
        large = library(ground, size, synced=False)
        assert not large.synced, "a figure before this one had it synced"
        files, person = large.person.files, large.person
        sha1.seconds(person.root, files)  # now all of it is in the page cache
        times[size] = _scan_anew(large.immich, person)
        large.synced = True
        if size == ground.sizes.library:
            floor_s = sha1.seconds(person.root, files) + _copy_records(large.immich, large.person)
    yield Figure(
        f"adoption of {ground.sizes.library:,} files that Immich has",
        "s",
        [times[ground.sizes.library]],
        [floor_s],
        "SHA-1 on all cores, then one INSERT of all records",
    )
    yield growth("adoption", times)


def _copy_records(immich: Immich, person: Person) -> float:
    connection = immich.connection
    connection.execute("drop table if exists floor_records")
    connection.execute(_FLOOR_RECORDS)
    began = time.monotonic()
    connection.execute(
        "insert into floor_records select * from immich_dbsync_v1.records where owner_id = %s", (person.id,)
    )
    took = time.monotonic() - began
    connection.execute("drop table floor_records")
    return took


# --- once more ---


def rescan(ground: Ground) -> Iterator[Figure]:
    """A full comparison of a folder in which nothing has changed."""
    medians: dict[int, float] = {}
    times: list[float] = []
    floor_times: list[float] = []
    read = 0.0
    for size in steps(ground.sizes.library):
        large = library(ground, size)
        times, floor_times = [], []
        with service(large.immich, large.person) as running:
            running.scan()  # now all that will be in a cache is there
            before = running.usage().bytes_read
            for _ in range(ground.sizes.scans):
                floor_times.append(find(large.person.root))
                times.append(running.scan())
                running.until_quiet()
            read = (running.usage().bytes_read - before) / ground.sizes.scans
        medians[size] = median(times)
    yield Figure(
        f"rescan of {ground.sizes.library:,} unchanged files",
        "s",
        times,
        floor_times,
        "find -printf '%s %T@ %i'",
        (at_most(Measure.RATIO, 3),),
    )
    yield Figure("MB read from files in a rescan", "MB", [read / _MB], (), "", (at_most(Measure.MEDIAN, 0.1),))
    yield growth("rescan", medians)


def find(root: Path) -> float:
    """Seconds that find takes to list the folder."""
    began = time.monotonic()
    subprocess.run(["find", root, "-printf", "%s %T@ %i\n"], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


# --- a very large one ---


def memory(ground: Ground) -> Iterator[Figure]:
    """What is resident at most through a full scan of 1,000,000 files, each with its record and its asset."""
    count = ground.sizes.records
    with ground.immich("million") as immich:
        person = immich.person("million")
        fill(immich, person, [replace(file, hole=True) for file in in_folders("Camera", count)], records=True)
        floor_s = find(person.root)
        with starting(immich, person) as running:
            began, ended = running.until_logged("owner.started"), running.until_logged("scan.finished")
            peak = running.peak_memory()
    yield Figure(
        f"memory at most, through a full scan of {count:,} files", "MB", [peak], (), "", (at_most(Measure.MEDIAN, 300),)
    )
    yield Figure(
        f"the scan after a start, of {count:,} unchanged files",
        "s",
        [ended - began],
        [floor_s],
        "find -printf '%s %T@ %i'",
    )
