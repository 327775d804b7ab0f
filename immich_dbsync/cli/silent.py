"""A shell asks what could follow on a command line: nothing but the answer may be printed on somebody's prompt."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

VARIABLE = "_IMMICH_DBSYNC_COMPLETE"
"""A shell sets it to ``complete_bash`` or the like when it asks."""


@contextmanager
def silent() -> Iterator[None]:
    """Where a shell asks what could follow, print that and nothing else, and end; else as if this were not there."""
    if not os.environ.get(VARIABLE, "").startswith("complete"):
        yield
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        with suppress(BaseException):  # a mistyped command, Ctrl-C: a prompt is no place to say what is wrong
            yield
        with suppress(OSError):
            sys.stdout.flush()
    finally:
        os._exit(0)  # whatever may still be waited for, such as a name server
