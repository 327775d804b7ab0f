"""A user comes: their folder, their API key, and the service, which begins at once where it runs."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import asyncpg

from immich_dbsync.disk.making import Folder, make_folder
from immich_dbsync.errors import (
    DatabaseRightMissing,
    KeyRefused,
    NoSuchUser,
    ServerUnreachable,
    SettingsError,
)
from immich_dbsync.immich import api
from immich_dbsync.immich.keys import PERMISSIONS, Keys
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.immich.probe import Probe
from immich_dbsync.service import keyring
from immich_dbsync.service.accounts import accounts
from immich_dbsync.service.follow import Follows, follows
from immich_dbsync.service.whom import find_owner
from immich_dbsync.settings import Settings, name_in_use
from immich_dbsync.store.owners import Owners

_NEEDED = frozenset({"asset.upload", "asset.delete"})  # without the third only edits are less well done


class Origin(StrEnum):
    """Where a user's key came from."""

    KEPT = "kept"  # there was a good one
    MADE = "made"  # in Immich's database
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A user who is to be synced now. ``known``: they had a key before. ``lacking``: permissions it does without.

    ``replaced``: keys of ours that were deleted in Immich, because another took their place. ``others``: keys of ours
    that Immich still has and we do not use.
    """

    owner: Owner
    folder: Folder
    key: Origin
    known: bool
    lacking: tuple[str, ...]
    resumed: bool
    follows: Follows
    replaced: int
    others: int


async def enrol(
    connection: "asyncpg.Connection[asyncpg.Record]",
    settings: Settings,
    user: str,
    *,
    given: str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    mode: int | None = None,
) -> Enrolled:
    """Have a user's folder, their API key and the service in order; what is so already stays.

    ``given`` is a key made in Immich, else one is made in the database. Raises NoSuchUser, SettingsError, RootUnusable,
    KeyRefused, ServerUnreachable, DatabaseRightMissing; before the key is good neither it nor a folder is left behind.
    """
    library = Library(connection)
    owner = find_owner(await library.all_owners(), user)
    if not owner.active:
        raise NoSuchUser(f"{owner.email} is deleted in Immich: restore them there first.")
    sync_root = settings.require_sync_root()
    keyring.file_of(settings)  # so that nothing is made where none is set
    found, _ = await accounts(library, settings.api_keys_or_none())
    before = next((account.key for account in found if account.owner.id == owner.id), None)
    async with Probe(str(settings.server_url)) as server:
        try:
            await server.ping()
            folder = await asyncio.to_thread(make_folder, sync_root, str(owner.id), uid=uid, gid=gid, mode=mode)
            try:
                origin, lacking, replaced = await _key(connection, settings, server, owner, before=before, given=given)
            except BaseException:
                if folder.made:
                    with suppress(OSError):  # it stays if somebody put something into it meanwhile
                        folder.path.rmdir()
                raise
        except api.Unavailable as error:
            raise ServerUnreachable(f"{error}. Start Immich, or mend the server URL; no key was made.") from error
    owners = Owners(connection)
    try:
        resumed = await owners.resume(owner.id)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        resumed = False  # nothing is installed yet, so nobody is paused
        await owners.announce()
    service = await follows(connection, owner, synced=True)
    # Only now: a service that runs has been told of the new key.
    deleted, others = await _tidied(Keys(connection), settings, owner, replaced)
    return Enrolled(owner, folder, origin, before is not None, lacking, resumed, service, deleted, others)


async def _key(
    connection: "asyncpg.Connection[asyncpg.Record]",
    settings: Settings,
    server: Probe,
    owner: Owner,
    *,
    before: str | None,
    given: str | None,
) -> tuple[Origin, tuple[str, ...], list[str]]:
    """Have a good key of this user in the file: where it is from, what it lacks, and whose place there it took."""
    lacking = await _lacking(server, before)
    if given is None and not _NEEDED & {*lacking}:
        return Origin.KEPT, lacking, []
    _require_replaceable(settings, owner, before)
    library, file = Library(connection), keyring.file_of(settings)
    written = keyring.written_for(file, owner.email)
    unknown = [key for key in written if await library.owner_of_key(key) is None]
    if given is not None:
        lacking = await _check_given(connection, server, owner, given)
        keyring.add_key(file, given, owner.email)
    else:
        lacking = await _make_key(connection, server, owner, file)
    replaced = [key for key in (before, *unknown) if key is not None and key != given]
    if replaced:
        keyring.take_out(file, replaced)
    return Origin.MADE if given is None else Origin.GIVEN, lacking, replaced


async def _tidied(keys: Keys, settings: Settings, owner: Owner, replaced: Sequence[str]) -> tuple[int, int]:
    """Delete in Immich what we made and have just replaced; how many those were, and how many others of ours it has.

    A key is deleted only if we had its secret, so that it was the one in our file, and it still has the name that we
    gave it. The others may be in use by another installation: whoever knows that has to delete them.
    """
    deleted = 0
    try:
        for key in replaced:
            deleted += await keys.delete_secret(owner.id, key)
    except asyncpg.InsufficientPrivilegeError:
        pass  # it is counted below
    try:
        return deleted, await keys.count_others(owner.id, settings.api_keys_or_none())
    except asyncpg.InsufficientPrivilegeError:
        return deleted, 0  # nobody can say


def _require_replaceable(settings: Settings, owner: Owner, before: str | None) -> None:
    if before is not None and before in settings.api_keys_in_variable():
        raise SettingsError(
            f"The API key of {owner.email} stands in {name_in_use('api_keys')}, which goes before the file: take it out"
            " there first."
        )


async def _make_key(
    connection: "asyncpg.Connection[asyncpg.Record]", server: Probe, owner: Owner, file: Path
) -> tuple[str, ...]:
    """Make a key in the database, try it, and store it; what it lacks. Where any of that fails no key is left."""
    keys, key = Keys(connection), secrets.token_urlsafe(32)
    try:
        made = await keys.create(owner.id, key)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseRightMissing(
            "This database role may not make API keys. Connect as the role that owns Immich's tables, or make a key in"
            " Immich and give it with --key-stdin."
        ) from error
    try:
        lacking = await server.lacking(key)
        keyring.add_key(file, key, owner.email)
    except api.KeyRejected as error:
        await keys.delete_one(made)
        raise KeyRefused(
            f"The server at {server.address} does not know the key that was just made in the database: the two do not"
            " belong together. Mend the server URL or the database URL; the key was deleted again."
        ) from error
    except BaseException:
        await keys.delete_one(made)
        raise
    return lacking


async def _check_given(
    connection: "asyncpg.Connection[asyncpg.Record]", server: Probe, owner: Owner, given: str
) -> tuple[str, ...]:
    whose = await Library(connection).owner_of_key(given)
    if whose is None:
        raise KeyRefused("Immich's database does not know this API key: was it copied whole?")
    if whose.id != owner.id:
        raise KeyRefused(f"This API key belongs to {whose.email}, not to {owner.email}.")
    try:
        lacking = await server.lacking(given)
    except api.KeyRejected as error:
        raise KeyRefused(
            f"The server at {server.address} does not know this API key, though the database does: the two do not"
            " belong together."
        ) from error
    if missing := [permission for permission in lacking if permission in _NEEDED]:
        raise KeyRefused(f"This API key lacks {' and '.join(missing)}: give it these in Immich, or make another.")
    return lacking


async def _lacking(server: Probe, key: str | None) -> tuple[str, ...]:
    """What the key lacks that a user has; all of it where there is none or the server does not know it."""
    try:
        return PERMISSIONS if key is None else await server.lacking(key)
    except api.KeyRejected:
        return PERMISSIONS
