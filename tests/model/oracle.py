"""What must hold of a folder and a library, told from what their user did. Shares no code with the engine.

The user acts in steps, and after each one the world is observed. What changed otherwise was the engine's doing, and
has to be explained by something that the user did before. When all is quiet, both sides have to agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

GONE = "gone"
ACTIVE = "active"
TRASHED = "trashed"


@dataclass(frozen=True)
class Seen:
    """The world at one moment. A content is its bytes."""

    files: Mapping[str, bytes]
    quarantined: frozenset[bytes]
    library: Mapping[bytes, str]  # content to the status of its asset; no entry where it is deleted for good
    held: frozenset[bytes] = frozenset()  # contents of which a deletion waits for a person
    holds: Mapping[bytes, int] = field(default_factory=dict)  # how often a deletion of a content was held so far
    held_paths: frozenset[str] = frozenset()  # where what is held was


@dataclass(frozen=True)
class Here:
    """A file that the user put there: since which step it is that file with that content."""

    content: bytes
    since: int


@dataclass
class Past:
    """What happened to one content, by the numbers of steps; 0 is never."""

    web_removed: int = 0  # trashed or deleted for good in the library, by the user
    web_deleted: int = 0  # deleted for good there, by the user
    web_added: int = 0  # uploaded or restored there, by the user
    folder_removed: int = 0  # a file of this content left the folder, by the user's doing
    folder_added: int = 0  # a file of this content came there, by the user's doing
    rejected: int = 0  # a hold of its deletion was rejected
    held: int = 0  # its deletion was put on hold
    holds: int = 0  # how often that was
    to_return: bool = False  # the engine took a file of it out, and has to put it back should its asset be restored
    lost: bool = False  # the user destroyed the last there was of it
    at_quiet: tuple[bool, str] = (False, GONE)  # whether in the folder, and its status, when all was last quiet


@dataclass
class Oracle:
    """The user's deeds, and the judgement of what is observed."""

    step: int = 0
    quiet_at: int = 0
    files: dict[str, Here] = field(default_factory=dict)
    library: dict[bytes, str] = field(default_factory=dict)
    quarantined: frozenset[bytes] = frozenset()
    held: frozenset[bytes] = frozenset()  # when all was last quiet
    pasts: dict[bytes, Past] = field(default_factory=dict)
    since: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """Since when a path has had a content. One that comes back before a quiet is taken for the one that was there: it
    may even have its inode number."""

    def past(self, content: bytes) -> Past:
        return self.pasts.setdefault(content, Past())

    # --- what the user does ---

    def next(self) -> None:
        """Another step begins."""
        self.step += 1

    def put(self, path: str, content: bytes, *, since: int | None = None) -> None:
        """A file is at this path now, in place of what was there; ``since`` when it has been that very file."""
        before = self.files.get(path)
        if before is not None and before.content != content:
            self.remove(path)
        first = self.since.get((path, content), self.step)
        here = Here(content, first if since is None else min(since, first))
        self.files[path], self.since[path, content] = here, here.since
        past = self.past(content)
        past.folder_added, past.to_return, past.lost = self.step, False, False

    def remove(self, path: str) -> Here:
        """A file is not there any more."""
        here = self.files.pop(path)
        self.past(here.content).folder_removed = self.step
        self._note_the_last(here.content)
        return here

    def move(self, old: str, new: str) -> None:
        """A file has another name, in place of what had it before."""
        if old == new:
            return
        here = self.files[old]
        self.put(new, here.content, since=here.since)
        self.remove(old)

    def web(self, content: bytes, status: str) -> None:
        """The user gave the content's asset this status."""
        past = self.past(content)
        if status == ACTIVE:
            past.web_added, past.lost = self.step, False
        else:
            past.web_removed = self.step
        if status == GONE:
            past.web_deleted, past.to_return = self.step, False
            self.library.pop(content, None)
            self._note_the_last(content)
        else:
            self.library[content] = status

    def reject(self, contents: Iterable[bytes]) -> None:
        """The user rejected a hold with these."""
        for content in contents:
            self.past(content).rejected = self.step

    def _note_the_last(self, content: bytes) -> None:
        in_folder = any(here.content == content for here in self.files.values())
        if not in_folder and content not in self.library and content not in self.quarantined:
            self.past(content).lost = True

    # --- what is observed ---

    def observe(self, seen: Seen) -> None:
        """Judge what the engine did since the last time; AssertionError where nothing explains it."""
        for path, here in [*self.files.items()]:
            if path not in seen.files:
                self._left(path, here, seen)
        for path, content in seen.files.items():
            if path not in self.files:
                self._came_back(path, content)
            else:
                known = self.files[path].content
                assert content == known, f"{path} holds {name(content)} in place of {name(known)}"
        for content in {*self.library, *seen.library}:
            self._library_changed(content, self.library.get(content, GONE), seen.library.get(content, GONE), seen)
        self.library, self.quarantined = dict(seen.library), seen.quarantined
        for content, holds in seen.holds.items():
            past = self.past(content)
            if holds > past.holds:
                past.holds, past.held = holds, self.step
        there = {*seen.files.values(), *seen.quarantined, *seen.library}
        for content, past in self.pasts.items():
            assert past.lost or content in there, f"{name(content)} is nowhere any more"

    def _left(self, path: str, here: Here, seen: Seen) -> None:
        past, what = self.past(here.content), f"{path} ({name(here.content)}, there since step {here.since})"
        assert past.web_removed >= here.since, f"{what} left, but its asset was last deleted at step {past.web_removed}"
        assert here.content in seen.quarantined or here.content in seen.files.values(), f"{what} is not in quarantine"
        del self.files[path]
        # What is there after a deletion for good is another asset, by a copy that came later.
        past.to_return = here.content in seen.library and past.web_deleted < here.since

    def _came_back(self, path: str, content: bytes) -> None:
        past, what = self.past(content), f"{path} ({name(content)})"
        assert past.web_removed or content in self.quarantined, f"{what} came from nowhere"
        assert past.web_added, f"{what} came back, but nobody restored its asset"
        self.files[path] = Here(content, past.web_added)
        past.to_return = False

    def _library_changed(self, content: bytes, before: str, after: str, seen: Seen) -> None:
        past, what = self.past(content), f"{name(content)} was {before} and is {after}"
        if before == after:
            return
        if after == GONE:
            # An answer to what came before, on its way when the user deleted it for good, may give the row another
            # status; its job takes the row all the same.
            assert past.web_deleted > max(self.quiet_at, past.web_added), f"{what}, by other than its user"
        elif after == TRASHED:
            left = past.folder_removed > self.quiet_at or content in self.held
            assert left, f"{what}, but no file of it left the folder since step {self.quiet_at}"
        else:
            known = max(past.folder_added, past.rejected) > self.quiet_at or content in seen.files.values()
            assert known, f"{what}, but it was not in the folder since step {self.quiet_at}"

    # --- when all is quiet ---

    def quiet(self, seen: Seen) -> None:
        """Both sides agree, but for what waits for a person; AssertionError where they do not."""
        there = {*seen.files.values()}
        # What came to a path that a person is asked about may have to wait for the answer.
        held = seen.held | there.difference(c for path, c in seen.files.items() if path not in seen.held_paths)
        for content, past in self.pasts.items():
            now = (content in there, seen.library.get(content, GONE))
            if content not in held:
                self._agreed(content, past, *now)
            past.at_quiet = now
        self.quiet_at, self.held = self.step, held
        self.since = {(path, here.content): here.since for path, here in self.files.items()}

    def _agreed(self, content: bytes, past: Past, there: bool, status: str) -> None:
        was_there, was = past.at_quiet
        what = f"{name(content)} (in the folder: {was_there}, {was}, and now: {there}, {status})"
        assert not there or status == ACTIVE, f"{what}: it is in the folder only"
        # What a person was asked about stays where it is, even when another file comes to its path before they answer.
        if content in self.held or max(past.rejected, past.held) > self.quiet_at:
            return
        folder = max(past.folder_added, past.folder_removed) > self.quiet_at
        web = max(past.web_added, past.web_removed) > self.quiet_at
        if folder and not web:
            if was_there and was == ACTIVE:
                allowed = {ACTIVE} if there else {TRASHED}
            else:  # whether it was seen at all before it left is not known
                allowed = {ACTIVE} if there else {was, TRASHED}
            assert status in allowed, f"{what}: only the folder changed"
        elif web and not folder:
            if status != ACTIVE:
                assert not there, f"{what}: it was deleted in the library"
            elif past.to_return or (was_there and past.web_deleted <= self.quiet_at):
                assert there, f"{what}: it was restored in the library"
        elif not folder:
            assert (there, status) == (was_there, was), f"{what}: nothing was done to it"


def name(content: bytes) -> str:
    """A content as the journal calls it."""
    return content.split(b" ")[0].decode()
