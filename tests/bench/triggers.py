"""What our triggers cost Immich: its own statements on two libraries alike, one with our triggers and one without."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from immich_dbsync.store import install
from tests.bench.figures import Figure, Measure, at_most
from tests.bench.files import Planned, in_folders
from tests.bench.ground import Ground, Immich, fill
from tests.bench.hearing import heard
from tests.bench.library import RESTORE, TRASH, ids

_UNRELATED = """update asset set "isFavorite" = not "isFavorite" where id = %s"""
_MIGRATION = "update asset set width = coalesce(width, 0) + 1"
_DELETE = "delete from asset where id = %s"
_DELETE_MANY = "delete from asset where id = any(%s)"

_FLOOR = "the same statement without our triggers"
_RATIO = (at_most(Measure.RATIO, 1.1),)
_MORE = (at_most(Measure.MORE, 15),)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two libraries, which every statement goes to."""

    ours: Immich
    bare: Immich

    def times(self, count: int, send: Callable[[Immich, int], float]) -> tuple[list[float], list[float]]:
        """The seconds of ``count`` statements on each: with our triggers, and without; in turn which is first."""
        times: dict[str, list[float]] = {self.ours.url: [], self.bare.url: []}
        for number in range(count):
            both = (self.ours, self.bare) if number % 2 else (self.bare, self.ours)
            for immich in both:
                times[immich.url].append(send(immich, number))
        return times[self.ours.url], times[self.bare.url]

    def at_once(self, count: int, send: Callable[[Immich, int], float]) -> tuple[list[float], list[float]]:
        """As ``times``, for statements that take seconds: at the same time, so that a slow hour is one for both."""
        with ThreadPoolExecutor(2) as threads:
            both = [[*threads.map(send, (self.ours, self.bare), (number, number))] for number in range(count)]
        return [with_us for with_us, _ in both], [bare for _, bare in both]


def triggers(ground: Ground) -> Iterator[Figure]:
    """The statements that Immich really sends. Commits do not wait for the disk, which would hide what we cost."""
    sizes = ground.sizes
    with ground.immich("bare") as bare:
        person = bare.person("ada")
        files = in_folders("Camera", sizes.trigger_assets)
        fill(bare, person, files, on_disk=False)
        bare.connection.close()
        with ground.immich("ours", template="bare") as ours:
            bare.connect()
            install.install(ours.url)
            ours.connection.execute("insert into immich_dbsync_v1.owners (owner_id) values (%s)", (person.id,))
            for immich in (ours, bare):
                immich.connection.execute("set synchronous_commit = off")
                immich.connection.execute("vacuum analyze asset, asset_exif")
            with heard(ours.url):
                yield from _statements(ground, Pair(ours, bare), files)


def _statements(ground: Ground, pair: Pair, files: Sequence[Planned]) -> Iterator[Figure]:
    sizes = ground.sizes

    def one(statement: str, chosen: Sequence[Planned], number: int, immich: Immich) -> float:
        [asset] = ids(chosen[number : number + 1])
        return timed(immich, statement, asset)

    pair.times(50, lambda immich, number: one(_UNRELATED, files, number, immich))  # plans and caches are there
    with_us, bare = pair.times(sizes.statements, lambda immich, number: one(_UNRELATED, files[50:], number, immich))
    yield Figure("Immich's unrelated one-row UPDATE", "ms", _ms(with_us), _ms(bare), _FLOOR, _RATIO)
    many = ids(files[: sizes.bulk])

    def trash(immich: Immich, _: int) -> float:
        took = timed(immich, TRASH, many)
        immich.connection.execute(RESTORE.encode(), (many,))
        _tidy(immich)
        return took

    with_us, bare = pair.at_once(sizes.trigger_times, trash)
    yield Figure(
        f"Immich's UPDATE that trashes {len(many):,}",
        "µs a row",
        _us(with_us, len(many)),
        _us(bare, len(many)),
        _FLOOR,
        _MORE,
    )

    def migrate(immich: Immich, _: int) -> float:
        took = timed(immich, _MIGRATION)
        immich.connection.execute("vacuum asset")
        return took

    with_us, bare = pair.at_once(sizes.trigger_times, migrate)
    count = len(files)
    yield Figure(
        f"a migration's UPDATE of {count:,} rows", "µs a row", _us(with_us, count), _us(bare, count), _FLOOR, _RATIO
    )
    doomed = files[-sizes.statements :]
    with_us, bare = pair.times(len(doomed), lambda immich, number: one(_DELETE, doomed, number, immich))
    yield Figure("Immich's DELETE of one row", "ms", _ms(with_us), _ms(bare), _FLOOR)
    for immich in (pair.ours, pair.bare):
        _tidy(immich)
    many = ids(files[: sizes.trigger_delete])

    def delete(immich: Immich, _: int) -> float:
        with immich.connection.transaction(force_rollback=True):  # so that it can be sent again
            return timed(immich, _DELETE_MANY, many)

    with_us, bare = pair.at_once(sizes.trigger_times, delete)
    rows = len(many)
    yield Figure(f"a DELETE of {rows:,} rows at once", "µs a row", _us(with_us, rows), _us(bare, rows), _FLOOR, _MORE)


def timed(immich: Immich, statement: str, *arguments: object) -> float:
    """Seconds of one statement, its commit included, as its sender sees them."""
    began = time.perf_counter()
    immich.connection.execute(statement.encode(), arguments)
    return time.perf_counter() - began


def _tidy(immich: Immich) -> None:
    """Leave no dead rows to the next statement, nor events, which a service would have worked off."""
    if immich.value("select to_regclass('immich_dbsync_v1.events') is not null"):
        immich.connection.execute("truncate immich_dbsync_v1.events")
    immich.connection.execute("vacuum asset")


def _ms(seconds: Sequence[float]) -> list[float]:
    return [each * 1e3 for each in seconds]


def _us(seconds: Sequence[float], rows: int) -> list[float]:
    return [each * 1e6 / rows for each in seconds]
