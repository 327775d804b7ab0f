"""The lines that install are run once, with packages from an index: all pages have the same."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from immich_dbsync import __version__
from tests.acceptance.commands import environment
from tests.docs.blocks import PAGES, ROOT, blocks

BLOCKS = [block for page in PAGES for block in blocks(page) if "--require-hashes" in block.text]


def test_they_are_the_same_on_each_page() -> None:
    assert len(BLOCKS) >= 2
    assert len({block.text for block in BLOCKS}) == 1


@pytest.mark.skipif(find_spec("ensurepip") is None, reason="Debian's python3-venv is not installed")
def test_they_install_the_program(tmp_path: Path) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    python = str(Path(sys.executable).parent)
    env = {name: value for name, value in environment({}).items() if name != "PYTHONPATH"}
    env |= {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # both take their time and change nothing here
    env["PATH"] = os.pathsep.join([python, env["PATH"]])
    text = BLOCKS[0].text.replace("/opt/", f"{tmp_path}/opt/").replace("/usr/local/", f"{tmp_path}/usr/local/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    program = tmp_path / "usr/local/bin/immich-dbsync"
    said = subprocess.run([program, "--version"], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"immich-dbsync {__version__}"
