"""All checks in their order: what others depend on comes first, and what can't be looked at yet is left out."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from immich_dbsync.doctor import configuration, database, folders, keyfile, policies, server, syncs, syncthing, watches
from immich_dbsync.doctor.filesystems import Mount, mounts
from immich_dbsync.doctor.finding import Finding, Level
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


@dataclass(frozen=True, slots=True)
class _Examined:
    """The settings, the database's URL in them, and the API keys: None where they can't be read."""

    settings: Settings
    url: str
    keys: tuple[str, ...] | None


async def examine(load: Callable[[], Settings]) -> AsyncGenerator[Finding, None]:
    """Every finding, as soon as it is known; ``load`` reads the settings. Changes nothing.

    Wherever checks are left out, something was found wrong before: what was not looked at is never all right.
    """
    try:
        settings = load()
    except SettingsError as error:
        yield configuration.unreadable(error)
        return
    keys, about_keys = keyfile.keys(settings)
    for finding in [*configuration.configuration(settings), *about_keys]:
        yield finding
    try:
        url = settings.require_database_url()
    except SettingsError:  # the configuration's finding
        url = None
    try:
        root = settings.require_sync_root()
    except SettingsError:  # the configuration's finding
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
        if connection is None or url is None:
            for finding in await server.server(probe, None):
                yield finding
            return
        try:
            async for finding in _with_database(_Examined(settings, url, keys), connection, probe):
                yield finding
        finally:
            await connection.close()


async def _with_database(
    examined: _Examined, connection: "asyncpg.Connection[asyncpg.Record]", probe: Probe
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
    said = False
    try:
        async for finding in _with_immich(examined, connection, probe, answers=answers[0].level is Level.OK):
            said = said or (finding.what, finding.level) == ("rights", Level.WRONG)
            yield finding
    except asyncpg.InsufficientPrivilegeError as error:
        if not said:
            yield await database.refused(connection, examined.url, error)


async def _with_immich(
    examined: _Examined, connection: "asyncpg.Connection[asyncpg.Record]", probe: Probe, *, answers: bool
) -> AsyncIterator[Finding]:
    settings, keys = examined.settings, examined.keys
    about_triggers, installed = await database.triggers(connection)
    for finding in [*await database.rights(connection, examined.url, installed=installed), *about_triggers]:
        yield finding
    yield await database.trash(connection)
    found, problems = await accounts(Library(connection), keys or ())
    with_key = {account.owner.id for account in found}
    without = [o.email for o in await Library(connection).all_owners() if o.active and o.id not in with_key]
    for finding in server.unusable(problems, without, settings):
        yield finding
    if keys == () and settings.api_keys_file is not None:
        yield server.nobody(without)
    if answers:
        for account in found:
            for finding in await server.key(probe, account, settings):
                yield finding
    known = await _known(connection, [account.owner.id for account in found]) if installed else {}
    async for finding in _folders(settings, found, known):
        yield finding
    for account in found:
        their = known.get(account.owner.id, _Known())
        better_key = server.better_key(account, settings)
        for finding in syncs.sync(account.owner.email, their.state, running=their.running, better_key=better_key):
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
    files = syncthing.configurations([sync_root, *roots.values(), *below])
    for finding in [*syncthing.syncthing(files, roots.values())] or [syncthing.none_found()]:
        yield finding


def _inside(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it may not be listed, which is found elsewhere."""
    try:
        return [*folder.iterdir()]
    except OSError:
        return []
