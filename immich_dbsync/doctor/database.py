"""Is the database there, is it an Immich's, may we do what we need, and do our triggers see deletions?"""

import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import asyncpg

from immich_dbsync import sql
from immich_dbsync.credentials import url_of_role
from immich_dbsync.doctor.finding import Finding, note, ok, wrong
from immich_dbsync.doctor.mending import ours, run, shell
from immich_dbsync.errors import DbsyncError, LoginRefused, NotImmich, SettingsError
from immich_dbsync.immich.library import Library
from immich_dbsync.settings import name_in_use, program
from immich_dbsync.store import expected, install

_OLDEST, _NEWEST = (1, 136), (3, 2)  # versions whose tables are known
_OFFSET_S = 2.0  # between two clocks, beyond which the order of a deletion and a file's coming may be told wrongly
_SHOWN = 3  # differences named; `triggers verify` tells all
_GRANT = re.compile(r"grant ([\w, ]+?)\s*(?:\(([^)]*)\))?\s+on (?!schema)(.+?) to", re.DOTALL)


def no_database(error: DbsyncError) -> Finding:
    """It could not be connected to."""
    url = name_in_use("database_url")
    match error:
        case LoginRefused():  # it runs, and has just answered
            mend = f"Mend user, password or database name in {url}, or in Immich's DB_USERNAME and the like"
        case SettingsError():
            mend = f"Write {url} as in postgresql://USER:PASSWORD@HOST:5432/immich"
        case _:
            mend = f"Start PostgreSQL, or mend {url}; with Docker its port has to be published to this host"
    return wrong("database", str(error).rstrip("."), "without it nothing is known of Immich", mend)


async def database(
    connection: "asyncpg.Connection[asyncpg.Record]", *, wall: Callable[[], float] = time.time
) -> list[Finding]:
    """Who answers there, and whether its clock agrees with ours; ``wall`` is ours, in seconds since 1970."""
    before = wall()
    place = await connection.fetchrow(sql.block("doctor", "place"))
    after = wall()
    assert place is not None
    found = f"PostgreSQL {place['version']} answers, database {place['database']}, role {place['role']}"
    offset = place["now"].timestamp() - (before + after) / 2
    return [
        ok("database", found, "it says what is in Immich, and tells of every deletion"),
        clock(offset, (after - before) / 2),
    ]


def clock(offset_s: float, error_s: float) -> Finding:
    """Whether the database's clock is near enough to ours: ``offset_s`` ahead, known to within ``error_s``."""
    why = "whether a file came before or after its asset was trashed is told by both clocks"
    if abs(offset_s) <= _OFFSET_S + error_s:
        return ok("clock", "the database's agrees with this machine's", why)
    ahead = "ahead of" if offset_s > 0 else "behind"
    return wrong(
        "clock",
        f"the database's is {abs(offset_s):.1f} s {ahead} this machine's",
        why,
        run(
            *("timedatectl", "set-ntp", "true"),
            first="Have both clocks set by NTP; this service has to run on the machine that holds the folders.",
        ),
    )


async def immich(connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[list[Finding], str | None]:
    """Whether it is a supported Immich; and its version, where that can be told."""
    found = await connection.fetch(expected.IMMICH_COLUMNS_SQL)
    why = "only tables that are known are read"
    try:
        expected.require_immich((table, column) for table, column in found)
    except NotImmich as error:
        mend = f"Mend {name_in_use('database_url')}, start Immich once, or update it"
        return [wrong("Immich's tables", str(error).rstrip("."), why, mend)], None
    try:
        version = await Library(connection).version()
    except asyncpg.InsufficientPrivilegeError:
        return [ok("Immich's tables", "those of a supported Immich; this role may not see the version", why)], None
    return [supported(version)], version


def supported(version: str | None) -> Finding:
    """Whether this version of Immich is one whose tables are known."""
    what, why = "Immich's tables", "only tables that are known are read"
    numbers = tuple(int(number) for number in re.findall(r"\d+", version or "")[:2])
    if not numbers:
        return note(what, "no server has written its version yet", why, "Start Immich once")
    if not _OLDEST <= numbers <= _NEWEST:
        return note(
            what,
            f"of Immich {version}, which was not tried; all that is needed is there",
            why,
            "Look whether there is a newer immich-dbsync, and keep a backup",
        )
    return ok(what, f"of Immich {version}", why)


async def trash(connection: "asyncpg.Connection[asyncpg.Record]") -> Finding:
    """Whether Immich's trash is on."""
    why = "what is deleted from a folder goes there, from where it can be restored"
    enabled = await Library(connection).trash_enabled()
    if enabled:
        return ok("Immich's trash", "on", why)
    return wrong(
        "Immich's trash",
        "off, so that each deletion from a folder waits for a person",
        why,
        "In Immich: Administration, Settings, Trash settings: enable it",
    )


# --- rights and triggers ---


async def rights(connection: "asyncpg.Connection[asyncpg.Record]", url: str, *, installed: bool) -> list[Finding]:
    """Whether this role, which ``url`` names, may install and mend triggers, or else at least run the service."""
    situation = await connection.fetchrow(sql.block("schema/catalog", "situation"))
    assert situation is not None
    role, owner, name = (f'"{situation[column]}"' for column in ("role", "asset_owner", "database"))
    why = "triggers are installed, mended and read with this role"
    if situation["acts_for_owner"] and (installed or situation["may_create"]):
        return [ok("rights", f"role {role} may do all that is needed", why)]
    if situation["acts_for_owner"]:
        return [
            wrong(
                "rights",
                f"role {role} may not create a schema in database {name}",
                why,
                f"As a superuser: GRANT CREATE ON DATABASE {name} TO {role};",
            )
        ]
    if not installed:
        return [
            wrong(
                "rights",
                f"role {role} may not put triggers on Immich's tables, which belong to role {owner}",
                why,
                f"Set Immich's own role in {name_in_use('database_url')}, or as a superuser: GRANT {owner} TO {role};",
            )
        ]
    if lacking := await _lacking(connection):
        return [
            wrong(
                "rights",
                f"role {role} lacks {', '.join(lacking[:_SHOWN])}" + (" and more" if len(lacking) > _SHOWN else ""),
                why,
                granting(url, situation["role"], situation["asset_owner"]),
            )
        ]
    return [
        note(
            "rights",
            f"role {role} may run the service, but not mend triggers",
            "the restore of a backup may drop the triggers, and then nothing in Immich is seen until they are mended",
            f"Nothing, if that is as you want it; else as a superuser: GRANT {owner} TO {role};",
        )
    ]


def granting(url: str, role: str, owner: str) -> str:
    """How the owner of Immich's tables gives a role the least rights that the service needs."""
    granted = f"{program()} triggers sql --role {shlex.quote(role)}"
    return shell(f"{granted} | psql {shlex.quote(url_of_role(url, owner))}", first=f'As "{owner}" to PostgreSQL.')


async def refused(
    connection: "asyncpg.Connection[asyncpg.Record]", url: str, error: asyncpg.InsufficientPrivilegeError
) -> Finding:
    """A right that no check asked for, and that what followed would have needed."""
    situation = await connection.fetchrow(sql.block("schema/catalog", "situation"))
    assert situation is not None
    return wrong(
        "rights",
        f"PostgreSQL refuses to let these be looked at: {error}",
        "Immich's tables and ours are read",
        granting(url, situation["role"], situation["asset_owner"]),
    )


async def _lacking(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    needed = [*_needed(install.grants("role"))]
    rows = await connection.fetch(sql.block("doctor", "rights_missing"), *map(list, zip(*needed, strict=True)))
    return [f"{row['privilege']} on {row['relation']}{'.' + row['name'] if row['name'] else ''}" for row in rows]


def _needed(grants: str) -> Iterator[tuple[str, str | None, str]]:
    """Relation, column (None: all of it) and privilege of each right that the service needs, from the grants of it."""
    for privileges, columns, relations in _GRANT.findall(re.sub(r"--.*", "", grants)):
        for relation in relations.split(","):
            for privilege in privileges.split(","):
                for column in columns.split(",") if columns else (None,):
                    yield relation.strip(), column.strip().strip('"') if column else None, privilege.strip()


async def triggers(connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[list[Finding], bool]:
    """Whether our schema and triggers are as they should be; and whether our schema is there."""
    rows = [(str(kind), str(name), str(text)) for kind, name, text in await connection.fetch(expected.CATALOG_SQL)]
    there = ("schema", "immich_dbsync_v1") in {(kind, name) for kind, name, _ in rows}
    return [as_expected(expected.differences(rows)), *_others(rows)], there


def as_expected(differences: Sequence[str]) -> Finding:
    """What differs from what `triggers install` makes."""
    why = "they tell of what is deleted in Immich, and what is synced is kept beside them"
    if not differences:
        return ok("triggers", "schema and triggers are in order", why)
    more = f", and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    return wrong("triggers", "; ".join(differences[:_SHOWN]) + more, why, ours("triggers", "install"))


def _others(rows: Iterable[expected.Row]) -> Iterator[Finding]:
    """What an older sync tool left, or another version of ours."""
    left = sorted((name for kind, name, _ in rows if kind == "predecessor"), reverse=True)  # its trigger first
    why = "where an older sync service still runs, it deletes files and assets too, by rules of its own"
    if left:
        yield wrong(
            "older sync tool",
            f"{', '.join(left)} {'is' if len(left) == 1 else 'are'} still there",
            why,
            "Switch that service off (snap unset immich-distribution sync-enabled), then as the owner of Immich's"
            f" tables: {' '.join(map(_drop, left))}",
        )
    else:
        yield ok("older sync tool", "nothing of it is there", why)
    for name in (name for kind, name, _ in rows if kind == "version"):
        yield note(
            "triggers",
            f"schema {name} of another version of immich-dbsync is there too",
            "two versions at once would do everything twice",
            ours(
                "triggers",
                "remove",
                "--purge",
                first="Stop the other version. What drops both is this, and then all begins anew.",
            ),
        )


def _drop(thing: str) -> str:
    """The statement that drops "trigger x on y", "table x" or "function x"."""
    kind, _, name = thing.partition(" ")
    return f"DROP {kind.upper()} {name.replace(' on ', ' ON ')};"
