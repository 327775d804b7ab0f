"""Takes each guard out in turn: ``python -m tests.mutation.run`` says which of them no test missed.

Each mutant lives in a forked process, where the changed source is what an import finds; no file is touched. The exit
code is 1 when any survives or its source does not match, else 0.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest

from tests.mutation.mutants import CORE, SERVICE, Mutant

_ROOT = Path(__file__).parents[2]
_NOTICED = 1  # pytest's exit code for failed tests


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.get_filename(fullname), "exec")


class _Finder(MetaPathFinder):
    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        file = str(_file(self._name))
        return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, file, self._source))


def _file(name: str) -> Path:
    return _ROOT.joinpath(*name.split(".")).with_suffix(".py")


def source_of(mutant: Mutant) -> str:
    """The source that a mutant changes."""
    return _file(f"immich_dbsync.{mutant.module}").read_text()


def survivors(mutants: Iterable[Mutant]) -> list[str]:
    """A sentence for each mutant that no test noticed, or that is none."""
    return [sentence for mutant in mutants if (sentence := _try(mutant))]


def _try(mutant: Mutant) -> str | None:
    name = f"immich_dbsync.{mutant.module}"
    source = source_of(mutant)
    if source.count(mutant.old) != 1:
        return f"{mutant.module}, {mutant.guard}: the source has {source.count(mutant.old)} of {mutant.old!r}"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            sys.meta_path.insert(0, _Finder(name, source.replace(mutant.old, mutant.new)))
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *mutant.tests]))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == _NOTICED:
        return None
    outcome = "no test noticed" if code == 0 else f"pytest ended with {code}"
    return f"{mutant.module}, {mutant.guard}: {outcome}"


def main(arguments: Sequence[str]) -> int:
    """``core`` tries the decision table's guards only, ``service`` the others; nothing tries all."""
    chosen = {"core": CORE, "service": SERVICE}.get(arguments[0] if arguments else "", (*CORE, *SERVICE))
    alive = survivors(chosen)
    for sentence in alive:
        print(sentence)  # noqa: T201  # it is a command
    print(f"{len(chosen)} guards taken out, {len(chosen) - len(alive)} missed by a test")  # noqa: T201
    return 1 if alive else 0


if __name__ == "__main__":
    os.chdir(_ROOT)
    sys.exit(main(sys.argv[1:]))
