"""All checks in their order: what others depend on comes first, and what can't be looked at yet is left out."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from immich_dbsync.doctor import configuration, database, folders, policies, server, syncs, syncthing, watches
from immich_dbsync.doctor.filesystems import Mount, mounts
from immich_dbsync.doctor.finding import Finding, Level, wrong
from immich_dbsync.errors import DbsyncError, SettingsError, TriggersDiffer
from immich_dbsync.immich.library import Library
from immich_dbsync.immich.probe import Probe
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import Account, accounts
from immich_dbsync.service.listener import connect, lock_key
from immich_dbsync.settings import Settings
from immich_dbsync.store.records import Store
from immich_dbsync.store.state import OwnerState, held_locks, owner_states


@dataclass(frozen=True, slots=True)
class _Known:
    """What our tables say of a user; nothing where they were never synced, or nothing is installed."""

    state: OwnerState | None = None
    root_id: UUID | None = None
    stfolders: Collection[bytes] = ()
    running: bool = False


async def examine(load: Callable[[], Settings]) -> AsyncIterator[Finding]:
    """Every finding, as soon as it is known; ``load`` reads the settings. Changes nothing."""
    try:
        settings = load()
    except SettingsError as error:
        yield configuration.unreadable(error)
        return
    for finding in configuration.configuration(settings):
        yield finding
    try:
        url = settings.require_database_url()
    except SettingsError:
        url = None
    try:
        root = settings.require_sync_root()
    except SettingsError:
        root = None
    if root is not None:
        yield folders.sync_root(root)
    async with Probe(str(settings.server_url)) as probe:
        connection = None
        if url is not None:
            try:
                connection = await connect(url, "immich-dbsync doctor")
            except DbsyncError as error:
                yield database.no_database(error)
        if connection is None:
            for finding in await server.server(probe, None):
                yield finding
            return
        try:
            async for finding in _with_database(settings, connection, probe):
                yield finding
        finally:
            await connection.close()


async def _with_database(
    settings: Settings, connection: "asyncpg.Connection[asyncpg.Record]", probe: Probe
) -> AsyncIterator[Finding]:
    for finding in await database.database(connection):
        yield finding
    found, version = await database.immich(connection)
    for finding in found:
        yield finding
    answers = await server.server(probe, version)
    for finding in answers:
        yield finding
    if any(finding.level is Level.WRONG for finding in found):
        return
    try:
        async for finding in _with_immich(settings, connection, probe, answers=answers[0].level is Level.OK):
            yield finding
    except asyncpg.InsufficientPrivilegeError as error:
        yield wrong(
            "rights",
            str(error),
            "these tables are read",
            "Set Immich's own role in database_url, or grant what this prints: immich-dbsync triggers sql --role NAME",
        )


async def _with_immich(
    settings: Settings, connection: "asyncpg.Connection[asyncpg.Record]", probe: Probe, *, answers: bool
) -> AsyncIterator[Finding]:
    about_triggers, installed = await database.triggers(connection)
    for finding in [*await database.rights(connection, installed=installed), *about_triggers]:
        yield finding
    yield await database.trash(connection)
    try:
        keys = settings.api_keys_or_none()
    except SettingsError as error:
        yield server.unreadable(error)
        return
    found, problems = await accounts(Library(connection), keys)
    emails = [owner.email for owner in await Library(connection).all_owners() if owner.active]
    for finding in server.unusable(problems, emails, settings.api_keys_file):
        yield finding
    if not found and emails and (settings.api_keys_file is not None or settings.api_keys_in_variable()):
        yield server.nobody(emails)
    if answers:
        for account in found:
            for finding in await server.key(probe, account):
                yield finding
    known = await _known(connection, [account.owner.id for account in found]) if installed else {}
    async for finding in _folders(settings, found, known):
        yield finding
    for account in found:
        their = known.get(account.owner.id, _Known())
        for finding in syncs.sync(account.owner.email, their.state, running=their.running):
            yield finding


async def _known(connection: "asyncpg.Connection[asyncpg.Record]", owners: Sequence[OwnerId]) -> dict[OwnerId, _Known]:
    try:
        states = {state.owner: state for state in await owner_states(connection)}
    except (TriggersDiffer, asyncpg.UndefinedColumnError):  # not whole; that was found above
        return {}
    held = await held_locks(connection, [lock_key(owner) for owner in owners])
    known = {}
    for owner in owners:
        row = await Store(connection).owner(owner)
        running = lock_key(owner) in held
        known[owner] = _Known(states.get(owner), row.root_id if row else None, row.stfolders if row else (), running)
    return known


async def _folders(
    settings: Settings, found: Sequence[Account], known: dict[OwnerId, _Known]
) -> AsyncIterator[Finding]:
    try:
        sync_root = settings.require_sync_root()
    except SettingsError:
        return
    mounted: list[Mount] = []
    try:
        mounted = mounts()
    except OSError as error:
        yield folders.unknown_mounts(error)
    roots = {account.owner.id: sync_root / str(account.owner.id) for account in found}
    for account in found:
        their = known.get(account.owner.id, _Known())
        for finding in folders.folder(
            roots[account.owner.id],
            account.owner.email,
            root_id=their.root_id,
            stfolders=their.stfolders,
            mounted=mounted,
        ):
            yield finding
    if not found:
        return
    for finding in policies.policies(settings.policies, roots.values()):
        yield finding
    yield watches.watches(watches.count(roots.values()), len(roots))
    below = [path for root in roots.values() for path in _inside(root)]
    for finding in syncthing.syncthing(syncthing.configurations([sync_root, *roots.values(), *below]), roots.values()):
        yield finding


def _inside(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it may not be listed, which is found elsewhere."""
    try:
        return [*folder.iterdir()]
    except OSError:
        return []
