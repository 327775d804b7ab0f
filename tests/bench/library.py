"""The libraries that several figures share, and what Immich does to them in SQL."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tests.bench.files import Planned, asset_of, in_folders, resized, tiny
from tests.bench.ground import Ground, Immich, Person, fill
from tests.bench.sizes import steps

TRASH = """update asset set "deletedAt" = now(), status = 'trashed' where id = any(%s)"""
RESTORE = """update asset set status = 'active', "deletedAt" = null where status = 'trashed' and id = any(%s)"""

_SEED = 20_261


@dataclass
class Library:
    """A person's folder and the library that it is synced with; ``synced`` once there are records."""

    immich: Immich
    person: Person
    synced: bool

    def sample(self, count: int, seed: object) -> list[Planned]:
        """So many of the files, the same ones for the same seed; none of the folders that are moved as a whole."""
        loose = [file for file in self.person.files if "/move-" not in file.path]
        return random.Random(f"{_SEED} {seed}").sample(loose, count)

    def folders(self, files: Sequence[Planned]) -> list[Path]:
        """The folders that these files lie in."""
        return sorted({(self.person.root / file.path).parent for file in files})

    def without(self, files: Sequence[Planned]) -> None:
        """These are not there any more."""
        gone = {*files}
        self.person.files = [file for file in self.person.files if file not in gone]


def library(ground: Ground, size: int, *, synced: bool = True) -> Library:
    """The library with so many files, made when it is first asked for; ``synced``: as if by an earlier run of ours."""

    def make(_: ExitStack) -> Library:
        immich = ground.kept("library", lambda stack: stack.enter_context(ground.immich("library")))
        person = immich.person(f"library-{size}")
        made = Library(immich, person, synced)
        fill(immich, person, planned(ground, size), records=synced)
        return made

    found: Library = ground.kept(("library", size), make)
    return found


def planned(ground: Ground, size: int) -> list[Planned]:
    """The files of such a library; the whole one has folders to be moved, too."""
    sizes, name = ground.sizes, f"library-{size}"
    moved = [
        file
        for count in (steps(sizes.bulk) if size == sizes.library else ())
        for file in tiny(f"{name}/move-{count}", count, first=count * 100_000)
    ]
    return resized([*moved, *in_folders(name, size - len(moved))], seed=size, holes=True)


def folder(ground: Ground) -> Library:
    """A synced folder of its own for what is done one by one."""

    def make(stack: ExitStack) -> Library:
        immich = stack.enter_context(ground.immich("folder"))
        person = immich.person("folder")
        files = in_folders("Camera", ground.sizes.folder)
        fill(immich, person, resized(files, seed=ground.sizes.folder, holes=True), records=True)
        return Library(immich, person, synced=True)

    found: Library = ground.kept("folder", make)
    return found


def floor(ground: Ground) -> Library:
    """The same without anything of ours, for the floors."""

    def make(stack: ExitStack) -> Library:
        immich = stack.enter_context(ground.immich("floor"))
        person = immich.person("floor")
        files = in_folders("Camera", max(ground.sizes.folder, ground.sizes.bulk * 2))
        fill(immich, person, resized(files, seed=len(files), holes=True))
        return Library(immich, person, synced=False)

    found: Library = ground.kept("floor", make)
    return found


def million(ground: Ground) -> Library:
    """A synced folder that is very large, of files that nobody reads."""

    def make(stack: ExitStack) -> Library:
        immich = stack.enter_context(ground.immich("million"))
        person = immich.person("million")
        fill(immich, person, in_folders("Camera", ground.sizes.records), records=True, unread=True)
        return Library(immich, person, synced=True)

    found: Library = ground.kept("million", make)
    return found


def ids(files: Sequence[Planned]) -> list[UUID]:
    """The assets of these files."""
    return [asset_of(file.path) for file in files]


def committed(immich: Immich, statement: str, files: Sequence[Planned], *, notify: str | None = None) -> float:
    """Send one statement about these files' assets; the monotonic time at which its COMMIT was answered.

    ``notify``: with a notification for the floor, which has no triggers.
    """
    connection = immich.connection
    with connection.transaction():
        connection.execute(statement.encode(), (ids(files),))
        if notify is not None:
            connection.execute("select pg_notify('floor', %s)", (notify,))
    return time.monotonic()
