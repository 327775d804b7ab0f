"""What people do to both sides while something goes wrong, and what has to come of it."""

import itertools

from tests.faults.rig import Rig, picture

KINDS = 5  # of deeds to files that are there: deleted, moved, edited, trashed, and (restored: one that was trashed)


class Traffic:
    """Deeds on both sides of a rig; each file is the object of one of them."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._numbers = itertools.count()
        self._free: list[str] = []  # files that nothing was done to
        self._trashed: list[tuple[str, bytes]] = []  # that may be restored
        self.contents: list[bytes] = []  # all that ever was

    async def stock(self, rounds: int) -> None:
        """Have files synced, and some in the trash: enough for so many rounds of deeds."""
        rig = self._rig
        self._free = [self._arrives() for _ in range(rounds * KINDS)]
        await rig.agrees(seconds=40)
        for _ in range(rounds):
            await self._trash()
        await rig.agrees()

    async def deeds(self, rounds: int = 1, *, immich: bool = True) -> int:
        """So many rounds of every kind of deed; ``immich`` false: on the folder's side alone. Returns their number."""
        count = 0
        for _ in range(rounds):
            self._arrives()
            self._delete()
            self._move()
            self._edit()
            count += 4
            if immich:
                await self._restore()
                await self._trash()
                count += 2
        return count

    def trashed_since(self, rounds: int) -> list[tuple[str, bytes]]:
        """The files whose assets were trashed in so many last rounds, and not restored since."""
        return self._trashed[-rounds:]

    async def immich_deeds(self, rounds: int, *, files: bool = True) -> None:
        """So many rounds of what is done in Immich alone; ``files`` false: to assets whose files are there or not."""
        for _ in range(rounds):
            if files:
                await self._restore()
            await self._trash()

    async def arrivals(self, count: int) -> None:
        """So many new files, one soon after the other."""
        for _ in range(count):
            self._arrives()

    def _arrives(self) -> str:
        number = next(self._numbers)
        name = f"d{number % 3}/{number:04}.jpg"
        self._put(name, picture(name))
        return name

    def _put(self, name: str, content: bytes) -> None:
        self.contents.append(content)
        self._rig.put(name, content)
        self._rig.want({name: content})

    def _taken(self) -> tuple[str, bytes]:
        name = self._free.pop()
        return name, self._rig.wanted.files.pop(name)

    def _delete(self) -> None:
        name, content = self._taken()
        (self._rig.folder / name).unlink()
        self._rig.want(trashed=[content])

    def _move(self) -> None:
        name, content = self._taken()
        new = f"moved/{name.replace('/', '-')}"
        (self._rig.folder / "moved").mkdir(exist_ok=True)
        (self._rig.folder / name).rename(self._rig.folder / new)
        self._rig.want({new: content})

    def _edit(self) -> None:
        name, content = self._taken()
        self._rig.want(trashed=[content])
        self._put(name, picture(name))

    async def _trash(self) -> None:
        name, content = self._taken()
        await self._rig.trash(content)
        self._rig.want(trashed=[content])
        self._trashed.append((name, content))

    async def _restore(self) -> None:
        name, content = self._trashed.pop(0)
        await self._rig.restore(content)
        self._rig.want({name: content})
