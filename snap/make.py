"""Makes a snap from its snapcraft.yaml where there is no snapcraft: parts, hooks and metadata, packed into one file.

Of snapcraft it knows what the projects here use: parts that run a script of their own (``nil``) or are copied
(``dump``), one after the other, in this checkout. What is built comes from the machine that it runs on.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = CHECKOUT / "snap" / "snapcraft.yaml"
BASE_PYTHON = "python3.12"  # of core24
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_METADATA = (
    *("name", "version", "title", "summary", "description", "license", "grade", "confinement", "base"),
    *("assumes", "apps", "hooks", "layout"),
)
# As snapcraft has it, so that a snap's own programs are found.
_ENVIRONMENT = {
    "LD_LIBRARY_PATH": "${SNAP_LIBRARY_PATH}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}",
    "PATH": "$SNAP/usr/sbin:$SNAP/usr/bin:$SNAP/sbin:$SNAP/bin:$PATH",
}


def assemble(project: dict[str, Any], hooks: Path, tree: Path, python: str) -> None:
    """Fill ``tree`` with the parts, the hooks and ``meta/snap.yaml``."""
    parts: dict[str, dict[str, Any]] = project["parts"]
    for name in TopologicalSorter({name: part.get("after", ()) for name, part in parts.items()}).static_order():
        _build(parts[name], tree, python)
    meta = tree / "meta"
    if hooks.is_dir():
        shutil.copytree(hooks, meta / "hooks")
    meta.mkdir(exist_ok=True)
    (meta / "snap.yaml").write_text(yaml.safe_dump(metadata(project), sort_keys=False, allow_unicode=True))


def _build(part: dict[str, Any], tree: Path, python: str) -> None:
    if part["plugin"] == "dump":
        shutil.copytree(CHECKOUT / part["source"], tree, dirs_exist_ok=True)
        return
    assert part["plugin"] == "nil", part["plugin"]
    variables = [item for each in part.get("build-environment", ()) for item in each.items()]
    script = "".join(f'export {name}="{value}"\n' for name, value in variables) + part["override-build"]
    environment = os.environ | {"CRAFT_PART_INSTALL": str(tree), "CRAFT_STAGE": str(tree), "PYTHON": python}
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=CHECKOUT, env=environment, check=True)


def metadata(project: dict[str, Any]) -> dict[str, Any]:
    """What goes into ``meta/snap.yaml``, for this machine's architecture."""
    made = {key: project[key] for key in _METADATA if key in project}
    return made | {"architectures": [architecture()], "environment": _ENVIRONMENT}


def architecture() -> str:
    """This machine's, by its Debian name."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def pack(tree: Path, output: Path, compression: str) -> Path:
    """Pack the tree into ``output``: with ``snap pack``, which also checks it, else with mksquashfs."""
    made = yaml.safe_load((tree / "meta" / "snap.yaml").read_text())
    file = output / f"{made['name']}_{made['version']}_{made['architectures'][0]}.snap"
    output.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if shutil.which("snap") and shutil.which("mksquashfs"):
        command: list[str | Path] = [
            "snap",
            "pack",
            f"--filename={file.name}",
            f"--compression={compression}",
            tree,
            output,
        ]
    elif shutil.which("mksquashfs"):
        command = [
            "mksquashfs",
            tree,
            file,
            *["-noappend", "-comp", compression, "-all-root", "-no-xattrs", "-no-progress", "-quiet"],
        ]
    else:
        sys.exit("Neither `snap pack` nor mksquashfs is here. On Debian: apt-get install snapd squashfs-tools")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return file


def interpreter() -> str:
    """The base's Python where it is here, else this one: then the snap is for trying out on this machine."""
    found = shutil.which(BASE_PYTHON)
    if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
        return found
    sys.stderr.write(
        f"There is no {BASE_PYTHON} here: the snap is built for {sys.version.split()[0]}, to try it out.\n"
    )
    return sys.executable


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Makes a snap without snapcraft, and prints its path.")
    parser.add_argument("--project", type=Path, default=PROJECT, help="the snapcraft.yaml; hooks/ is beside it")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "dist", help="where the snap goes")
    parser.add_argument("--tree", type=Path, default=CHECKOUT / "build" / "snap", help="is emptied, and keeps the tree")
    parser.add_argument("--python", help=f"the interpreter that is to run it; {BASE_PYTHON} where it is here")
    options = parser.parse_args()
    project = yaml.safe_load(options.project.read_text(encoding="utf-8"))
    tree = options.tree.resolve()
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    assemble(project, options.project.parent / "hooks", tree, options.python or interpreter())
    file = pack(tree, options.output.resolve(), project.get("compression", "xz"))
    sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
