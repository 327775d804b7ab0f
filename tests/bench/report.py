"""Tells the figures: a table for people, JSON for programs."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, Verdict
from tests.bench.sizes import Sizes

_CHECKOUT = Path(__file__).parents[2]
_COLOURS = {Verdict.REACHED: "green", Verdict.SHORT: "red", Verdict.TOLD: "dim"}


def number(value: float | None) -> str:
    """A number with three digits that say something."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def table(figures: Sequence[Figure]) -> Table:
    """One row for each figure."""
    told = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("figure", "unit", "n", "p50", "p99", "floor", "ratio", "to reach", ""):
        told.add_column(heading, justify="left" if heading in {"figure", "unit", "to reach", ""} else "right")
    for figure in figures:
        floor, said = figure.floor_summary, figure.summary
        told.add_row(
            figure.name,
            figure.unit,
            str(said.n),
            number(said.median),
            number(said.p99) if said.n > 1 else "",
            number(floor.median) if floor is not None else "",
            number(figure.ratio),
            ", ".join(map(str, figure.reaches)),
            f"[{_COLOURS[figure.verdict]}]{figure.verdict.value}",
        )
    return told


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print the table."""
    console.print(table(figures))


def machine(folder: Path, postgres: str, settings: dict[str, str]) -> dict[str, Any]:
    """What everything was measured on."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgresql": postgres,
        "postgresql_settings": settings,
        "file_system": _file_system(folder),
        "load": os.getloadavg()[0],
    }


def as_json(
    figures: Sequence[Figure], *, sizes: Sizes, machine: dict[str, Any], families: Sequence[dict[str, Any]]
) -> str:
    """Everything: the machine, the sizes, each family's time and load, each figure with its samples summarised."""
    return json.dumps(
        {
            "machine": machine,
            "sizes": asdict(sizes),
            "families": list(families),
            "figures": [_figure(figure) for figure in figures],
        },
        indent=2,
    )


def _figure(figure: Figure) -> dict[str, Any]:
    floor = figure.floor_summary
    return {
        "name": figure.name,
        "unit": figure.unit,
        "samples": asdict(figure.summary),
        "floor": asdict(floor) if floor is not None else None,
        "floor_is": figure.floor_is,
        "ratio": figure.ratio,
        "to_reach": [str(reach) for reach in figure.reaches],
        "verdict": figure.verdict.value,
        "counts": dict(figure.counts),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=_CHECKOUT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _file_system(folder: Path) -> str:
    """The type of the file system that holds the folder: the mount with the longest path above it."""
    mounts = (line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines())
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else ""
