"""A user goes, pauses or resumes; the service follows at once where it runs."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from immich_dbsync.errors import DatabaseBusy, DatabaseRightMissing, NoSuchUser, SettingsError, TriggersDiffer
from immich_dbsync.immich.keys import Keys
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.service import keyring
from immich_dbsync.service.accounts import Account, accounts
from immich_dbsync.service.follow import FOLLOW_S, LOOK_S, Follows, follows
from immich_dbsync.service.listener import lock_key
from immich_dbsync.service.whom import find_owner
from immich_dbsync.settings import Settings, name_in_use
from immich_dbsync.store.owners import Owners
from immich_dbsync.store.state import installed, installed_or, owner_states


@dataclass(frozen=True, slots=True)
class Leaving:
    """A user who is to be synced no more, and what there is of them. ``keys`` stand in the file, never shown."""

    owner: Owner
    folder: Path
    synced: int
    quarantined: int
    keys: tuple[str, ...]
    made: int  # of the keys in Immich, by us


async def leaving(
    connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings, user: str, *, delete_key: bool = False
) -> Leaving:
    """What `users remove` is about to do, with ``delete_key`` or without.

    Raises NoSuchUser, SettingsError for a key that no command can take out, and DatabaseRightMissing where keys are to
    be deleted and may not be: before anything is done, so that nothing is left half done.
    """
    library = Library(connection)
    try:
        states = {state.owner: state for state in await owner_states(connection)}
    except TriggersDiffer:  # nothing is installed, so nothing is known
        states = {}
    everybody = await library.all_owners()
    known = {owner.id for owner in everybody}
    gone = [Owner(owner, str(owner), "", active=False) for owner in states if owner not in known]
    owner = find_owner([*everybody, *gone], user)
    found: list[Account] = []
    for key in settings.api_keys_or_none():
        whose = await library.owner_of_key(key)
        if whose is not None and whose.id == owner.id:
            found.append(Account(whose, key))
    if any(account.key in settings.api_keys_in_variable() for account in found):
        raise SettingsError(
            f"The API key of {owner.email} stands in {name_in_use('api_keys')}: take it out there, restart the service,"
            f" and try again. To stop it for a while: immich-dbsync users pause {owner.email}"
        )
    if delete_key and not await Keys(connection).may_delete():
        raise DatabaseRightMissing(
            "This database role may not delete API keys in Immich, so nothing was changed. Connect as the role that"
            f" owns Immich's tables ({name_in_use('database_url')}); or leave out --delete-key, and delete the key in"
            " Immich (Account settings, API keys)."
        )
    state = states.get(owner.id)
    made = await _made(connection, owner)
    if not found and not made and (state is None or not state.enabled):
        raise NoSuchUser(f"{owner.email} is not synced.")
    return Leaving(
        owner,
        settings.require_sync_root() / str(owner.id),
        state.synced if state else 0,
        state.quarantined if state else 0,
        tuple(account.key for account in found),
        made,
    )


async def _made(connection: "asyncpg.Connection[asyncpg.Record]", owner: Owner) -> int:
    try:
        return await Keys(connection).count(owner.id)
    except asyncpg.InsufficientPrivilegeError:
        return 0  # then they can't be deleted either


async def part(
    connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings, user: Leaving, *, delete_key: bool
) -> int:
    """Sync this user no more and forget their records; how many of our keys were deleted. Files stay.

    Raises DatabaseBusy when a service goes on syncing them.
    """
    owner = user.owner
    if user.keys:
        keyring.take_out(keyring.file_of(settings), user.keys)
    owners = Owners(connection)
    await owners.announce()
    deadline = asyncio.get_running_loop().time() + FOLLOW_S
    while not await connection.fetchval("select pg_try_advisory_lock($1)", lock_key(owner.id)):
        if asyncio.get_running_loop().time() > deadline:
            raise DatabaseBusy(
                f"A service goes on syncing {owner.email}: does it have a key of theirs from elsewhere? Stop it and try"
                " again. The key was taken out of the file already."
            )
        await asyncio.sleep(LOOK_S)
    await installed_or(owners.forget(owner.id), None)
    return await Keys(connection).delete(owner.id) if delete_key else 0


# --- pausing ---


async def pause(
    connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings, user: str
) -> tuple[Owner, bool, Follows]:
    """Sync a user no more until ``resume``: who it is, whether that is news, and what the service makes of it.

    Raises NoSuchUser for one who is not synced.
    """
    owner, paused = await _synced(connection, settings, user)
    if not paused:
        await Owners(connection).pause(
            owner.id, f"paused by a person; go on with: immich-dbsync users resume {owner.email}"
        )
    return owner, not paused, await follows(connection, owner, synced=False)


async def resume(
    connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings, user: str
) -> tuple[Owner, bool, Follows]:
    """Sync a paused user again; as ``pause``."""
    owner, _ = await _synced(connection, settings, user)
    was_paused = await Owners(connection).resume(owner.id)
    return owner, was_paused, await follows(connection, owner, synced=True)


async def _synced(
    connection: "asyncpg.Connection[asyncpg.Record]", settings: Settings, user: str
) -> tuple[Owner, bool]:
    """The user, and whether they are paused."""
    library = Library(connection)
    owner = find_owner(await library.all_owners(), user)
    with installed():
        paused = owner.id in await Owners(connection).paused()
        states = {state.owner for state in await owner_states(connection) if state.enabled}
    found, _ = await accounts(library, settings.api_keys_or_none())
    if owner.id not in states | {account.owner.id for account in found}:
        raise NoSuchUser(f"{owner.email} is not synced. Begin with: immich-dbsync users add {owner.email}")
    return owner, paused
