"""Programs that run beside what is measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def aside(module: str, *arguments: str) -> Iterator[None]:
    """``python -m tests.bench.<module>``, from when it says that it is ready until the block ends."""
    program = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    with subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()
