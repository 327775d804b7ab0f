"""Pictures that arrive in the folder: how soon the upload begins, and how many a second get through."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.aside import aside
from tests.bench.figures import Figure, Measure, at_least, at_most, growth
from tests.bench.files import OLD, Planned, make_folders, resized, tiny, write
from tests.bench.ground import Ground, Immich, Person
from tests.bench.library import folder
from tests.bench.service import Service, service, until
from tests.bench.sizes import steps

AT_ONCE = 4
"""The service's default for uploads at the same time."""

_UPLOAD = "POST /api/assets"


# --- one by one ---


def latency(ground: Ground) -> Iterator[Figure]:
    """From the rename that brings a settled file in to the request that uploads it, beside 20,000 others."""
    ours = folder(ground)
    immich = ours.immich
    immich.serve()
    other = immich.person("floor")
    files = resized(tiny("arriving", ground.sizes.arrivals), seed=2)
    outside = _prepared(immich.folder / "outside", files)
    outside_floor = _prepared(immich.folder / "outside-floor", files)
    times: list[float] = []
    floor_times: list[float] = []
    with service(immich, ours.person) as running, _posting(other, immich):
        target = ours.person.root / "Camera" / "0000"
        for file in files:
            name = Path(file.path).name
            times.append(_one(immich, outside / file.path, target / f"NEW_{name}"))
            until(lambda: running.tied() == len(ours.person.files) + len(times), seconds=30)
            floor_times.append(_one(immich, outside_floor / file.path, other.root / name))
    yield Figure(
        "settled file renamed in → upload begins",
        "ms",
        times,
        floor_times,
        "inotify, one read, SHA-1, one request",
        (at_most(Measure.MEDIAN, 60),),
    )


def _one(immich: Immich, source: Path, target: Path) -> float:
    """Milliseconds from the rename until Immich sees the upload."""
    before = len(immich.requests())
    began = time.monotonic()
    source.rename(target)
    new = until(lambda: immich.requests()[before:], seconds=30, every=0.002)
    assert new[0][1] == _UPLOAD, new
    return (new[0][0] - began) * 1000


def _posting(person: Person, immich: Immich) -> AbstractContextManager[None]:
    return aside("floors.arrival", str(person.root), immich.server, person.key)


# --- in bulk ---


def bulk(ground: Ground) -> Iterator[Figure]:
    """5,000 small files renamed in one after the other, until each is tied to its asset."""
    rates: list[float] = []
    floor_rates: list[float] = []
    least_rates: list[float] = []
    reads: list[float] = []
    times: dict[int, float] = {}
    with ground.immich("arrivals") as immich:
        ours, other, third = immich.person("arrivals"), immich.person("floor"), immich.person("least")
        (ours.root / "Camera").mkdir()
        with service(immich, ours) as running:
            for number, count in enumerate(steps(ground.sizes.uploads)):
                files = resized(tiny(f"arriving-{count}", count, first=number * 1_000_000), seed=count)
                outside = _prepared(immich.folder / "outside", files)
                if count == ground.sizes.uploads:
                    some = files[::8]  # as many a second as of all
                    floor_rates.append(len(some) / _post(outside, immich, other, some))
                    least_rates.append(len(some) / _post(outside, immich, third, some, immich.url, str(third.id)))
                read = running.usage().bytes_read
                times[count] = _rename_in(running, outside, files)
                reads.append((running.usage().bytes_read - read) / sum(file.size for file in files))
                rates.append(count / times[count])
    yield Figure(
        f"{ground.sizes.uploads:,} small files renamed in → all uploaded",
        "files/s",
        rates[-1:],
        floor_rates,
        f"a loop that posts the same bodies, {AT_ONCE} at a time",
        (at_least(Measure.RATIO, 0.9),),
    )
    yield Figure(
        "that loop, with both digests, a note before and a record after each",
        "files/s",
        least_rates,
        floor_rates,
        f"a loop that posts the same bodies, {AT_ONCE} at a time",
    )
    yield Figure("bytes read for each byte uploaded", "times", reads[-1:], (), "", (at_most(Measure.MEDIAN, 1.1),))
    yield growth("uploads", times)


def _rename_in(running: Service, outside: Path, files: Sequence[Planned]) -> float:
    """Seconds from the first rename until all these files are tied."""
    before, target = running.tied(), running.person.root / "Camera"
    began = time.monotonic()
    for file in files:
        (outside / file.path).rename(target / Path(file.path).name)
    until(lambda: running.tied() == before + len(files), every=0.05, seconds=600)
    took = time.monotonic() - began
    running.until_quiet()
    return took


def _post(outside: Path, immich: Immich, person: Person, files: Sequence[Planned], *ours: str) -> float:
    program = [sys.executable, "-m", "tests.bench.floors.posting"]
    done = subprocess.run(
        [*program, str(outside), immich.server, person.key, str(AT_ONCE), *ours],
        input="\n".join(file.path for file in files),
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def _prepared(outside: Path, files: Sequence[Planned]) -> Path:
    """These files, outside of every root and in the page cache, with an mtime that is not fresh."""
    outside.mkdir(exist_ok=True)
    make_folders(outside, files)
    for file in files:
        write(outside, file, mtime=OLD)
        (outside / file.path).read_bytes()
    return outside
