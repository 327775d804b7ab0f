"""What a shell completes beside commands and options: users, and the numbers of holds and of files in quarantine.

They are asked of the database, quickly or not at all: whatever is wrong, nothing is offered and nothing is said. Keys
and passwords are never among them.
"""

import asyncio
import pwd
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from threading import Thread

import asyncpg

from immich_dbsync.cli.common import database, load_settings
from immich_dbsync.errors import TriggersDiffer
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.model import Decision
from immich_dbsync.service.accounts import accounts
from immich_dbsync.service.logs import printable
from immich_dbsync.store.holds import Holds
from immich_dbsync.store.owners import Owners
from immich_dbsync.store.state import owner_states, quarantined
from immich_dbsync.wording import counted

Choices = list[tuple[str, str]]
"""Words, and what each is, for shells that show it."""

_PATIENCE_S = 1.5
_MOST = 200


# --- users ---


def users(incomplete: str) -> Choices:
    """Everybody whom Immich has."""

    async def ask(connection: "asyncpg.Connection[asyncpg.Record]") -> Choices:
        return _named(await Library(connection).all_owners())

    return _asked(ask, incomplete)


def active_users(incomplete: str) -> Choices:
    """Everybody who is not deleted in Immich."""

    async def ask(connection: "asyncpg.Connection[asyncpg.Record]") -> Choices:
        return _named(owner for owner in await Library(connection).all_owners() if owner.active)

    return _asked(ask, incomplete)


def synced_users(incomplete: str) -> Choices:
    """Whoever is or was synced, or has a key."""

    async def ask(connection: "asyncpg.Connection[asyncpg.Record]") -> Choices:
        return _named(await _synced(connection))

    return _asked(ask, incomplete)


def users_to_pause(incomplete: str) -> Choices:
    """Whoever is synced and not paused."""

    async def ask(connection: "asyncpg.Connection[asyncpg.Record]") -> Choices:
        paused = await Owners(connection).paused()
        return _named(owner for owner in await _synced(connection) if owner.id not in paused)

    return _asked(ask, incomplete)


def paused_users(incomplete: str) -> Choices:
    """Whoever is paused."""

    async def ask(connection: "asyncpg.Connection[asyncpg.Record]") -> Choices:
        return _named((await Library(connection).owners(await Owners(connection).paused())).values())

    return _asked(ask, incomplete)


async def _synced(connection: "asyncpg.Connection[asyncpg.Record]") -> list[Owner]:
    library = Library(connection)
    found, _ = await accounts(library, load_settings().api_keys_or_none())
    ids = {account.owner.id for account in found}
    with suppress(TriggersDiffer):  # nothing is installed yet
        ids |= {state.owner for state in await owner_states(connection) if state.enabled}
    return [owner for owner in await library.all_owners() if owner.id in ids]


def _named(owners: Iterable[Owner]) -> Choices:
    return sorted((owner.email, owner.name) for owner in owners)


# --- numbers ---


def holds(incomplete: str) -> Choices:
    """Every hold that is not ended."""
    return _asked(lambda connection: _holds(connection, [*Decision]), incomplete)


def waiting_holds(incomplete: str) -> Choices:
    """Every hold that waits for a decision."""
    return _asked(lambda connection: _holds(connection, [Decision.WAITING]), incomplete)


async def _holds(connection: "asyncpg.Connection[asyncpg.Record]", wanted: Collection[Decision]) -> Choices:
    return [
        (str(hold.id), f"{counted(hold.files, 'file')}, {hold.reason}")
        for hold in await Holds(connection).all()
        if hold.decision in wanted
    ]


def kept(incomplete: str) -> Choices:
    """Every file in quarantine."""
    return _asked(lambda connection: _kept(connection, purgeable=False), incomplete)


def purgeable(incomplete: str) -> Choices:
    """Every file in quarantine that may be deleted, because Immich does not have its asset."""
    return _asked(lambda connection: _kept(connection, purgeable=True), incomplete)


async def _kept(connection: "asyncpg.Connection[asyncpg.Record]", *, purgeable: bool) -> Choices:
    return [
        (str(file.id), printable(file.path))
        for owner in await Library(connection).all_owners()
        for file in await quarantined(connection, owner.id)
        if file.status is None or not purgeable
    ]


# --- what this machine or this program knows ---


def system_users(incomplete: str) -> Choices:
    """Users of this system, by name."""
    return _beginning([(entry.pw_name, entry.pw_gecos) for entry in pwd.getpwall()], incomplete)


def versions(incomplete: str) -> Choices:
    """Versions of Immich that the demo has a stand-in for."""
    with suppress(ImportError):  # it needs the demo extra
        from immich_dbsync.demo.tables import VERSIONS  # noqa: PLC0415

        return _beginning([(version, "") for version in VERSIONS], incomplete)
    return []


# --- asking ---


def _asked(question: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[Choices]], incomplete: str) -> Choices:
    """The answer, as far as it begins like this; nothing where there is none in time."""
    found: Choices = []

    async def ask() -> None:
        async with database(load_settings(), "completion") as connection:
            found.extend(await question(connection))

    def run() -> None:
        with suppress(Exception):
            asyncio.run(ask())

    # A thread, because nothing else can be left behind while it waits for a name server.
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return _beginning(found, incomplete)


def _beginning(choices: Choices, incomplete: str) -> Choices:
    return [choice for choice in choices if choice[0].startswith(incomplete)][:_MOST]
