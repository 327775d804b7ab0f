"""What `status` tells: each owner and what needs somebody, as of one look."""

from dataclasses import dataclass

import asyncpg

from immich_dbsync.errors import SettingsError
from immich_dbsync.immich.library import Library
from immich_dbsync.service.accounts import accounts
from immich_dbsync.service.gate import unreachable
from immich_dbsync.service.listener import connect, lock_key
from immich_dbsync.service.logs import printable
from immich_dbsync.settings import Settings, program
from immich_dbsync.store.owners import PAUSED
from immich_dbsync.store.state import OwnerState, damaged_files, held_locks, owner_states, refused_files

_REFUSED_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One owner, and whether a service syncs them; ``refused``: some of the files that are, and why."""

    state: OwnerState
    email: str
    active: bool
    running: bool
    refused: list[tuple[str, str]]

    @property
    def paused(self) -> bool:
        """Whether a person paused this user: no problem, but not to be forgotten."""
        return PAUSED in self.state.problems

    def problems(self) -> list[str]:
        """What needs somebody, in sentences; empty when nothing does."""
        state = self.state
        said = [problem["text"] for kind, problem in sorted(state.problems.items()) if kind != PAUSED]
        if not self.active:
            said.append("the user is deleted in Immich: nothing of theirs is touched")
        if not self.running and not self.paused:
            said.append("no service syncs this owner now: start it with `immich-dbsync run`")
        said += [f"{count} left alone: {why}" for why, count in state.undecided.items()]
        said += [f"{path}: {why}" for path, why in self.refused]
        if (more := state.refused + state.damaged - len(self.refused)) > 0:
            said.append(f"and {more} more files refused or damaged")
        if state.holds:
            said.append(f"{state.holds} {'hold waits' if state.holds == 1 else 'holds wait'} for you: holds list")
        return said


async def look(settings: Settings) -> tuple[list[Line], list[str]]:
    """Every owner, and what is wrong with more than one of them: keys, the server."""
    connection = await connect(settings.require_database_url(), "immich-dbsync status")
    try:
        lines = await _lines(connection)
        keys = settings.api_keys_or_none()
        _, problems = await accounts(Library(connection), keys)
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


async def _lines(connection: "asyncpg.Connection[asyncpg.Record]") -> list[Line]:
    states = [state for state in await owner_states(connection) if state.enabled]
    owners = await Library(connection).owners([state.owner for state in states])
    keys = {state.owner: lock_key(state.owner) for state in states}
    held = await held_locks(connection, list(keys.values()))
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
            )
        )
    return lines
