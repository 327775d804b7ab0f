"""The benchmarks measure the service as it is installed, from end to end; here on very little."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[2]
_SMALL = ("--scale", "0.001")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that PostgreSQL's user may pass, which is another one where root runs the tests."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def _bench(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.bench", "--folder", str(folder), *_SMALL, *arguments]
    return subprocess.Popen(program, cwd=_CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_figure_is_measured_beside_its_floor(folder: Path) -> None:
    found = folder / "figures.json"
    with _bench(folder, "--only", "arrival-latency", "--json", str(found)) as process:
        out, err = process.communicate(timeout=100)
    assert found.exists(), err
    read = json.loads(found.read_text())
    [figure] = read["figures"]
    assert figure["name"] == "settled file renamed in → upload begins"
    assert figure["samples"]["n"] == figure["floor"]["n"] == read["sizes"]["arrivals"] == 16
    assert 0 < figure["samples"]["least"] <= figure["samples"]["median"] <= figure["samples"]["most"]
    assert figure["ratio"] == figure["samples"]["median"] / figure["floor"]["median"]
    assert figure["to_reach"] == ["p50 ≤ 60"]
    assert figure["name"] in out
    assert process.returncode == int(figure["verdict"] == "short")
    assert read["machine"]["postgresql_settings"]["fsync"] == "on"
    assert [family["name"] for family in read["families"]] == ["arrival-latency"]
    found.unlink()
    assert [*folder.iterdir()] == []


def test_interrupted_it_leaves_nothing_behind(folder: Path) -> None:
    with _bench(folder, "--only", "deletion-latency") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("measuring")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [*folder.iterdir()] == []
    running = subprocess.run(["pgrep", "--full", str(folder)], capture_output=True, text=True, check=False)
    assert running.stdout == ""
