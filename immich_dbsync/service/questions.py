"""What a command wants of an owner's sync: asked of the service that runs, or done here where none does."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from immich_dbsync.errors import DatabaseBusy, RootUnusable
from immich_dbsync.immich.api import Server
from immich_dbsync.service.accounts import Account
from immich_dbsync.service.asks import Answers
from immich_dbsync.service.listener import lock_key
from immich_dbsync.service.pools import connected
from immich_dbsync.service.session import Session
from immich_dbsync.service.ticking import ticking
from immich_dbsync.settings import Settings
from immich_dbsync.store.holds import BRING_BACK, PURGE, RESYNC, Holds
from immich_dbsync.store.state import held_locks

_TRIES = 3
_LOOK_S = 0.2  # between two looks whether the service has answered

Progress = Callable[[str], None]
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is wanted, as the service's table of asks has it."""

    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """What each owner's service answered; and why there is no answer for those whose folder can't be synced."""

    results: dict[Account, Result]
    unusable: dict[Account, RootUnusable]


def comparison(prefix: bytes, *, rehash: bool) -> Question:
    """Compare all at and below ``prefix`` now, and do what follows."""
    return Question(RESYNC, {"prefix": prefix.hex(), "rehash": rehash})


def bring_back(ids: Collection[int]) -> Question:
    """Move these files of the quarantine back to the folder."""
    return Question(BRING_BACK, {"ids": sorted(ids)})


def purge(ids: Collection[int]) -> Question:
    """Delete these files of the quarantine for good, where that is safe."""
    return Question(PURGE, {"ids": sorted(ids)})


async def answers(
    settings: Settings,
    pool: "asyncpg.Pool[asyncpg.Record]",
    questions: Mapping[Account, Question],
    progress: Progress,
) -> Answered:
    """What each owner's service answers, all asked at once; or what is done here for those who have none.

    One owner's folder that can't be synced keeps nobody else's from being seen to.
    Raises DatabaseBusy where a service begins or ends again and again just now.
    """
    results: dict[Account, Result] = {}
    unusable: dict[Account, RootUnusable] = {}
    for _ in range(_TRIES):
        left = [account for account in questions if account not in results and account not in unusable]
        found = await asyncio.gather(*(_asked(pool, account, questions[account], progress) for account in left))
        results |= {account: answer for account, answer in zip(left, found, strict=True) if answer is not None}
        for account in (account for account in left if account not in results):
            try:
                answer = await _alone(settings, account, questions[account], progress)
            except RootUnusable as error:
                unusable[account] = error
                continue
            if answer is not None:
                results[account] = answer  # else a service began meanwhile: it is asked
        if len(results) + len(unusable) == len(questions):
            return Answered(results, unusable)
    raise DatabaseBusy("A service began or ended just now. Try again.")


async def _asked(
    pool: "asyncpg.Pool[asyncpg.Record]", account: Account, question: Question, progress: Progress
) -> Result | None:
    """What the service of this owner did; None where none runs."""

    async def served() -> bool:
        lock = lock_key(account.owner.id)
        return lock in await held_locks(pool, [lock])

    if not await served():
        return None
    return await _wait(Holds(pool), account, question, still_served=served, progress=progress)


async def _wait(
    holds: Holds,
    account: Account,
    question: Question,
    *,
    still_served: Callable[[], Awaitable[bool]],
    progress: Progress,
) -> Result | None:
    """Ask the service of this owner and wait for its answer; None when it ended meanwhile."""
    since = await holds.now()
    number = await holds.ask(account.owner.id, question.kind, question.arguments)
    while (result := await holds.result(number)) is None:
        done = await holds.done_since(account.owner.id, since)
        progress(", ".join(f"{count} {action}" for action, count in sorted(done.items())) or "comparing")
        await asyncio.sleep(_LOOK_S)
        if not await still_served():
            return await holds.result(number)
    return result


async def _alone(settings: Settings, account: Account, question: Question, progress: Progress) -> Result | None:
    """Be the service of this owner for one answer; None where they have one. Raises RootUnusable."""
    results: list[Result] = []
    unusable: list[RootUnusable] = []
    looking = f"looking at the folder of {account.owner.email}"
    progress(looking)

    async def answer(answers: Answers) -> None:
        async with ticking(lambda: progress(f"{looking}: {answers.progress()}".removesuffix(": "))):
            results.append(await answers.answer(question.kind, question.arguments))

    try:
        async with (
            Server(str(settings.server_url), connections=settings.uploads + 4) as server,
            connected(settings) as (pools, listener),
        ):
            await Session(settings, pools, listener, server).once(account, answer)
    except* RootUnusable as errors:  # it comes in a group, from tasks that ran side by side
        unusable += _leaves(errors)
    if unusable:
        raise unusable[0]
    return results[0] if results else None


def _leaves(errors: BaseExceptionGroup[RootUnusable]) -> Iterator[RootUnusable]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
