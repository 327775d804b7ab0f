"""The wheel holds all that it needs, and works without the checkout."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from immich_dbsync import __version__
from immich_dbsync.store import install

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    target = folder / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _python(unpacked: Path, cwd: Path, program: str, *arguments: str) -> str:
    """What a program prints that finds immich_dbsync in the wheel only, and other packages where they are installed."""
    # -S leaves out the .pth file that makes the checkout importable
    paths = [str(unpacked), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {paths!r}\n{program}", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _files(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_everything_of_the_package_and_all_sql_is_in_the_wheel_and_nothing_else(unpacked: Path) -> None:
    package = unpacked / "immich_dbsync"
    assert _files(package, "*.py") == _files(CHECKOUT / "immich_dbsync", "*.py")
    assert _files(package / "_sql", "*.sql") == _files(CHECKOUT / "sql", "*.sql")
    assert (package / "py.typed").exists()
    assert {path.name for path in unpacked.iterdir()} == {
        "immich_dbsync",
        f"immich_dbsync-{__version__}.dist-info",
    }
    dist_info = unpacked / f"immich_dbsync-{__version__}.dist-info"
    assert "immich-dbsync = immich_dbsync.cli.main:main" in (dist_info / "entry_points.txt").read_text()
    assert (dist_info / "licenses" / "LICENSE").exists()


def test_every_module_and_every_sql_file_loads_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    program = """
import importlib, pkgutil, immich_dbsync
from pathlib import Path
from immich_dbsync import sql
for module in pkgutil.walk_packages(immich_dbsync.__path__, "immich_dbsync."):
    if not module.name.endswith("__main__"):
        print(importlib.import_module(module.name).__file__)
for name in sys.argv[1:]:
    sql.text(name)
"""
    names = [name.removesuffix(".sql") for name in sorted(_files(CHECKOUT / "sql", "*.sql"))]
    assert names
    modules = _python(unpacked, tmp_path, program, *names).splitlines()
    assert len(modules) > 50
    assert all(module.startswith(str(unpacked)) for module in modules)


def test_triggers_sql_prints_the_schema_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    program = "from immich_dbsync.cli.main import main; sys.argv[0] = 'immich-dbsync'; main()"
    assert _python(unpacked, tmp_path, program, "triggers", "sql") == install.script()
    assert _python(unpacked, tmp_path, program, "--version") == f"immich-dbsync {__version__}\n"
