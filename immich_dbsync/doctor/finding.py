"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"  # it works; somebody may want to know
    WRONG = "wrong"  # somebody has to mend it


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``what`` was looked at, what was ``found`` there, ``why`` it matters, and how to ``mend`` it.

    Sentences without a full stop at their end; ``mend`` is empty where nothing has to be done.
    """

    level: Level
    what: str
    found: str
    why: str
    mend: str = ""


def ok(what: str, found: str, why: str) -> Finding:
    """All is well here."""
    return Finding(Level.OK, what, found, why)


def note(what: str, found: str, why: str, mend: str) -> Finding:
    """It works, with less than there could be."""
    return Finding(Level.NOTE, what, found, why, mend)


def wrong(what: str, found: str, why: str, mend: str) -> Finding:
    """It does not work, or is not safe, until somebody mends it."""
    return Finding(Level.WRONG, what, found, why, mend)
