"""At a million rows no statement of ours reads a large table, or a user's part of it, but those that say why.

PostgreSQL carries each of them out twice: with a plan made for its arguments, as for the first few times, and with one
made for any, as the connections for looks have it. What counts is how many rows of the large tables it touches.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from immich_dbsync import sql
from immich_dbsync.service.pools import LOOKING
from immich_dbsync.store import install

_OWNERS = 5
_FEW = 2_000
"""Rows that a statement may touch which asks for three of each thing, or for a page of 500."""

_WHOLE = {
    "store/owner_forget": "drops all that is known of a user",
    "store/trash_request_clean": "a scan's end compares all our requests with their assets",
    "store/all_entries": "the quarantine as a whole, at a start",
    "store/quarantine_list": "the quarantine as a whole, for a person who asks for it",
    "store/entry_locations": "the quarantine as a whole, against its folder",
    "store/catch_up_records": "a start compares every record with its asset; here all agree, so that no page is full",
    "store/catch_up_entries": "a start compares every quarantined file with its asset",
    "store/library_sizes": "the sizes of a whole library, once for each session",
    "store/status": "counts all that there is, for `status` alone",
    "store/totals": "counts all that there is, before it is dropped",
    "holds/synced_count": "a fraction of a user's files is asked for where more were deleted than few",
    "holds/lost_by_events_count": "what all waiting events tell of, where there is more than a page; 100,000 are kept",
    "holds/hold_lost_assets": "compares every record with its asset, where more was deleted than few",
}
"""Statements that read all of a user's rows, or all users', and why."""

_MADE_FOR_ARGUMENTS = {
    "holds/lost_count": "of some assets or of all; its general plan is dearer, and it is not asked for looks",
}
"""Statements that do so only where a plan is made for any arguments, and why that does not happen."""

_FILL = """
set session_replication_role = replica;
set synchronous_commit = off;
set maintenance_work_mem = '256MB';
create temp table n as
  select i, ('00000000-0000-4000-8000-' || lpad((i % {owners})::text, 12, '0'))::uuid as owner,
         ('00000000-0000-4000-9000-' || lpad(i::text, 12, '0'))::uuid as asset,
         decode(lpad(to_hex(i), 40, '0'), 'hex') as sha1, decode(lpad(to_hex(i), 16, '0'), 'hex') as xxh3,
         convert_to('Camera/' || i / 500 || '/IMG_' || i || '.jpg', 'UTF8') as path
  from generate_series(0, {rows} - 1) i;
insert into asset (id, checksum, "checksumAlgorithm", "fileCreatedAt", "fileModifiedAt", "localDateTime",
                   "originalFileName", "originalPath", "ownerId", type, "createdAt")
  select asset, sha1, 'sha1', now(), now(), now(), 'a.jpg', '/a.jpg', owner, 'IMAGE', now() - interval '1 year'
  from n order by i;
insert into asset_exif ("assetId", "fileSizeInByte") select asset, 1000 + i from n;
insert into asset_audit ("assetId", "ownerId") select gen_random_uuid(), owner from n where i % 10 = 0;
insert into immich_dbsync_v1.records
  (owner_id, path, size, mtime_ns, ctime_ns, inode, racy, xxh3, sha1, asset_id)
  select owner, path, 1000 + i, i, i, i, false, xxh3, sha1, asset from n;
insert into immich_dbsync_v1.events (owner_id, asset_id, kind) select owner, gen_random_uuid(), 'deleted' from n;
insert into immich_dbsync_v1.history (owner_id, action, path, asset_id, cause, at)
  select owner, 'upload', path, asset, 'new', now() - interval '1 year' + i * interval '1 s' from n order by i;
insert into immich_dbsync_v1.trash_requests select gen_random_uuid(), owner, now() from n where i % 10 = 0;
insert into immich_dbsync_v1.sends (owner_id, sha1, xxh3, size, path)
  select owner, sha256(sha1), xxh3, 10 + i, path from n where i % 1000 = 0;
insert into immich_dbsync_v1.owners (owner_id) select distinct owner from n;
"""

_QUARANTINE = """
insert into immich_dbsync_v1.quarantine (owner_id, path, location, size, mtime_ns, inode, xxh3, sha1, asset_id)
  select owner, path, '2026-01-01/' || path, 1000 + i, i, i, xxh3, sha1, gen_random_uuid() from n where i % 10 = 0;
"""


@dataclass(frozen=True)
class Facts:
    """What statements are asked about: three files of one user, and what belongs to them."""

    owner: UUID
    paths: list[bytes]
    assets: list[UUID]
    sha1: list[bytes]
    xxh3: list[bytes]
    sizes: list[int]
    numbers: list[int]  # mtimes, ctimes, inodes, and ids of whatever has numbers
    now: datetime


def _facts() -> Facts:
    numbers = [1_000 * _OWNERS, 10_000 * _OWNERS, 15_000 * _OWNERS]
    return Facts(
        owner=_id(8, 0),
        paths=[f"Camera/{i // 500}/IMG_{i}.jpg".encode() for i in numbers],
        assets=[_id(9, i) for i in numbers],
        sha1=[i.to_bytes(20) for i in numbers],
        xxh3=[i.to_bytes(8) for i in numbers],
        sizes=[1000 + i for i in numbers],
        numbers=numbers,
        now=datetime.now(UTC) - timedelta(minutes=1),
    )


def _id(kind: int, number: int) -> UUID:
    return UUID(f"00000000-0000-4000-{kind}000-{number:012}")


def _arguments(f: Facts) -> dict[str, tuple[Any, ...]]:
    """The arguments of every statement that is asked of the database while all is well."""
    upsert = (f.paths, f.sizes, f.numbers, f.numbers, f.numbers, [False] * 3, f.xxh3, f.sha1, f.assets)
    nothing: list[None] = [None] * 3
    numbers, causes = (f.numbers, f.numbers), ["trashed"] * 3
    return {
        "store/owner_register": (f.owner,),
        "store/owner": (f.owner,),
        "store/owner_stfolders": (f.owner, [b"Camera"]),
        "store/owner_root": (f.owner, f.assets[0]),
        "store/owner_problem": (f.owner, "key", "refused"),
        "store/owner_problems_end": (f.owner,),
        "store/owner_pause": (f.owner, "paused"),
        "store/owner_resume": (f.owner,),
        "store/owners_paused": (),
        "store/owner_forget": (f.owner,),
        "store/owner_undecided": (f.owner, "{}"),
        "store/owner_scanned": (f.owner, "{}", "rules"),
        "store/owner_summary": (f.owner, f.now, "{}"),
        "store/records_at": (f.owner, f.paths),
        "store/record_digest": (f.owner, b"Camera/100/", 500),
        "store/record_page": (f.owner, b"Camera/100/", 500),
        "store/content_page": (f.owner, b"Camera/100/", 500),
        "store/record_upsert": (f.owner, *upsert, nothing, nothing, nothing, f.numbers),
        "store/record_tie": (f.owner, *upsert[:6], f.xxh3[0], f.sha1[0], f.assets[0], "new"),
        "store/record_drop": (f.owner, f.paths, f.assets),
        "store/folders": (f.owner, [b"Camera", b"Camera/10", b"nothing"]),
        "store/entries": (f.owner, f.numbers),
        "store/all_entries": (f.owner,),
        "store/quarantine_list": (f.owner, b""),
        "store/entry_locations": (f.owner,),
        "store/entry_add": (f.owner, f.paths, f.paths, f.sizes, *numbers, f.xxh3, f.sha1, f.assets, True, causes),
        "store/entry_drop": (f.owner, f.numbers),
        "store/entry_supersede": (f.owner, f.assets, f.numbers),
        "store/entry_gone": (f.owner, f.numbers),
        "store/history_add": (f.owner, ["upload"] * 3, f.paths, f.assets, ["new"] * 3),
        "store/history_page": (f.owner, b"", None, 500),
        "store/event_drop": (f.numbers,),
        "store/send_add": (f.owner, f.sha1[0], f.xxh3[0], f.sizes[0], f.paths[0]),
        "store/send_end": (f.owner, f.sha1),
        "store/sends_unclaimed": (f.owner,),
        "store/trash_request_add": (f.owner, f.assets),
        "store/trash_request_end": (f.owner, f.assets),
        "store/trash_request_restored": (f.owner, f.numbers),
        "store/trash_request_clean": (f.owner, f.assets),
        "store/catch_up_records": (f.owner, b"", 500),
        "store/catch_up_entries": (f.owner, timedelta(days=30)),
        "store/sizes_seen": (f.owner, f.paths, f.sizes),
        "store/knows_sizes": (),
        "store/library_sizes": (f.owner, None),
        "store/contents_of_copies": (f.owner, f.sizes, f.xxh3),
        "store/refusals_forget": (f.owner, b"Camera"),
        "store/damage_set": (f.owner, f.paths[0], None),
        "store/damaged": (f.owner, 10),
        "store/status": (),
        "store/totals": (),
        "store/refused": (f.owner, 10),
        "store/locked": (f.numbers,),
        "store/listening": ("immich-dbsync listen",),
        "holds/synced_count": (f.owner, 1_000_000),
        "holds/emptied": (f.owner, [b"Camera/10", b"Camera/0", b"gone"], f.paths),
        "holds/hold_open": (f.owner, "folder", "many"),
        "holds/hold_recent": (f.owner, "folder", "many", f.now),
        "holds/hold_add": (f.owner, 1, f.paths),
        "holds/hold_lost_assets": (f.owner, None, 1),
        "holds/lost_count": (f.owner, f.assets),
        "holds/lost_by_events_count": (f.owner,),
        "holds/holds_close": (f.owner,),
        "holds/holds": (None,),
        "holds/concerns": (),
        "holds/hold_paths": (1, 10),
        "holds/hold_decide": (1, "approved"),
        "holds/decided_paths": (f.owner, f.paths[0], 500),
        "holds/held_of": (f.owner, f.paths),
        "holds/ask_add": (f.owner, "resync", "{}"),
        "holds/asks": (f.owner,),
        "holds/ask_done": (1, "{}"),
        "holds/ask_result": (1,),
        "holds/history_since": (f.owner, f.now),
        "holds/recent_deletions": (f.owner, "trash", f.now),
        "immich/assets": (f.owner, f.assets, f.sha1),
        "immich/favourites": (f.assets,),
        "immich/in_album": (f.assets,),
        "immich/album_column": (),
        "immich/owner_of_key": ("a", "b"),
        "immich/owners": ([f.owner],),
        "immich/all_owners": (),
        "immich/version": (),
        "immich/trash_enabled": (),
        "view/view": (f.owner, f.paths, f.assets, f.sha1, f.numbers, f.numbers, None, 0),
    }


_LOOKS = (
    "view/view",
    "store/folders",
    "immich/favourites",
    "immich/in_album",
)
"""What is asked by the connections for looks, which keep a plan for as long as PostgreSQL lets them."""

_OTHER_IMMICH = {"immich/in_album_plural"}  # for tables that 3.1.0 has otherwise


def _statements() -> list[str]:
    return [f"{file}/{name}" for file in ("store", "holds", "immich", "view") for name in sql.blocks(file)]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    await asyncio.to_thread(install.install, database_url)
    made = await asyncpg.connect(database_url, server_settings={"jit": "off"})
    try:
        yield made
    finally:
        await made.close()


def test_every_statement_is_asked_about() -> None:
    assert {*_arguments(_facts())} == {*_statements()} - _OTHER_IMMICH


@pytest.mark.newest
@pytest.mark.parametrize("rows", [30_000, pytest.param(1_000_000, marks=pytest.mark.long)])
async def test_a_statement_touches_few_rows(connection: "asyncpg.Connection[asyncpg.Record]", rows: int) -> None:
    await connection.execute(_FILL.format(owners=_OWNERS, rows=rows))
    await connection.execute(_QUARANTINE)
    await connection.execute("analyze")
    await connection.execute("set session_replication_role = origin")
    many: dict[str, dict[str, int]] = {}
    for mode in ("force_custom_plan", "force_generic_plan"):
        await connection.execute(f"set plan_cache_mode = {mode}")
        touched = {name: await _touched(connection, name, asked) for name, asked in _arguments(_facts()).items()}
        many[mode] = {name: count for name, count in touched.items() if count > _FEW}
    assert {*many["force_custom_plan"]} == {*_WHOLE}, many
    assert {*many["force_generic_plan"]} == {*_WHOLE, *_MADE_FOR_ARGUMENTS}, many


@pytest.mark.newest
@pytest.mark.parametrize("then", ["new", "vacuumed", "the quarantine alone"])
async def test_a_look_touches_few_rows_by_a_plan_that_was_made_while_the_tables_were_empty(
    connection: "asyncpg.Connection[asyncpg.Record]", then: str
) -> None:
    """As at a first start, when nothing is analysed yet, or all was vacuumed when there was nothing."""
    fill = _FILL.format(owners=_OWNERS, rows=10_000)
    if then == "the quarantine alone":
        await connection.execute(fill)
    if then != "new":
        await connection.execute("vacuum analyze")
    for name, value in LOOKING.items():
        await connection.execute(f"set {name} = {value}")
    facts, values = _arguments(_facts()), {}
    for name in _LOOKS:
        values[name] = await _prepare(connection, name, facts[name])
        await connection.execute(f"execute {_prepared(name)} {values[name]}")
    await connection.execute(_QUARANTINE if then == "the quarantine alone" else fill + _QUARANTINE)
    touched = {name: await _carried_out(connection, name, values[name]) for name in _LOOKS}
    assert {name: count for name, count in touched.items() if count > _FEW} == {}
    assert touched["view/view"] >= len(_facts().paths)


async def _touched(connection: "asyncpg.Connection[asyncpg.Record]", statement: str, arguments: tuple[Any, ...]) -> int:
    """How many rows of tables the statement reads, those that it finds not to be asked for included."""
    values = await _prepare(connection, statement, arguments)
    try:
        return await _carried_out(connection, statement, values)
    finally:
        await connection.execute(f"deallocate {_prepared(statement)}")


def _prepared(statement: str) -> str:
    return statement.replace("/", "_")


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]", statement: str, arguments: tuple[Any, ...]) -> str:
    """Have PostgreSQL prepare it; returns the arguments as EXECUTE takes them."""
    text = sql.block(*statement.split("/"))
    types = [each.name for each in (await connection.prepare(text)).get_parameters()]
    literals = [
        await connection.fetchval(f"select quote_nullable($1::{kind}::text)", argument)
        for kind, argument in zip(types, arguments, strict=True)
    ]
    values = ", ".join(f"{literal}::{kind}" for literal, kind in zip(literals, types, strict=True))
    await connection.execute(f"prepare {_prepared(statement)} as {text}")
    return f"({values})" if values else ""


async def _carried_out(connection: "asyncpg.Connection[asyncpg.Record]", statement: str, values: str) -> int:
    transaction = connection.transaction()
    await transaction.start()
    try:
        plan = await connection.fetchval(
            f"explain (analyze, timing off, format json) execute {_prepared(statement)}{values}"
        )
    finally:
        await transaction.rollback()
    return sum(_rows(node) for node in _nodes(json.loads(plan)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _rows(node: dict[str, Any]) -> int:
    if "Relation Name" not in node or node["Node Type"] == "ModifyTable":
        return 0
    each = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter")
    return int(node["Actual Loops"] * sum(node.get(key, 0) for key in each))
