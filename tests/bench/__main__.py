"""``python -m tests.bench``: measures, tells, and ends with 1 where any figure falls short of what is to be reached."""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from tests.bench import arrivals, deletions, moves, report, rest, scans, triggers
from tests.bench.figures import Figure, Verdict
from tests.bench.ground import POSTGRES, Ground, NotEnough, ground
from tests.bench.sizes import scaled

Family = Callable[[Ground], Iterator[Figure]]

FAMILIES: dict[str, Family] = {
    "adoption": scans.adoption,
    "rescan": scans.rescan,
    "moves": moves.moves,
    "bulk-deletion": deletions.bulk,
    "deletion-latency": deletions.latency,
    "arrival-latency": arrivals.latency,
    "bulk-arrival": arrivals.bulk,
    "first-scan": scans.first,
    "triggers": triggers.triggers,
    "idle": rest.idle,
    "memory": scans.memory,
}
"""In the order in which they run: what one leaves behind the next ones use."""


GROWING = ("adoption", "rescan", "moves", "bulk-deletion", "deletion-latency", "bulk-arrival")
"""Those that are measured at several sizes; together they are called growth."""

_WIDTH = 160  # of the table where it goes to no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; the exit code."""
    asked = _parse(arguments)
    only = {*asked.only} | ({*GROWING} if "growth" in asked.only else set())
    names = [name for name in FAMILIES if not only or name in only]
    sizes = scaled(asked.scale)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    told = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    figures: list[Figure] = []
    began = time.monotonic()
    try:
        with ground(sizes, names, parent=asked.folder, profiles=asked.profile) as standing:
            machine = report.machine(standing.folder, standing.server_version(), POSTGRES)
            try:
                families = [_measure(name, standing, figures, console) for name in names]
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is being cleaned up is cleaned up
    except KeyboardInterrupt:
        console.print("interrupted; everything is removed again")
        return 130
    except NotEnough as error:
        console.print(str(error))
        return 2
    report.show(figures, told)
    console.print(f"{time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.1f}")
    if asked.scale != 1:
        console.print(f"At {asked.scale:g} of the real sizes: these figures are no verdict.")
    if asked.json is not None:
        asked.json.write_text(report.as_json(figures, sizes=sizes, machine=machine, families=families))
    return int(any(figure.verdict is Verdict.SHORT for figure in figures))


def _measure(name: str, standing: Ground, figures: list[Figure], console: Console) -> dict[str, Any]:
    """Measure one family; what is told of it besides its figures."""
    load, began = os.getloadavg()[0], time.monotonic()
    console.print(f"measuring {name}, at a load of {load:.1f}")
    for figure in FAMILIES[name](standing):
        figures.append(figure)
        said = figure.summary
        floor = figure.floor_summary
        beside = f", floor {report.number(floor.median)}" if floor is not None else ""
        console.print(f"  {figure.name}: {report.number(said.median)} {figure.unit}{beside}  {figure.verdict.value}")
    took = time.monotonic() - began
    console.print(f"  in {took:.0f} s")
    return {"name": name, "seconds": took, "load_before": load, "load_after": os.getloadavg()[0]}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [*FAMILIES, "growth"]
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    parser.add_argument("--scale", type=float, default=1.0, metavar="F", help="all sizes times F; 1 is the real thing")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where files and database are kept meanwhile")
    parser.add_argument("--profile", type=_folder, metavar="DIR", help="profiles of the service go there; needs py-spy")
    asked = parser.parse_args(arguments)
    if asked.profile is not None and shutil.which("py-spy") is None:
        parser.error("--profile needs py-spy: install it, and have it on the PATH")
    return asked


def _folder(path: str) -> Path:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
