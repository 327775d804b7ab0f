"""What our schema and triggers must look like, and how a catalog differs from it. Pure: no connection here.

The expectation is ``sql/schema/v1_manifest.sql``: what a fresh install shows to ``CATALOG_SQL`` on every supported
PostgreSQL (14 to 18). The service runs the same query through asyncpg and asks the same functions.
"""

from collections.abc import Iterable
from enum import Enum

from immich_dbsync import sql
from immich_dbsync.errors import NotImmich

CATALOG_SQL: str = sql.block("schema/catalog", "catalog")
"""Takes no parameters and no lock; each row is kind, name and definition, all text."""

IMMICH_COLUMNS_SQL: str = sql.block("schema/catalog", "immich_columns")
"""Takes no parameters; each row is table and column."""

_REQUIRED_COLUMNS: dict[str, frozenset[str]] = {
    "asset": frozenset(
        {
            "id",
            "ownerId",
            "checksum",
            "status",
            "deletedAt",
            "createdAt",
            "libraryId",
            "livePhotoVideoId",
            "visibility",
            "isFavorite",
        }
    ),
    "user": frozenset({"id", "email", "name", "status", "deletedAt"}),
    "api_key": frozenset({"key", "userId"}),
    "version_history": frozenset({"version"}),
}
"""Immich's tables and columns without which nothing here works; all are there from 1.136 on."""

Row = tuple[str, str, str]

_WARNINGS = frozenset({"predecessor", "version"})


class Part(Enum):
    """What install can put right without touching data, by the block of ``sql/schema/v1.sql`` that does it."""

    TABLES = "tables"
    INDEXES = "indexes"
    FUNCTIONS = "functions"
    OWNER = "owner"
    TRIGGERS = "triggers"


def require_immich(columns: Iterable[tuple[str, str]]) -> None:
    """Raise NotImmich, with what is missing, unless these are the columns of a supported Immich.

    ``columns`` are what ``IMMICH_COLUMNS_SQL`` returned.
    """
    there: dict[str, set[str]] = {}
    for table, column in columns:
        there.setdefault(table, set()).add(column)
    if "assets" in there and "asset" not in there:
        raise NotImmich("This Immich is older than 1.136, which is not supported: update Immich first.")
    if not there:
        raise NotImmich("The database has none of Immich's tables: is this the right database, and has Immich started?")
    missing = [
        f'{table}."{column}"' if table in there else f'table "{table}"'
        for table, needed in _REQUIRED_COLUMNS.items()
        for column in (sorted(needed - there[table]) if table in there else [""])
    ]
    if missing:
        raise NotImmich(f"The database lacks what every supported Immich (1.136 to 3.2) has: {', '.join(missing)}.")


def manifest(rows: Iterable[Row]) -> str:
    """The text of a manifest for these rows; what a test compares with the one in the repository."""
    return "\n".join(f"-- {kind} | {name} | {definition}" for kind, name, definition in sorted(rows))


def _read(text: str) -> dict[tuple[str, str], str]:
    lines = (line.removeprefix("-- ").split(" | ", 2) for line in text.splitlines())
    return {(kind, name): definition for kind, name, definition in lines}


_EXPECTED = _read(sql.block("schema/v1_manifest", "manifest"))


def differences(rows: Iterable[Row]) -> tuple[str, ...]:
    """One sentence for each thing that is missing, changed or not ours, in a fixed order; empty when all is well.

    ``rows`` are what ``CATALOG_SQL`` returned. Where nothing of ours is there, that is the only sentence.
    """
    found = {(kind, name): definition for kind, name, definition in rows if kind not in _WARNINGS}
    if ("schema", "immich_dbsync_v1") not in found:
        return ("schema immich_dbsync_v1 is missing: the triggers are not installed",)
    said = []
    for key in sorted(_EXPECTED.keys() | found.keys()):
        expected, actual = _EXPECTED.get(key), found.get(key)
        if expected is None:
            said.append(f"{_named(key)} does not belong there ({actual})")
        elif actual is None:
            if key[0] != "owner":  # what is missing has no owner to complain of
                said.append(f"{_named(key)} is missing")
        elif actual != expected:
            said.append(f"{_named(key)} is changed: {actual}; expected: {expected}")
    return tuple(said)


def warnings(rows: Iterable[Row]) -> tuple[str, ...]:
    """One sentence for each thing beside our schema that an administrator should know of; no reason to stop."""
    said = []
    for kind, name, _ in sorted(rows):
        if kind == "predecessor":
            said.append(f"{name} of an older sync tool is still there; nothing here uses it")
        elif kind == "version":
            said.append(f"schema {name} of another version of immich-dbsync is there too")
    return tuple(said)


def repairs(rows: Iterable[Row]) -> tuple[Part, ...]:
    """What install has to run, in its order; nothing for tables that exist in a wrong shape, or for things not ours."""
    found = {(kind, name): definition for kind, name, definition in rows}
    if ("schema", "immich_dbsync_v1") not in found:
        return tuple(Part)
    wrong = {kind for (kind, name), expected in _EXPECTED.items() if found.get((kind, name)) != expected}
    needed = []
    if "index" in wrong and wrong.isdisjoint({"table", "column"}):
        needed.append(Part.INDEXES)
    if "function" in wrong:
        needed.append(Part.FUNCTIONS)
    if "owner" in wrong:
        needed.append(Part.OWNER)
    if "trigger" in wrong:
        needed.append(Part.TRIGGERS)
    return tuple(needed)


def changed_indexes(rows: Iterable[Row]) -> tuple[str, ...]:
    """The names of our indexes that are other than they must be, and have to go before they are made anew.

    Not those of primary keys, which belong to their tables.
    """
    keys = {name.rpartition(".")[2] for kind, name in _EXPECTED if kind == "constraint"}
    return tuple(
        name
        for kind, name, definition in rows
        if kind == "index" and name not in keys and _EXPECTED.get((kind, name), definition) != definition
    )


def _named(key: tuple[str, str]) -> str:
    kind, name = key
    return name if kind == "object" else f"the {kind} of {name}" if kind == "owner" else f"{kind} {name}"
