"""``immich-dbsync resync``: a full comparison now."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import asyncpg
import typer

from immich_dbsync.cli import completion, progress
from immich_dbsync.cli.common import AsJson, console_errors, load_settings, print_json, print_table, run_async
from immich_dbsync.cli.options import Below, one_user
from immich_dbsync.core.actions import (
    Action,
    Drop,
    Leave,
    NoteGone,
    Purge,
    PutBack,
    PutOnHold,
    Quarantine,
    Replace,
    Supersede,
    Trash,
    Upload,
)
from immich_dbsync.disk.root import Root
from immich_dbsync.errors import (
    NEEDS_SOMEBODY,
    KeyRefused,
    NoSuchFile,
    RootUnusable,
    ServerUnreachable,
    TriggersDiffer,
)
from immich_dbsync.immich.library import Library, Owner
from immich_dbsync.model import RelPath
from immich_dbsync.service.accounts import Account, accounts
from immich_dbsync.service.gate import unreachable
from immich_dbsync.service.listener import connect
from immich_dbsync.service.logs import configure, printable
from immich_dbsync.service.observe import RootLost
from immich_dbsync.service.pausing import paused_of, refusal, way_on
from immich_dbsync.service.plan import plan
from immich_dbsync.service.questions import Progress, Result, answers, comparison
from immich_dbsync.service.rehash import read_again, reread
from immich_dbsync.service.scan import Tally
from immich_dbsync.service.ticking import ticking
from immich_dbsync.service.whom import chosen, placed
from immich_dbsync.settings import Settings
from immich_dbsync.store.connection import Connection
from immich_dbsync.store.records import Store
from immich_dbsync.store.state import installed
from immich_dbsync.wording import counted, did_you_mean

app = typer.Typer(add_completion=False)

Line = tuple[str, str, str, str]
"""User, what would be done, path, why."""


@dataclass(slots=True)
class _LeftOut:
    """Users who were not compared: whose folders can't be, and who are paused; and how many others were."""

    compared: int = 0
    unusable: list[tuple[Owner, RootUnusable]] = field(default_factory=list)
    paused: list[Owner] = field(default_factory=list)

    def tell(self) -> None:
        """Say who is paused, to whoever reads along."""
        for owner in self.paused:
            typer.echo(f"{owner.email} is paused, and was left out. Go on with: {way_on(owner)}", err=True)

    def complain(self) -> None:
        """Raise RootUnusable where a folder could not be compared."""
        if self.unusable:
            raise RootUnusable(" ".join(f"{owner.email} was left out: {error}." for owner, error in self.unusable))

    def json(self) -> list[dict[str, str]]:
        """Each user, and why."""
        whys = [(owner, str(error)) for owner, error in self.unusable]
        whys += [(owner, f"paused; go on with: {way_on(owner)}") for owner in self.paused]
        return [{"user": owner.email, "why": why} for owner, why in whys]


@app.command()
def resync(
    user: Annotated[str, one_user(completion.synced_users)] = "",
    path: Below = "",
    rehash: bool = typer.Option(False, "--rehash", help="Read every file again, to find damaged ones."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be done; change nothing."),
    as_json: AsJson = False,
) -> None:
    """Compare every folder with Immich now, and do what follows.

    A running service is asked to do it; without one it is done here. Paused users are left out. Exits with 12 when
    something needs somebody, with 10 when a folder could not be compared.

    Example: immich-dbsync resync --dry-run
    """
    with console_errors():
        settings = load_settings()
        if dry_run:
            _show_plan(settings, user, path, rehash=rehash, as_json=as_json)
        else:
            _compare(settings, user, path, rehash=rehash, as_json=as_json)


async def _whose(
    settings: Settings, pool: "asyncpg.Pool[asyncpg.Record]", user: str, path: str
) -> tuple[list[Account], bytes]:
    found, problems = await accounts(Library(pool), settings.require_api_keys())
    if not found:
        raise KeyRefused(problems[0] + ".")
    for problem in problems:
        typer.echo(f"immich-dbsync: {problem}.", err=True)
    chosen_ones, inside = placed(chosen(found, user), settings.require_sync_root(), path)
    roots = [settings.require_sync_root() / str(account.owner.id) for account in chosen_ones]
    if inside and not await _known(pool, chosen_ones, roots, inside):
        near = next(filter(None, (_near(root, inside) for root in roots)), "")
        raise NoSuchFile(f"Nothing is or was at {path!r}.{near}")
    return chosen_ones, inside


async def _known(
    pool: "asyncpg.Pool[asyncpg.Record]", found: Sequence[Account], roots: Sequence[Path], inside: bytes
) -> bool:
    """Whether something is at this path of one of these folders, or was when it was last looked at."""
    if any(map(partial(_may_have, inside), roots)):
        return True
    store, path = Store(pool), RelPath(inside)
    with suppress(TriggersDiffer), installed():  # where nothing is installed nothing is recorded
        for account in found:
            if await store.records_at(account.owner.id, [path]) or await store.folders(account.owner.id, [path]):
                return True
    return False


def _may_have(inside: bytes, root: Path) -> bool:
    """Whether something is at this path below the root; a folder that is on another host is looked at there."""
    return os.path.lexists(root / os.fsdecode(inside)) or not root.is_dir()


def _near(root: Path, inside: bytes) -> str:
    """What is nearest to the path's first component that is missing, in the folder in which that would be."""
    folder = root
    with suppress(OSError):
        for name in os.fsdecode(inside).split("/"):
            # Not through a link: what lies behind it is none of the folder's.
            if (folder / name).is_symlink() or not (folder / name).is_dir():
                break
            folder /= name
        return did_you_mean(
            name, [each.name for each in folder.iterdir()], lambda near: str((folder / near).relative_to(root))
        )
    return ""


# --- for real ---


def _compare(settings: Settings, user: str, path: str, *, rehash: bool, as_json: bool) -> None:
    configure("console", "error")
    with progress.shown("comparing") as tell:
        results, left_out = run_async(_results(settings, user, path, rehash=rehash, tell=tell))
    rows = [(email, action, str(count)) for email, r in results for action, count in sorted(r["done"].items())]
    damaged = [(email, found) for email, result in results for found in result["damaged"]]
    if as_json:
        compared = [{"user": email, **result} for email, result in results]
        print_json({"users": compared, "left_out": left_out.json()})
    else:
        print_table(("user", "done", "files"), rows)
        for email, found in damaged:
            typer.echo(f"! {email}: {found}: its bytes changed without a trace of a write", err=True)
        for email, result in results:
            for why, count in sorted(result["left"].items()):
                typer.echo(f"! {email}: {count} left alone: {why}", err=True)
    files = sum(result["files"] for _, result in results)
    said = ", ".join(f"{count} {action}" for _, action, count in rows) or "all was as it should be"
    if left_out.compared:
        typer.echo(f"{counted(files, 'file')} compared: {said}.", err=True)
    left_out.tell()
    left_out.complain()
    waiting = [result["waiting"] for _, result in results if result["waiting"]]
    if waiting:
        raise ServerUnreachable(f"What needs Immich waits for it: {waiting[0]}.")
    if any(result["damaged_count"] or result["left"] or result["done"].get("hold") for _, result in results):
        raise typer.Exit(NEEDS_SOMEBODY)


async def _results(
    settings: Settings, user: str, path: str, *, rehash: bool, tell: Progress
) -> tuple[list[tuple[str, Result]], _LeftOut]:
    url = settings.require_database_url()
    await (await connect(url, "immich-dbsync resync")).close()  # errors of the login in our own words
    async with asyncpg.create_pool(url, min_size=1, max_size=2, connection_class=Connection) as pool:
        found, prefix = await _whose(settings, pool, user, path)
        paused = await paused_of(pool, [account.owner for account in found])
        if paused and (user or path):
            raise refusal(paused)
        asked = {account: comparison(prefix, rehash=rehash) for account in found if account.owner not in paused}
        answered = await answers(settings, pool, asked, tell)
    unusable = [(account.owner, error) for account, error in answered.unusable.items()]
    results = [(account.owner.email, answered.results[account]) for account in asked if account in answered.results]
    return results, _LeftOut(len(results), unusable, paused)


# --- to look at ---


def _show_plan(settings: Settings, user: str, path: str, *, rehash: bool, as_json: bool) -> None:
    with progress.shown("comparing") as tell:
        lines, files, left_out, paused = run_async(_lines(settings, user, path, rehash=rehash, tell=tell))
    totals = Counter(line[1] for line in lines)
    if as_json:
        planned = [{"user": u, "action": action, "path": where, "why": why} for u, action, where, why in lines]
        shown = {"planned": planned, "totals": totals, "files": files}
        print_json(shown | {"left_out": left_out.json(), "paused": [owner.email for owner in paused]})
    else:
        print_table(("user", "would", "path", "why"), lines)
    said = ", ".join(f"{count} to {action}" for action, count in sorted(totals.items())) or "nothing to do"
    if left_out.compared or not left_out.unusable:
        typer.echo(f"{counted(files, 'file')} compared: {said}. Nothing was changed.", err=True)
    for owner in paused:
        typer.echo(f"{owner.email} is paused: none of theirs is done before: {way_on(owner)}", err=True)
    left_out.complain()
    if reason := run_async(unreachable(settings)):
        raise ServerUnreachable(f"None of it can be done now: {reason}. Start Immich, or mend the server URL.")


async def _lines(
    settings: Settings, user: str, path: str, *, rehash: bool, tell: Progress
) -> tuple[list[Line], int, _LeftOut, list[Owner]]:
    """What would be done, and how many files were compared; who could not be, and who is paused but was."""
    url = settings.require_database_url()
    await (await connect(url, "immich-dbsync resync")).close()  # errors of the login in our own words
    async with asyncpg.create_pool(url, min_size=1, max_size=4, connection_class=Connection) as pool:
        found, prefix = await _whose(settings, pool, user, path)
        paused = await paused_of(pool, [account.owner for account in found])
        lines: list[Line] = []
        tallies: list[Tally] = []
        left_out = _LeftOut()
        theirs: list[Line] = []

        def say() -> None:
            files = counted(sum(tally.files for tally in tallies), "file")
            tell(f"comparing: {files} looked at, {len(lines) + len(theirs)} to be done")

        for account in found:
            folder = settings.require_sync_root() / str(account.owner.id)
            theirs = []
            tallies.append(tally := Tally())
            try:
                with Root(folder) as root:
                    async with ticking(say):
                        async for action in plan(settings, pool, account.owner.id, root, tally, prefix=prefix):
                            theirs += _describe(account.owner.email, action)
                    if rehash:
                        theirs += [line async for line in _damaged(pool, account, root, prefix, tell)]
            except RootLost as error:
                lost = RootUnusable(f"{str(folder)!r} is {error.health.value}: mount or put back the folder")
                left_out.unusable.append((account.owner, lost))
            except RootUnusable as error:
                left_out.unusable.append((account.owner, error))
            else:
                lines += theirs
                left_out.compared += 1
                continue
            tallies.pop()
        return lines, sum(tally.files for tally in tallies), left_out, paused


async def _damaged(
    pool: "asyncpg.Pool[asyncpg.Record]", account: Account, root: Root, prefix: bytes, tell: Progress
) -> AsyncIterator[Line]:
    files = size = 0
    with ThreadPoolExecutor(os.cpu_count()) as hashers:
        async for file in reread(root, Store(pool), account.owner.id, hashers, prefix):
            files, size = files + 1, size + file.size
            tell(read_again(files, size))
            if file.damaged:
                why = "its bytes changed without a trace of a write"
                yield (account.owner.email, "report damage", printable(file.path), why)


_VERBS = {"Adopt": "adopt", "Restore": "restore", "Drop": "forget", "Refresh": "refresh", "Identify": "hash"}
_WHYS = {"Adopt": "Immich has the same picture", "Restore": "it came back after its asset was trashed"}


def _describe(user: str, action: Action) -> Sequence[Line]:
    verb, why = _VERBS.get(type(action).__name__, ""), _WHYS.get(type(action).__name__, "")
    match action:
        case Upload():
            return [(user, "upload", printable(path), "new in the folder") for path in action.paths]
        case Trash():
            return [(user, "trash", printable(path), "deleted from the folder") for path in action.paths]
        case NoteGone():
            return []
        case PutBack() | Supersede() | Purge():
            verbs = {PutBack: "put back", Supersede: "leave in quarantine", Purge: "purge"}
            purged = "its asset was deleted for good, and the retention is over"
            reason = purged if isinstance(action, Purge) else "its asset was restored in Immich"
            return [(user, verbs[type(action)], printable(action.entry.path), reason)]
        case Replace():
            fate = "goes to the trash" if action.trash_old else "stays"
            return [(user, "replace", printable(action.path), f"edited; its old asset {fate}")]
        case Quarantine() | PutOnHold() | Leave():
            named: dict[type, str] = {Quarantine: "quarantine", PutOnHold: "hold", Leave: "leave alone"}
            return [(user, named[type(action)], printable(action.path), action.why.value)]
        case Drop():
            return [(user, verb, printable(action.path), action.why.value)]
        case _:
            return [(user, verb, printable(action.path), why)]
