"""An owner who is not to be trusted, beside a service that is root: nothing of anybody else's is ever reached."""

import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import command
from tests.faults.parts import parts
from tests.faults.report import Report
from tests.faults.rig import Rig, picture, rigged, second_user, sha1
from tests.forked import Forked
from tests.mounts import mounted
from tests.waiting import until

pytestmark = [pytest.mark.newest, pytest.mark.timeout(300)]

_MALLORY, _ADA = 12345, 23456  # uids


@dataclass
class World:
    """Mallory's rig; Ada's folder, which is synced as well; a folder of secrets, which is root's."""

    rig: Rig
    ada: UUID
    adas: dict[str, bytes]
    secrets: Path

    @property
    def adas_folder(self) -> Path:
        return self.rig.folder.with_name(str(self.ada))

    def foreign(self) -> list[tuple[object, ...]]:
        """All that is not Mallory's: path, content, kind, rights, owner, inode, mtime."""
        found: list[tuple[object, ...]] = []
        for top in (self.secrets, self.adas_folder):
            for folder, folders, names in os.walk(top):
                folders[:] = [name for name in folders if name != ".immich-dbsync"]
                for name in sorted((*folders, *names)):
                    path = Path(folder, name)
                    status = path.lstat()
                    content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                    meta = (status.st_mode, status.st_uid, status.st_ino, status.st_nlink)
                    mtime = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0
                    found.append((str(path), content, *meta, mtime))
        return sorted(found, key=repr)

    async def nothing_leaked(self) -> None:
        """No foreign content is in Mallory's library, records or quarantine, and Ada's library is as it was."""
        foreign = [*(path.read_bytes() for path in self.secrets.glob("*.jpg")), *self.adas.values()]
        digests = [sha1(content) for content in foreign]
        connection = self.rig.stage.connection
        assets = 'select count(*) from asset where "ownerId" = $1 and checksum = any($2)'
        assert await connection.fetchval(assets, self.rig.stage.user, digests) == 0
        records = "select count(*) from immich_dbsync_v1.records where owner_id = $1 and sha1 = any($2)"
        assert await connection.fetchval(records, self.rig.stage.user, digests) == 0
        media = [path.read_bytes() for path in (self.rig.stage.home / "media").rglob("*") if path.is_file()]
        assert sorted(content for content in media if content in foreign) == sorted(self.adas.values())
        adas = await connection.fetch('select checksum, status::text from asset where "ownerId" = $1', self.ada)
        assert {row["checksum"]: row["status"] for row in adas} == dict.fromkeys(
            map(sha1, self.adas.values()), "active"
        )
        assert self.rig.running()
        assert "Traceback" not in self.rig.log()


@asynccontextmanager
async def world_of(url: str, version: ImmichVersion) -> AsyncIterator[World]:
    async with rigged(url, version) as rig:
        ada = await second_user(rig)
        for folder in (rig.stage.home, rig.folder.parent):
            folder.chmod(0o755)  # so that Mallory may name what others have
        secrets = rig.stage.home / "secrets"
        secrets.mkdir(mode=0o755)
        for number in range(3):
            path = secrets / f"{number}.jpg"
            path.write_bytes(picture("secret"))
            path.chmod(0o600)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        world = World(rig, ada, {f"{number}.jpg": picture("ada's") for number in range(4)}, secrets)
        for name, content in world.adas.items():
            path = world.adas_folder / name
            path.write_bytes(content)
            os.chown(path, _ADA, _ADA)
            os.utime(path, (1_700_000_000, 1_700_000_000))
        os.chown(world.adas_folder, _ADA, _ADA)
        give(rig.folder)
        yield world


def give(path: Path) -> None:
    """It is Mallory's."""
    os.chown(path, _MALLORY, _MALLORY, follow_symlinks=False)


def put(rig: Rig, name: str, content: bytes) -> None:
    rig.put(name, content)
    path = rig.folder / name
    while path != rig.folder:
        give(path)
        path = path.parent


# --- things in the place of others ---


def _link(world: World, place: Path) -> None:
    place.symlink_to(world.secrets / "0.jpg")


def _linked_folder(world: World, place: Path) -> None:
    place.with_suffix("").symlink_to(world.secrets)


def _link_to_ada(world: World, place: Path) -> None:
    place.with_suffix("").symlink_to(f"../{world.ada}")


def _link_through_proc(_: World, place: Path) -> None:
    place.with_suffix("").symlink_to("/proc/self/root")


def _hard_link(world: World, place: Path) -> None:
    os.link(world.secrets / "0.jpg", place)


def _hard_link_to_ada(world: World, place: Path) -> None:
    os.link(world.adas_folder / "0.jpg", place)


def _fifo(_: World, place: Path) -> None:
    os.mkfifo(place)


def _device(_: World, place: Path) -> None:
    os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero


def _block_device(_: World, place: Path) -> None:
    os.mknod(place, stat.S_IFBLK | 0o666, os.makedev(7, 0))  # /dev/loop0


def _socket(_: World, place: Path) -> None:
    folder = os.open(place.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"/proc/self/fd/{folder}/{place.name}")  # a socket's address is 107 bytes at most
    os.close(folder)


PLANTED: dict[str, Callable[[World, Path], None]] = {
    "a link to a file": _link,
    "a link to a folder": _linked_folder,
    "a link to another owner's folder": _link_to_ada,
    "a link through /proc": _link_through_proc,
    "a hard link to a stranger's file": _hard_link,
    "a hard link to another owner's file": _hard_link_to_ada,
    "a FIFO": _fifo,
    "a character device": _device,
    "a block device": _block_device,
    "a socket": _socket,
}


async def test_planted_things_are_left_alone(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """All at once, at two levels, one of them a folder with an option's name, before the start and while it runs."""
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        put(rig, "good.jpg", good := picture("good"))
        rig.want({"good.jpg": good})
        places = [rig.folder, rig.folder / "-rf" / "--no-preserve-root"]
        places[1].mkdir(parents=True)
        for when in ("before", "while"):
            if when == "while":
                rig.start()
                await rig.agrees()
            for place in places:
                for number, plant in enumerate(PLANTED.values()):
                    plant(world, place / f"{when}{number}.jpg")
                    report.injected("hostile owner: planted things")
        before = world.foreign()
        for _ in range(2):
            done = await command("resync", "--rehash", env=rig.environment())
            assert done.code == 0, done
        put(rig, "after.jpg", after := picture("after"))
        rig.want({"after.jpg": after})

        async def synced() -> bool:
            return (await rig.library()).get(sha1(after)) == "active"

        await until(synced)
        assert await rig.library() == rig.wanted.library
        assert world.foreign() == before
        await world.nothing_leaked()
        report.survived("hostile owner: planted things", in_flight="2 files")


async def test_a_mount_point_in_the_folder(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        put(rig, "good.jpg", good := picture("good"))
        rig.want({"good.jpg": good})
        place = rig.folder / "mounted"
        place.mkdir()
        with mounted(place):
            (place / "foreign.jpg").write_bytes(foreign := picture("foreign"))
            report.injected("hostile owner: a mount point")
            rig.start()
            await rig.scanned()
            assert (await command("resync", env=rig.environment())).code == 0
            assert await rig.library() == {sha1(good): "active"}
            assert (place / "foreign.jpg").read_bytes() == foreign
            await world.nothing_leaked()
            rig.kill()
        report.survived("hostile owner: a mount point", in_flight="1 file")


# --- our own folder in the root ---


def _state_is_a_link(world: World, state: Path) -> None:
    state.symlink_to(world.secrets)


def _quarantine_is_a_link(world: World, state: Path) -> None:
    state.mkdir()
    (state / "quarantine").symlink_to(world.adas_folder)


def _another_root_id(_: World, state: Path) -> None:
    state.mkdir()
    (state / "root-id").write_text(f"{uuid4()}\n")


def _root_id_is_a_link(world: World, state: Path) -> None:
    state.mkdir()
    (state / "root-id").symlink_to(world.adas_folder / ".immich-dbsync" / "root-id")


def _adas_root_id(world: World, state: Path) -> None:
    state.mkdir()
    (state / "root-id").write_text((world.adas_folder / ".immich-dbsync" / "root-id").read_text())


def _a_file(_: World, state: Path) -> None:
    state.write_text("no folder")


FORGED: dict[str, Callable[[World, Path], None]] = {
    "the state folder is a link": _state_is_a_link,
    "the quarantine is a link": _quarantine_is_a_link,
    "another root-id": _another_root_id,
    "the root-id is a link": _root_id_is_a_link,
    "another owner's root-id": _adas_root_id,
    "a file in its place": _a_file,
}


@pytest.mark.parametrize("how", parts(FORGED, always=["the quarantine is a link"]))
async def test_a_forged_state_folder(library_url: str, immich_version: ImmichVersion, how: str, report: Report) -> None:
    """Nothing is moved through it, nothing counts as deleted under it, and Ada's sync goes on."""
    name = f"hostile owner: {how}"
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        files = {f"a/{number}.jpg": picture("mallory's") for number in range(4)}
        for file, content in files.items():
            put(rig, file, content)
        rig.want(files)
        rig.start()
        await rig.agrees()
        before = world.foreign()
        state = rig.folder / ".immich-dbsync"
        state.rename(rig.folder / ".aside")
        FORGED[how](world, state)
        report.injected(name)

        async def told() -> bool:
            return any(rig.logged(event) for event in ("root.health", "root.unusable", "quarantine.refused"))

        if (state / "root-id").exists():  # a folder like ours, which is noticed by its mark
            await until(told)
        await rig.trash(files["a/0.jpg"])  # would go to quarantine
        (rig.folder / "a/1.jpg").unlink()
        await until(told)
        (world.adas_folder / "new.jpg").write_bytes(new := picture("ada's new"))
        os.utime(world.adas_folder / "new.jpg", (1_700_000_000, 1_700_000_000))

        async def hers() -> bool:
            there = 'select count(*) from asset where "ownerId" = $1 and checksum = $2'
            return bool(await rig.stage.connection.fetchval(there, world.ada, sha1(new)))

        await until(hers)
        (world.adas_folder / "new.jpg").unlink()
        assert world.foreign() == before
        assert (rig.folder / "a/0.jpg").read_bytes() == files["a/0.jpg"]
        assert (await rig.library())[sha1(files["a/1.jpg"])] == "active"
        assert rig.running()
        assert "Traceback" not in rig.log()
        # She thinks better of it: with the folder back, all is made up for.
        state.rename(rig.folder / ".thrown away")
        (rig.folder / ".aside").rename(state)
        for file in ("a/0.jpg", "a/1.jpg"):
            del rig.wanted.files[file]
        rig.want(trashed=[files["a/0.jpg"], files["a/1.jpg"]])
        await rig.agrees(seconds=60)
        report.survived(name, in_flight="2 deeds")


# --- races ---


@pytest.mark.parametrize("what", parts(["files", "state"], always=["files"]))
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
async def test_a_racing_owner(
    library_url: str, immich_version: ImmichVersion, seed: int, what: str, report: Report
) -> None:
    """Folders, files, links and our own folder are exchanged while files are sent, taken away and brought back."""
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        for folder in ("a", "a/deep", "b"):
            for number in range(4):
                put(rig, f"{folder}/{number}.jpg", picture("mallory's"))
        rig.start()

        async def first() -> bool:
            return len(await rig.library()) == 12 and await rig.last_scan() is not None

        await until(first)
        before = world.foreign()
        victims = f"{world.secrets}:{world.adas_folder}"
        log = (rig.stage.home / "attacker.log").open("wb")
        attacker = Forked(
            "tests.faults.attacker",
            *(str(rig.folder), victims, str(_MALLORY), str(seed), what),
            env=os.environ,
            stdout=log.fileno(),
            stderr=log.fileno(),
        )
        log.close()
        try:
            for number in range(24):
                library = await rig.stage.connection.fetch(
                    'select id, status::text from asset where "ownerId" = $1 order by id', rig.stage.user
                )
                active = [str(row["id"]) for row in library if row["status"] == "active"]
                trashed = [str(row["id"]) for row in library if row["status"] == "trashed"]
                await rig.web("DELETE", "/assets", json={"ids": active[number % 3 :: 3]})
                if trashed:
                    await rig.web("POST", "/trash/restore/assets", json={"ids": trashed[number % 2 :: 2]})
                with suppress(FileNotFoundError):  # the folder is in the race
                    rig.put(f"b/new{number}.jpg", picture("new"))
                await command("resync", "--dry-run", env=rig.environment()) if number % 10 == 9 else None
                await rig.reacts("file.quarantined", "file.put_back", seconds=0.1)
                report.injected(f"hostile owner: a race for {what}")
            assert attacker.poll() is None, (rig.stage.home / "attacker.log").read_text()
        finally:
            attacker.kill()
            attacker.wait()
        assert world.foreign() == before
        await world.nothing_leaked()
        moved = len(rig.logged("file.quarantined")) + len(rig.logged("file.put_back"))
        refused = len(rig.logged("quarantine.refused")) + len(rig.logged("put_back.refused"))
        note = f"{moved} moves, {refused} refused"
        assert moved + refused > (20 if what == "files" else 0), note  # else there was no race
        report.survived(f"hostile owner: a race for {what}", in_flight="10 deeds", note=note)


# --- two owners, one picture ---


async def test_two_owners_with_the_same_pictures_stay_apart(
    library_url: str, immich_version: ImmichVersion, report: Report
) -> None:
    """Whatever one does with them, the other's files and assets stay as they are."""
    name = "hostile owner: the same pictures"
    async with world_of(library_url, immich_version) as world:
        rig = world.rig
        for file, content in world.adas.items():
            put(rig, file, content)
        rig.want(world.adas)
        rig.start()
        await rig.agrees()
        before = world.foreign()
        zero, one, two, three = world.adas.values()

        async def apart() -> None:
            report.injected(name)
            await rig.agrees()
            assert world.foreign() == before
            rows = await rig.stage.connection.fetch(
                'select checksum, status::text from asset where "ownerId" = $1', world.ada
            )
            assert {row["checksum"]: row["status"] for row in rows} == {sha1(c): "active" for c in world.adas.values()}

        (rig.folder / "0.jpg").unlink()
        del rig.wanted.files["0.jpg"]
        rig.want(trashed=[zero])
        await apart()
        put(rig, "0.jpg", zero)
        rig.want({"0.jpg": zero})
        await apart()
        await rig.trash(one)
        del rig.wanted.files["1.jpg"]
        rig.want(trashed=[one])
        await apart()
        await rig.restore(one)
        rig.want({"1.jpg": one})
        await apart()
        put(rig, "2.jpg", edited := picture("edited"))
        rig.want({"2.jpg": edited}, trashed=[two])
        await apart()
        (rig.folder / "3.jpg").rename(rig.folder / "moved.jpg")
        del rig.wanted.files["3.jpg"]
        rig.want({"moved.jpg": three})
        await apart()
        await rig.trash(three, force=True)
        await rig.stage.immich.idle()
        del rig.wanted.files["moved.jpg"]
        rig.want(gone=[three])
        await apart()
        # A file of hers that is moved over into Ada's folder is a deletion here and an arrival there.
        (rig.folder / "0.jpg").rename(world.adas_folder / "again.jpg")
        del rig.wanted.files["0.jpg"]
        rig.want(trashed=[zero])
        await rig.agrees()
        (world.adas_folder / "again.jpg").unlink()
        await apart()
        report.survived(name, in_flight="1 deed")
