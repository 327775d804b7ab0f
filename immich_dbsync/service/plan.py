"""What a resync would do, without doing it: reads folder and database, writes nothing."""

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from datetime import timedelta

import asyncpg

from immich_dbsync.core.actions import Action, Identify
from immich_dbsync.core.names import valid_path
from immich_dbsync.core.reconcile import reconcile
from immich_dbsync.disk.errors import ChangedWhileRead, NotTaken
from immich_dbsync.disk.hashing import hash_file
from immich_dbsync.disk.root import Root
from immich_dbsync.model import OwnerId, RelPath
from immich_dbsync.service.observe import Known, Observer
from immich_dbsync.service.requests import batches
from immich_dbsync.service.rules import rules_of
from immich_dbsync.service.scan import Tally, differences
from immich_dbsync.service.session import unfamiliar
from immich_dbsync.settings import Settings
from immich_dbsync.store.records import Store
from immich_dbsync.store.state import installed

BATCH = 500


async def plan(
    settings: Settings,
    pool: "asyncpg.Pool[asyncpg.Record]",
    owner: OwnerId,
    root: Root,
    tally: Tally,
    *,
    prefix: bytes = b"",
) -> AsyncIterator[Action]:
    """Every action that a comparison of all at and below ``prefix`` would lead to now.

    New files are hashed, nothing is written. Deletions that would become a hold for their number are shown one by one.

    Raises TriggersDiffer where our schema is not installed, RootLost when the root goes away.
    """
    store = Store(pool)
    with installed():
        row = await store.owner(owner)
    rules = replace(rules_of(settings), grace_s=0.0)  # nothing is waited for: what is gone now is gone
    known = Known(unfamiliar=unfamiliar(row, rules))
    observer = Observer(
        owner=owner,
        root=root,
        root_id=row.root_id if row else None,
        stfolders=row.stfolders if row else frozenset(),
        rules=rules,
        pool=pool,
        known=known,
    )
    planned: set[RelPath] = set()
    over = None if rules.retention_ns is None else timedelta(microseconds=rules.retention_ns // 1000)
    for entries in batches(await store.catch_up_entries(owner, over), BATCH) if not prefix else ():
        for action in reconcile((await observer.look(entries=entries)).view):
            yield action
    async for paths in _paths(store, owner, observer, tally, prefix):
        fresh = [path for path in paths if path not in planned]
        planned.update(fresh)
        for action in await _decide(observer, fresh):
            yield action


async def _decide(observer: Observer, paths: Collection[RelPath]) -> tuple[Action, ...]:
    """What the table says of these paths, once those that need it are hashed."""
    actions = reconcile((await observer.look(paths)).view)
    unknown = [action.path for action in actions if isinstance(action, Identify)]
    if not unknown:
        return actions
    for path in unknown:
        try:
            observer.known.identified[path] = await asyncio.to_thread(hash_file, observer.root, path)
        except (FileNotFoundError, ChangedWhileRead, NotTaken, OSError):
            continue  # it stays an Identify in the plan: to be looked at again
    actions = reconcile((await observer.look(paths)).view)
    observer.known.identified.clear()
    return actions


async def _paths(
    store: Store, owner: OwnerId, observer: Observer, tally: Tally, prefix: bytes
) -> AsyncIterator[list[RelPath]]:
    """Batches of paths that do not agree: with their assets, then with their records."""
    if prefix:
        yield [valid_path(prefix)]
    after = b""
    while paths := await store.catch_up_paths(owner, after, BATCH):
        yield [path for path in paths if not prefix or path.startswith(prefix + b"/")]
        after = paths[-1]
    batch: list[RelPath] = []
    async for path in differences(observer.root, observer.rules.names, store, owner, prefix=prefix, tally=tally):
        batch.append(path)
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
