"""Somebody who listens to our channel, as the service does, and does nothing: ``python -m tests.bench.hearing URL``."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from immich_dbsync.service.listener import CHANNEL


def hear(url: str) -> None:
    """Until killed."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"listen {CHANNEL}".encode())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for _ in connection.notifies():
            pass


@contextmanager
def heard(url: str) -> Iterator[None]:
    """Until the block ends: a notification that nobody hears costs less."""
    program = [sys.executable, "-m", "tests.bench.hearing", url]
    with subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    hear(*sys.argv[1:])
