"""An owner who races the service: ``python -m tests.faults.attacker FOLDER VICTIMS UID SEED WHAT``, until it is killed.

Runs as that uid, which owns the folder and nothing else. ``VICTIMS`` are folders that it may name and not read, with a
colon between. ``WHAT`` it exchanges: ``files``, which are folders and files of its own, or ``state``, our folder in it.
"""

import ctypes
import os
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_EXCHANGE = 2  # linux/fs.h: RENAME_EXCHANGE
_renameat2 = ctypes.CDLL(None, use_errno=True).renameat2


def exchange(first: Path, second: Path) -> None:
    """Each gets the other's name, at once; a failure is part of the race."""
    _renameat2(-100, os.fsencode(first), -100, os.fsencode(second), _EXCHANGE)


def prepare(folder: Path, victims: list[Path]) -> dict[str, list[tuple[Path, Path]]]:
    """Make what is to be exchanged; pairs of places."""
    pairs: list[tuple[Path, Path]] = []
    states: list[tuple[Path, Path]] = []
    evil = folder / ".evil"
    evil.mkdir()
    state = folder / ".immich-dbsync"
    for number, victim in enumerate(victims):
        (evil / f"link{number}").symlink_to(victim)
        pairs += [(folder / "a", evil / f"link{number}"), (folder / "a" / "deep", evil / f"link{number}")]
        for path in victim.iterdir():
            link = evil / f"{number}-{path.name}"
            link.symlink_to(path)
            pairs.append((folder / "a" / "0.jpg", link))
        forged = evil / f"state{number}"
        forged.mkdir()
        (forged / "quarantine").symlink_to(victim)
        states += [(state, forged), (state, evil / f"link{number}")]
    (evil / "other").mkdir()
    for number in range(4):
        (evil / "other" / f"{number}.jpg").write_bytes(b"the attacker's other picture %d" % number)
    (evil / "copy").mkdir()
    os.mkfifo(evil / "fifo.jpg")
    pairs += [(folder / "a", evil / "other"), (folder / "a" / "1.jpg", evil / "fifo.jpg"), (folder / "a", folder / "b")]
    return {"files": pairs, "state": states}


def main(folder: Path, victims: list[Path], uid: int, seed: int, what: str) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    chosen = random.Random(seed)
    pairs = prepare(folder, victims)[what]
    pause: Callable[[], None] = os.sched_yield
    while True:
        first, second = chosen.choice(pairs)
        with suppress(OSError):
            exchange(first, second)
            for _ in range(chosen.choice((0, 1, 10, 100, 1000))):
                pause()
            exchange(first, second)
        for _ in range(chosen.choice((0, 10, 1000, 3000))):
            pause()


if __name__ == "__main__":
    _, where, names, number, start, kind = sys.argv
    main(Path(where), [Path(name) for name in names.split(":")], int(number), int(start), kind)
