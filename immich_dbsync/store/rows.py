"""What rows of our tables say, by the order of their columns; inode numbers have no sign, PostgreSQL's integers do."""

from collections.abc import Iterable
from typing import Any

from immich_dbsync.model import Content, Decision, Entry, Hold, Record, Stat

_SIGN = 1 << 63


def signed(inode: int) -> int:
    """An unsigned 64-bit inode number as PostgreSQL's bigint."""
    return inode - (1 << 64) if inode >= _SIGN else inode


def unsigned(inode: int) -> int:
    """The same the other way."""
    return inode + (1 << 64) if inode < 0 else inode


def record_of(row: Iterable[Any]) -> Record:
    """A record from its columns in the order of the table, without its owner; then its hold's decision."""
    path, size, mtime, ctime, inode, racy, xxh3, sha1, asset_id, problem, hold, damaged, decision = row
    return Record(
        path,
        Stat(size, mtime, ctime, unsigned(inode)),
        Content(sha1, xxh3),
        asset_id,
        racy,
        problem,
        # A hold whose row is gone, as after a restored backup, is none.
        Hold(hold, Decision(decision)) if decision is not None else None,
        damaged,
    )


def entry_of(row: Iterable[Any]) -> Entry:
    """A quarantined file from its columns in the order of the table, without its owner; the last in nanoseconds."""
    number, path, location, size, mtime, inode, xxh3, sha1, asset_id, superseded, gone, at_ns = row
    stat = Stat(size, mtime, 0, unsigned(inode))
    return Entry(number, path, location, stat, Content(sha1, xxh3), asset_id, superseded, at_ns, gone)
