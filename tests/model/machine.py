"""The state machine: what a user may do to a folder and a library, in any order, and to the engine between."""

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.oracle import ACTIVE, GONE, TRASHED, Oracle, Seen, name
from tests.model.world import World

T = TypeVar("T")

FOLDERS = ("", "x", "x/y", "z")
PATHS = tuple(f"{folder}/{file}".lstrip("/") for folder in FOLDERS for file in ("a.jpg", "b.jpg", "c.jpg"))
# Two of each size: what is of a size that another had may be that one.
CONTENTS = tuple(f"c{number} ".encode().ljust(40 + number // 2, b"=") for number in range(8))
SHA1 = {hashlib.sha1(content, usedforsecurity=False).digest(): content for content in CONTENTS}
FAULTS = ("fail_next", "reset_next", "cut_next", "lose_answer_next")

paths = st.sampled_from(PATHS)
folders = st.sampled_from(FOLDERS[1:])
contents = st.sampled_from(CONTENTS)
which = st.integers(0, 11)
pace = st.sampled_from([0, 0, 1, 5, 20, 60])


class Machine(RuleBasedStateMachine):
    """A user, what they do, and an oracle that judges what comes of it."""

    loop: asyncio.AbstractEventLoop
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.journal: list[str] = []
        self.outside: dict[int, dict[str, tuple[str, int, bytes]]] = {}
        self.begun = False

    # --- the frame of every step ---

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def say(self, what: str) -> None:
        """Begin a step: what happened since the last one is judged first."""
        self.observe()
        self.oracle.next()
        self.journal.append(f"{self.oracle.step:3} {what}")

    def observe(self) -> Seen:
        seen = self.run(self.world.look(SHA1))
        self.judge(lambda: self.oracle.observe(seen))
        return seen

    def judge(self, judgement: Callable[[], None]) -> None:
        try:
            judgement()
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), "after:", *self.journal])) from None

    @initialize(
        hold_min=st.sampled_from([25, 25, 2]),
        immich_min=st.sampled_from([100, 100, 2]),
        folder_min=st.sampled_from([10, 10, 3]),
        at_first=st.lists(st.tuples(paths, contents), max_size=8),
        running=st.sampled_from([True, True, True, False]),
    )
    def begin(
        self, hold_min: int, immich_min: int, folder_min: int, at_first: list[tuple[str, bytes]], running: bool
    ) -> None:
        self.run(self.world.begin(hold_min=hold_min, immich_min=immich_min, folder_min=folder_min))
        self.begun = True
        self.journal.append(f"    {hold_min=}, {immich_min=}, {folder_min=}, {running=}")
        for path, content in at_first:
            self.file_arrives(path, content, 0)
        if running:
            self.start_service(0)
            self.come_to_rest(tell=True)

    def teardown(self) -> None:
        if not self.begun:
            return
        try:
            self.run(self.world.start())
            self.come_to_rest(tell=False)
            self.come_to_rest(tell=True)
        finally:
            self.run(self.world.end())

    # --- the folder ---

    def path(self, path: str) -> Path:
        return self.world.folder / path

    def pick(self, number: int) -> str | None:
        """One of the files that are there."""
        there = sorted(self.oracle.files)
        return there[number % len(there)] if there else None

    def after(self, questions: int) -> None:
        if questions:
            self.run(self.world.go_on(questions))

    @rule(path=paths, content=contents, pace=pace)
    def file_arrives(self, path: str, content: bytes, pace: int) -> None:
        self.say(f"{name(content)} arrives at {path}")
        self.world.engine.put(path, content)
        self.oracle.put(path, content)
        self.after(pace)

    @rule(path=paths, content=contents, pace=pace)
    def file_is_written_in_place(self, path: str, content: bytes, pace: int) -> None:
        self.say(f"{name(content)} is written at {path}")
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_bytes(content)
        self.oracle.put(path, content)
        self.after(pace)

    @rule(number=which, pace=pace)
    def file_is_touched(self, number: int, pace: int) -> None:
        self.observe()
        if path := self.pick(number):
            self.say(f"{path} is touched")
            with suppress(FileNotFoundError):  # the engine may take a file out at any moment
                os.utime(self.path(path))
            self.after(pace)

    @rule(number=which, new=paths, pace=pace)
    def file_is_moved(self, number: int, new: str, pace: int) -> None:
        self.observe()
        if path := self.pick(number):
            self.say(f"{path} is moved to {new}")
            self.path(new).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self.path(path).rename(self.path(new))
                self.oracle.move(path, new)
            self.after(pace)

    @rule(number=which, new=paths, pace=pace)
    def file_is_copied(self, number: int, new: str, pace: int) -> None:
        self.observe()
        if (path := self.pick(number)) and path != new:
            content = self.oracle.files[path].content
            self.say(f"{path} is copied to {new}")
            self.world.engine.put(new, content, mtime_ns=time.time_ns())
            self.oracle.put(new, content)
            self.after(pace)

    @rule(number=which, pace=pace)
    def file_is_deleted(self, number: int, pace: int) -> None:
        self.observe()
        if path := self.pick(number):
            self.say(f"{path} is deleted")
            with suppress(FileNotFoundError):
                self.path(path).unlink()
                self.oracle.remove(path)
            self.after(pace)

    def below(self, folder: str) -> list[str]:
        return [path for path in sorted(self.oracle.files) if path.startswith(folder + "/")]

    @rule(folder=folders, pace=pace)
    def folder_is_deleted(self, folder: str, pace: int) -> None:
        self.say(f"{folder}/ is deleted")
        shutil.rmtree(self.path(folder), ignore_errors=True)
        for path in self.below(folder):
            self.oracle.remove(path)
        self.after(pace)

    @rule(old=folders, new=folders, pace=pace)
    def folder_is_moved(self, old: str, new: str, pace: int) -> None:
        if not self.path(old).is_dir() or self.path(new).exists() or f"{new}/".startswith(f"{old}/"):
            return
        self.say(f"{old}/ is moved to {new}/")
        self.path(new).parent.mkdir(parents=True, exist_ok=True)
        self.path(old).rename(self.path(new))
        for path in self.below(old):
            self.oracle.move(path, new + path.removeprefix(old))
        self.after(pace)

    @rule(folder=folders, pace=pace)
    def folder_is_taken_away(self, folder: str, pace: int) -> None:
        if not self.path(folder).is_dir():
            return
        number = len(self.outside)
        self.say(f"{folder}/ is taken away as {number}")
        self.path(folder).rename(self.world.aside(number))
        taken = {path.removeprefix(folder + "/"): self.oracle.remove(path) for path in self.below(folder)}
        # What is outside of the folder is not lost, but nobody promises to keep it.
        self.outside[number] = {path: (folder, here.since, here.content) for path, here in taken.items()}
        self.after(pace)

    @precondition(lambda self: self.outside)
    @rule(folder=folders, pace=pace)
    def folder_comes_back(self, folder: str, pace: int) -> None:
        number = max(self.outside)
        if self.path(folder).exists():
            return
        self.say(f"{number} comes back as {folder}/")
        self.path(folder).parent.mkdir(parents=True, exist_ok=True)
        self.world.aside(number).rename(self.path(folder))
        for path, (_, since, content) in self.outside.pop(number).items():
            self.oracle.put(f"{folder}/{path}", content, since=since)
        self.after(pace)

    # --- the library ---

    def with_status(self, status: str) -> list[bytes]:
        return [content for content in CONTENTS if self.oracle.library.get(content, GONE) == status]

    def web(self, deed: str, found: list[bytes], number: int, status: str, pace: int) -> None:
        if not found:
            return
        content = found[number % len(found)]
        self.say(f"{name(content)}: {deed} in the web")
        self.run(self.world.web(deed, content))
        self.oracle.web(content, status)
        self.after(pace)

    @rule(number=which, pace=pace)
    def asset_is_uploaded(self, number: int, pace: int) -> None:
        self.observe()
        self.web("upload", self.with_status(GONE), number, ACTIVE, pace)

    @rule(number=which, pace=pace)
    def asset_is_trashed(self, number: int, pace: int) -> None:
        self.observe()
        self.web("trash", self.with_status(ACTIVE), number, TRASHED, pace)

    @rule(number=which, pace=pace)
    def asset_is_restored(self, number: int, pace: int) -> None:
        self.observe()
        self.web("restore", self.with_status(TRASHED), number, ACTIVE, pace)

    @rule(number=which, pace=pace)
    def asset_is_deleted_for_good(self, number: int, pace: int) -> None:
        self.observe()
        self.web("force", self.with_status(ACTIVE) + self.with_status(TRASHED), number, GONE, pace)

    @rule(pace=pace)
    def trash_is_emptied(self, pace: int) -> None:
        self.say("the trash is emptied in the web")
        self.run(self.world.web("empty", b""))
        there = self.run(self.world.look(SHA1)).library
        for content in [content for content in self.oracle.library if content not in there]:
            self.oracle.web(content, GONE)
        self.after(pace)

    # --- the engine, and what may befall it ---

    @precondition(lambda self: not self.world.engine.running())
    @rule(pace=pace)
    def start_service(self, pace: int) -> None:
        self.say("the service is started")
        self.run(self.world.start())
        self.after(pace)

    @precondition(lambda self: self.world.engine.running())
    @rule()
    def stop_service(self) -> None:
        self.say("the service is stopped")
        self.run(self.world.stop())

    @rule(questions=st.sampled_from([5, 20, 100]))
    def time_passes(self, questions: int) -> None:
        self.after(questions)

    @rule(fault=st.sampled_from(FAULTS))
    def request_will_fail(self, fault: str) -> None:
        self.say(f"a request will fail: {fault}")
        self.world.fail(fault)

    @precondition(lambda self: not self.world.post.holding)
    @rule()
    def news_are_held(self) -> None:
        self.say("news are held from now on")
        self.world.post.holding = True

    @precondition(lambda self: self.world.post.holding)
    @rule(reverse=st.booleans(), times=st.sampled_from([0, 1, 1, 2]))
    def news_are_delivered(self, reverse: bool, times: int) -> None:
        self.say(f"{len(self.world.post.held)} news are delivered {times} times{', reversed' * reverse}")
        self.world.post.holding = False
        self.world.post.deliver(reverse=reverse, times=times)

    @rule(approve=st.booleans(), pace=pace)
    def hold_is_decided(self, approve: bool, pace: int) -> None:
        if self.world.engine.session is None:
            return
        holds = self.run(self.world.holds())
        if holds:
            self.say(f"hold {holds[0]} is {'approved' if approve else 'rejected'}")
            held = self.observe().held
            self.run(self.world.decide(holds[0], approve=approve))
            if not approve:
                self.oracle.reject(held)
            self.after(pace)

    @precondition(lambda self: self.world.engine.running())
    @rule(tell=st.booleans())
    def come_to_rest(self, tell: bool) -> None:
        self.say(f"all comes to rest{', told of everything' * tell}")
        try:
            self.run(self.world.quiet(tell=tell))
        except AssertionError as error:
            message = str(error)
            self.judge(lambda: _fail(message))
        seen = self.observe()
        self.judge(lambda: self.oracle.quiet(seen))


def _fail(message: str) -> None:
    raise AssertionError(message)
