"""How large everything is."""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of files, assets and samples. The defaults are what the figures speak of."""

    folder: int = 20_000  # files of the folder in which files are deleted one by one
    deletions: int = 300  # one by one
    arrivals: int = 100  # one by one
    library: int = 100_000  # files adopted, scanned again, moved and deleted in bulk
    bulk: int = 10_000  # assets trashed in one statement, restored, deleted row by row; files of a moved folder
    bulk_times: int = 2
    scans: int = 3  # of the unchanged library
    uploads: int = 5_000
    first_scan_bytes: int = 8 << 30
    first_scan_times: int = 1
    records: int = 1_000_000  # for memory
    idle_s: int = 60
    statements: int = 2_000  # one-row statements of Immich's, with our triggers and without
    trigger_assets: int = 100_000
    trigger_delete: int = 50_000  # in one statement
    trigger_times: int = 2


_LEAST = {
    "first_scan_bytes": 8 << 20,
    "bulk_times": 1,
    "first_scan_times": 1,
    "scans": 1,
    "trigger_times": 1,
}
_FEW = 16  # of anything else


def scaled(factor: float) -> Sizes:
    """All sizes times a factor, but no less than what makes sense; 1 is the real thing."""
    sizes = Sizes()
    if factor == 1:
        return sizes
    least = {field.name: _LEAST.get(field.name, _FEW) for field in fields(sizes)} | {"idle_s": 2, "library": 512}
    return replace(
        sizes,
        **{name: max(least[name], round(getattr(sizes, name) * factor)) for name in least},
    )


def steps(size: int) -> tuple[int, int, int]:
    """A sixteenth, a quarter and all of it: where growth is measured."""
    return max(size // 16, 1), max(size // 4, 1), size
