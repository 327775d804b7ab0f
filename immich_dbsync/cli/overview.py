"""What `status` tells: each owner and what needs somebody, as of one look."""

import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import asyncpg

from immich_dbsync.errors import SettingsError
from immich_dbsync.immich.library import Library
from immich_dbsync.model import OwnerId
from immich_dbsync.service.accounts import accounts
from immich_dbsync.service.gate import unreachable
from immich_dbsync.service.listener import APPLICATION, connect, lock_key
from immich_dbsync.service.logs import printable
from immich_dbsync.settings import Settings, program
from immich_dbsync.store.owners import PAUSED
from immich_dbsync.store.state import OwnerState, damaged_files, held_locks, listening, owner_states, refused_files
from immich_dbsync.wording import counted

HOLDS = "immich-dbsync holds list"

_REFUSED_SHOWN = 20


# What to type, by the kind of problem that the service noted; {} is the user.
_HELPS = {
    "root": "immich-dbsync doctor",
    "watch": "immich-dbsync doctor",
    "key": "immich-dbsync users add {}",
    "copy": "immich-dbsync users add {}",
    "quota": "immich-dbsync resync --user {}",
    "owner": "immich-dbsync users remove {}",
}


@dataclass(frozen=True, slots=True)
class Need:
    """What needs somebody, as a sentence; and the command that helps, or that says more than the sentence does."""

    text: str
    command: str


@dataclass(frozen=True, slots=True)
class Line:
    """One owner, and whether a service syncs them; ``refused``: some of the files that are, and why.

    ``served``: whether a service runs at all. ``has_key``: whether an API key of theirs is set.
    """

    state: OwnerState
    email: str
    active: bool
    running: bool
    refused: list[tuple[str, str]]
    served: bool
    has_key: bool = True

    @property
    def paused(self) -> bool:
        """Whether a person paused this user: no problem, but not to be forgotten."""
        return PAUSED in self.state.problems

    def problems(self) -> list[str]:
        """What needs somebody, in sentences; empty when nothing does."""
        return [need.text for need in self.needs()]

    def needs(self) -> list[Need]:
        """What needs somebody, this user's own problems first."""
        return [*self.own(), *self._not_running(), *self._waits()]

    def own(self) -> list[Need]:
        """What keeps this user's sync waiting, be there a service or not."""
        user = shlex.quote(self.email)
        needs = [
            Need(problem["text"], _HELPS.get(kind, "immich-dbsync doctor").format(user))
            for kind, problem in sorted(self.state.problems.items())
            if kind != PAUSED
        ]
        if not self.active:
            needs.append(
                Need(
                    "the user is deleted in Immich: nothing of theirs is touched", f"immich-dbsync users remove {user}"
                )
            )
        return needs

    def _not_running(self) -> list[Need]:
        if self.running or self.paused:
            return []
        if not self.served:
            return [Need("no service syncs this owner now: start it with `immich-dbsync run`", "immich-dbsync run")]
        if self.own():
            return []  # which is why
        if not self.has_key:
            return [Need("no API key of theirs is set", f"immich-dbsync users add {shlex.quote(self.email)}")]
        return [
            Need(
                "the service has not begun to sync this owner: restart it if it was started with other API keys",
                "immich-dbsync doctor",
            )
        ]

    def _waits(self) -> Iterator[Need]:
        state, user = self.state, shlex.quote(self.email)
        for why, count in state.undecided.items():
            yield Need(f"{count} left alone: {why}", f"immich-dbsync resync --dry-run --user {user}")
        again = (
            f"immich-dbsync resync --user {user}" if state.refused else f"immich-dbsync resync --rehash --user {user}"
        )
        for path, why in self.refused:
            yield Need(f"{path}: {why}", again)
        if (more := state.refused + state.damaged - len(self.refused)) > 0:
            yield Need(f"and {more} more files refused or damaged", again)
        if state.holds:
            text = f"{counted(state.holds, 'hold waits', 'holds wait')} for you: {HOLDS}"
            yield Need(text, HOLDS)


async def look(settings: Settings) -> tuple[list[Line], list[str]]:
    """Every owner, and what is wrong with more than one of them: keys, the server."""
    connection = await connect(settings.require_database_url(), "immich-dbsync status")
    try:
        keys = settings.api_keys_or_none()
        found, problems = await accounts(Library(connection), keys)
        lines = await _lines(connection, {account.owner.id for account in found})
    finally:
        await connection.close()
    if reason := await unreachable(settings):
        problems.append(f"{reason}; uploads and deletions wait for it")
    if keys or not any(line.running for line in lines):  # one that runs has its keys from elsewhere
        try:
            settings.require_api_keys()
        except SettingsError as error:
            problems.append(f"`{program()} run` would not start: {str(error).rstrip('.')}")
    if keys and not lines:
        problems.append("no owner is synced yet: start the service with `immich-dbsync run`")
    return lines, problems


async def _lines(connection: "asyncpg.Connection[asyncpg.Record]", with_key: Collection[OwnerId]) -> list[Line]:
    states = [state for state in await owner_states(connection) if state.enabled]
    owners = await Library(connection).owners([state.owner for state in states])
    keys = {state.owner: lock_key(state.owner) for state in states}
    held = await held_locks(connection, list(keys.values()))
    served = bool(held) or await listening(connection, APPLICATION)
    lines = []
    for state in states:
        owner = owners.get(state.owner)
        files = await refused_files(connection, state.owner, _REFUSED_SHOWN) if state.refused else []
        files += await damaged_files(connection, state.owner, _REFUSED_SHOWN) if state.damaged else []
        lines.append(
            Line(
                state,
                owner.email if owner else "unknown to Immich",
                owner is not None and owner.active,
                keys[state.owner] in held,
                [(printable(path), why) for path, why in files],
                served,
                state.owner in with_key,
            )
        )
    return lines
