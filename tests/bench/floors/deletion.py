"""The least that a deletion takes: NOTIFY, one SELECT, one rename for each file.

``python -m tests.bench.floors.deletion URL ROOT TARGET``: a notification's payload names the asset that was trashed;
an empty one says that there are many, which one SELECT finds.
"""

import os
import sys

import psycopg

CHANNEL = "floor"

_ONE = """select "originalPath" from asset where id = %s and status = 'trashed'"""
_ALL = """select "originalPath" from asset where status = 'trashed'"""


def serve(url: str, root: str, target: str) -> None:
    """Rename into ``target`` until killed."""
    with psycopg.connect(url, autocommit=True) as listener, psycopg.connect(url, autocommit=True) as connection:
        listener.execute(f"listen {CHANNEL}".encode())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for notification in listener.notifies():
            if notification.payload:
                rows = connection.execute(_ONE, (notification.payload,))
            else:
                rows = connection.execute(_ALL)
            for (path,) in rows.fetchall():
                os.rename(f"{root}/{path}", f"{target}/{path.rpartition('/')[2]}")  # noqa: PTH104  # as bare as can be


if __name__ == "__main__":
    serve(*sys.argv[1:])
