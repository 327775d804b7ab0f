"""Scans: the first of a folder, of one that Immich has already, of one that has not changed, of a very large one."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.figures import Figure, Measure, at_least, at_most, growth
from tests.bench.files import CORES, Planned, mixed
from tests.bench.floors import sha1
from tests.bench.ground import Ground, Immich, Person, fill
from tests.bench.library import library, million
from tests.bench.service import service, starting
from tests.bench.sizes import steps
from tests.bench.stats import median

_GIB = 1 << 30
_MB = 1e6


# --- the first ---


def first(ground: Ground) -> Iterator[Figure]:
    """Hash every file and find that Immich has it: nothing is sent, so that hashing alone is measured.

    Of small files the figures are those of adoption, which is the same.
    """
    files = mixed("Camera", ground.sizes.first_scan_bytes, seed=3)
    total = sum(file.size for file in files)
    times: list[float] = []
    floor_times: list[float] = []
    least_times: list[float] = []
    ground.require_memory(total)
    with ground.immich("first") as immich:
        person = immich.person("first")
        fill(immich, person, files)
        into_page_cache(person.root)
        for _ in range(ground.sizes.first_scan_times):
            floor_times.append(sha1.seconds(person.root, files))
            times.append(_scan_anew(immich, person))
            least_times.append(sha1.seconds(person.root, files, xxh3=True) + _copy_records(immich, person))
            _forget(immich, person)
    yield from _rates("of mixed sizes", files, times, floor_times, least_times)


def _rates(
    what: str, files: Sequence[Planned], times: Sequence[float], floors: Sequence[float], leasts: Sequence[float]
) -> Iterator[Figure]:
    """How much is scanned a second, by the seconds that the whole of it took."""
    total = sum(file.size for file in files) / _GIB
    rates, floor_rates, least_rates = ([total / each for each in seconds] for seconds in (times, floors, leasts))
    floor_is = "SHA-1 alone over the same files, on all cores"
    yield Figure(
        f"first scan {what}: {len(files):,}, {total:.1f} GiB",
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
    """A folder of small files that Immich has already, by another way."""
    times: dict[int, float] = {}
    for size in steps(ground.sizes.library):
        each = library(ground, size, synced=False)
        assert not each.synced, "a figure before this one had it synced"
        ground.require_memory(sum(file.size for file in each.person.files))
        into_page_cache(each.person.root)
        times[size] = _scan_anew(each.immich, each.person)
        each.synced = True
    large, whole = library(ground, ground.sizes.library), times[ground.sizes.library]
    files, root = large.person.files, large.person.root
    sha1_s, both_s = sha1.seconds(root, files), sha1.seconds(root, files, xxh3=True)
    records_s = _copy_records(large.immich, large.person)
    yield Figure(
        f"adoption of {ground.sizes.library:,} files that Immich has",
        "s",
        [whole],
        [both_s + records_s],
        "both digests on all cores, then one INSERT of all records",
    )
    yield growth("adoption", times)
    yield from _rates("of small files", files, [whole], [sha1_s], [both_s + records_s])


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


def into_page_cache(root: Path) -> None:
    """Read every file once."""
    read = ["xargs", "-0", "-n", "1000", "-P", str(CORES), "cat"]
    with subprocess.Popen(["find", root, "-type", "f", "-print0"], stdout=subprocess.PIPE) as finding:
        subprocess.run(read, stdin=finding.stdout, stdout=subprocess.DEVNULL, check=True)


# --- a very large one ---


def memory(ground: Ground) -> Iterator[Figure]:
    """What is resident at most through a full scan of 1,000,000 files, each with its record and its asset."""
    count, large = ground.sizes.records, million(ground)
    floor_s = find(large.person.root)
    with starting(large.immich, large.person) as running:
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
