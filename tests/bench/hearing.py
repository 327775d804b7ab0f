"""Somebody who listens to our channel, as the service does, and does nothing: ``python -m tests.bench.hearing URL``."""

import sys
from contextlib import AbstractContextManager

import psycopg

from immich_dbsync.store.channel import CHANNEL
from tests.bench.aside import aside


def hear(url: str) -> None:
    """Until killed."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"listen {CHANNEL}".encode())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for _ in connection.notifies():
            pass


def heard(url: str) -> AbstractContextManager[None]:
    """Until the block ends: a notification that nobody hears costs less."""
    return aside("hearing", url)


if __name__ == "__main__":
    hear(*sys.argv[1:])
