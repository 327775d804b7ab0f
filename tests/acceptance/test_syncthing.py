"""A phone and the server with real Syncthing between them, and the service beside Immich."""

import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha1
from itertools import count
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import aiohttp
import pytest

from immich_dbsync.core.actions import Why
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Service, confined
from tests.acceptance.syncthing import PROGRAM, Syncthing, User
from tests.acls import grant
from tests.waiting import until

pytestmark = [
    pytest.mark.timeout(300),  # it waits more than it works
    pytest.mark.skipif(PROGRAM is None, reason="Syncthing is not installed; on Debian: apt-get install syncthing"),
    pytest.mark.newest,  # nothing here depends on Immich's tables
]

T = TypeVar("T")

SETTINGS = {"IMMICH_DBSYNC_MOVE_GRACE": "2"}
UPLOAD, TRASH, RESTORE = ("POST", "/api/assets"), ("DELETE", "/api/assets"), ("POST", "/api/trash/restore/assets")
COPY = ("PUT", "/api/assets/copy")
_PATIENCE_S = 40.0  # for each step; all take far less
_seconds = count(1_600_000_000)
_SLOWLY = 1500  # KiB/s, of a picture of
_LARGE = 3 << 20  # bytes


@dataclass
class Household:
    """The phone; the server with Immich and the service; and the folder that Syncthing keeps the same on both."""

    stage: Stage
    service: Service
    immich: aiohttp.ClientSession
    phone: Syncthing
    server: Syncthing

    async def take(self, name: str, content: bytes) -> None:
        """Take or edit a picture with the phone."""
        put(self.phone.folder / name, content)
        await self.phone.scan()

    async def delete(self, name: str) -> None:
        """Delete a picture, or an empty folder, on the phone."""
        path = self.phone.folder / name
        path.rmdir() if path.is_dir() else path.unlink()
        await self.phone.scan()

    async def move(self, name: str, new: str) -> None:
        """Move a picture or a folder on the phone."""
        target = self.phone.folder / new
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.phone.folder / name).rename(target)
        await self.phone.scan()

    async def ask(self, request: tuple[str, str], asset: UUID) -> None:
        """Have a person ask Immich to do something to an asset."""
        method, path = request
        url = self.stage.immich.url + path
        async with self.immich.request(method, url, json={"ids": [str(asset)]}) as response:
            response.raise_for_status()

    async def tied(self, name: str, content: bytes) -> UUID:
        """Wait until the picture at this path is tied to an active asset of this content: that asset."""

        async def asset() -> UUID | None:
            found: UUID | None = await self.stage.connection.fetchval(
                "select a.id from immich_dbsync_v1.records r join asset a on a.id = r.asset_id"
                " where r.path = $1 and a.checksum = $2 and a.status = 'active'",
                f"{self.server.folder.name}/{name}".encode(),
                sha1(content, usedforsecurity=False).digest(),
            )
            return found

        found = await self.until(asset)
        assert found is not None
        return found

    async def becomes(self, asset: UUID, status: str) -> None:
        """Wait until the asset has this status."""
        question = "select status::text = $2 from asset where id = $1"

        async def has() -> bool:
            return bool(await self.stage.connection.fetchval(question, asset, status))

        await self.until(has)

    async def both_have(self, pictures: dict[str, bytes]) -> None:
        """Wait until phone and server have these pictures and no others."""

        async def have() -> bool:
            return files(self.phone.folder) == files(self.server.folder) == pictures

        await self.until(have)
        assert await self.phone.troubles() == await self.server.troubles() == []

    async def until(self, check: Callable[[], Awaitable[T]]) -> T:
        """Wait for a condition while the service runs."""

        async def checked() -> T:
            assert self.service.process.poll() is None, self.service.text()
            return await check()

        try:
            return await until(checked, seconds=_PATIENCE_S)
        except AssertionError as error:
            error.add_note(f"on the phone: {sorted(files(self.phone.folder))}")
            error.add_note(f"on the server: {sorted(files(self.server.folder))}")
            raise

    def requests(self) -> list[tuple[str, str]]:
        """What Immich was asked for, by the service and by persons."""
        return list(self.stage.immich.requests)


def put(path: Path, content: bytes) -> None:
    """A picture as a camera or an editor leaves it, a second later than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, times=(taken := next(_seconds), taken))


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but what is only arriving, by path."""
    found: dict[str, bytes] = {}
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            with suppress(FileNotFoundError):  # it has just left
                if not name.startswith(".syncthing."):
                    found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@asynccontextmanager
async def living(stage: Stage, *, in_a_snap: bool = False) -> AsyncIterator[Household]:
    """A household; with its service and its folder ``in_a_snap``, where root may do no more than others."""
    # As it should be on a server: Syncthing is an ordinary user there, also where the service is root.
    nobody = pwd.getpwnam("nobody")
    user = User(nobody.pw_uid, nobody.pw_gid) if os.geteuid() == 0 else None
    stage.home.chmod(0o755)
    server = Syncthing("server", stage.home / "syncthing", stage.folder / "Camera", user)
    phone = Syncthing("phone", stage.home / "phone", stage.home / "pictures")
    if in_a_snap:
        grant(server.folder, 0, nobody.pw_uid)
    # Else Syncthing gives a file the mode that it has on the phone, and that limits what the list grants.
    server.share(phone, "dynamic", ignorePerms=str(in_a_snap).lower())
    with Service(stage.environment(), stage.log, before=confined() if in_a_snap else ()) as service:
        async with server, aiohttp.ClientSession(headers={"x-api-key": stage.key}) as immich:
            phone.share(server, await server.address())
            async with phone:
                await phone.until_connected(server)
                await service.until_logged("scan.finished")
                yield Household(stage, service, immich, phone, server)


def open_socket(url: str) -> None:
    """Let everybody reach the socket of this database, which is there for its own user."""
    Path(parse_qs(urlsplit(url).query)["host"][0]).chmod(0o755)


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    async with staged(library_url, version=immich_version, settings=SETTINGS) as stage:
        yield stage


@pytest.fixture
async def household(stage: Stage) -> AsyncIterator[Household]:
    async with living(stage) as household:
        yield household


async def test_what_the_phone_does_to_its_pictures_happens_in_immich(household: Household) -> None:
    first, second, third, edited = map(picture, range(4))
    await household.take("DCIM/1.png", first)
    await household.take("DCIM/2.png", second)
    await household.take("DCIM/3.png", third)
    one, two, three = [await household.tied(f"DCIM/{n}.png", c) for n, c in enumerate((first, second, third), 1)]
    assert household.requests() == [UPLOAD] * 3

    # Edited: the new version takes the old one's place.
    await household.take("DCIM/1.png", edited)
    new = await household.tied("DCIM/1.png", edited)
    assert new != one
    await household.becomes(one, "trashed")

    # Moved, and its folder renamed: Immich is asked for nothing.
    before = household.requests()
    assert sorted(before[3:]) == sorted([UPLOAD, COPY, TRASH])
    await household.move("DCIM/2.png", "Trip/2.png")
    assert await household.tied("Trip/2.png", second) == two
    await household.move("Trip", "Trip to the sea")
    assert await household.tied("Trip to the sea/2.png", second) == two
    await household.both_have({"DCIM/1.png": edited, "Trip to the sea/2.png": second, "DCIM/3.png": third})

    # Deleted.
    await household.delete("DCIM/3.png")
    await household.becomes(three, "trashed")
    assert household.requests() == [*before, TRASH]
    await household.becomes(two, "active")
    await household.both_have({"DCIM/1.png": edited, "Trip to the sea/2.png": second})


async def test_the_phone_follows_what_is_trashed_and_restored_in_immich(household: Household) -> None:
    first, second = map(picture, range(2))
    await household.take("DCIM/1.png", first)
    await household.take("Trip/2.png", second)
    one, two = await household.tied("DCIM/1.png", first), await household.tied("Trip/2.png", second)
    taken = (household.phone.folder / "Trip/2.png").stat().st_mtime_ns

    await household.ask(TRASH, two)
    await household.both_have({"DCIM/1.png": first})
    await household.ask(RESTORE, two)
    await household.both_have({"DCIM/1.png": first, "Trip/2.png": second})
    assert (household.phone.folder / "Trip/2.png").stat().st_mtime_ns == taken

    # Also when the phone has removed the folder in between. What comes back belongs to Syncthing's user, who can still
    # do with it what the phone wants.
    await household.ask(TRASH, two)
    await household.both_have({"DCIM/1.png": first})
    await household.delete("Trip")

    async def gone() -> bool:
        return not (household.server.folder / "Trip").exists()

    await household.until(gone)
    await household.ask(RESTORE, two)
    await household.both_have({"DCIM/1.png": first, "Trip/2.png": second})
    await household.tied("Trip/2.png", second)
    await household.delete("Trip/2.png")
    await household.delete("Trip")
    await household.becomes(two, "trashed")
    await household.until(gone)
    await household.becomes(one, "active")
    assert household.requests() == [UPLOAD] * 2 + [TRASH, RESTORE] * 2 + [TRASH]
    assert not any(name.startswith(".immich-dbsync") for name in files(household.phone.folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="has to be root, to give up root's powers")
async def test_in_a_snap_an_access_control_list_takes_the_place_of_roots_powers(stage: Stage) -> None:
    open_socket(stage.database_url)
    content = picture(1)
    async with living(stage, in_a_snap=True) as household:
        await household.take("Trip/1.png", content)
        asset = await household.tied("Trip/1.png", content)
        await household.ask(TRASH, asset)
        await household.both_have({})
        await household.delete("Trip")

        async def gone() -> bool:
            return not (household.server.folder / "Trip").exists()

        await household.until(gone)
        await household.ask(RESTORE, asset)
        await household.both_have({"Trip/1.png": content})
        await household.delete("Trip/1.png")
        await household.becomes(asset, "trashed")
        await household.both_have({})


async def test_a_phone_that_was_away_and_immich_agree_when_it_is_back(household: Household) -> None:
    contents = dict(zip("abcd", map(picture, range(4)), strict=True))
    for name, content in contents.items():
        await household.take(f"{name}.png", content)
    assets = {name: await household.tied(f"{name}.png", content) for name, content in contents.items()}
    on_phone, on_server, later = map(picture, range(10, 13))
    phone, server = household.phone, household.server

    await phone.__aexit__(None, None, None)
    await server.part_from(phone)
    await household.ask(TRASH, assets["a"])
    await household.ask(TRASH, assets["b"])
    put(phone.folder / "b.png", on_phone)
    (phone.folder / "c.png").unlink()
    put(server.folder / "d.png", on_server)
    await server.scan()
    kept = await household.tied("d.png", on_server)
    put(phone.folder / "d.png", later)
    await phone.__aenter__()
    await phone.scan()  # before it hears of the server's files, as a phone that was on the way
    await server.meet(phone)

    async def conflict() -> list[str]:
        return [name for name in files(phone.folder) if ".sync-conflict-" in name]

    # Trashed in Immich, it goes from the phone as well, but not where it was edited there. Deleted on the phone, it is
    # trashed. Edited on both sides, there are two pictures: Syncthing makes a copy of the older one.
    [copy] = await household.until(conflict)
    await household.both_have({"b.png": on_phone, "d.png": later, copy: on_server})
    await household.tied("b.png", on_phone)
    await household.becomes(assets["b"], "trashed")
    await household.becomes(assets["c"], "trashed")
    await household.tied("d.png", later)
    assert await household.tied(copy, on_server) == kept
    assert await household.stage.connection.fetchval("select count(*) from asset where status = 'active'") == 3


async def test_a_picture_that_is_still_arriving_is_not_uploaded(household: Household) -> None:
    limits = {"limitBandwidthInLan": True, "maxRecvKbps": _SLOWLY}
    await household.server.ask("PATCH", "config/options", limits)
    content = picture(1) + os.urandom(_LARGE)
    await household.take("large.png", content)

    async def arriving() -> bool:
        return bool(list(household.server.folder.glob(".syncthing.*.tmp")))

    async def arrived() -> bool:
        there = (household.server.folder / "large.png").exists()
        assert there or not household.requests()
        return there

    await household.until(arriving)
    await household.until(arrived)
    await household.tied("large.png", content)
    assert household.requests() == [UPLOAD]


async def test_nothing_is_deleted_while_syncthing_does_not_share_the_folder(household: Household) -> None:
    server, owners = household.server, "from immich_dbsync_v1.owners"
    first, second, third = map(picture, range(3))
    await household.take("1.png", first)
    await household.take("2.png", second)
    one, two = await household.tied("1.png", first), await household.tied("2.png", second)

    async def known() -> bool:
        return bool(await household.stage.connection.fetchval(f"select stfolders = array['Camera'::bytea] {owners}"))

    async def problem() -> str:
        told = f"select coalesce(problems -> 'root' ->> 'text', '') {owners}"
        return str(await household.stage.connection.fetchval(told))

    async def left() -> bool:
        return bool(await household.stage.connection.fetchval(f"select undecided ? $1 {owners}", Why.UNHEALTHY.value))

    await household.until(known)
    shared = await server.configuration()
    await server.configure(None)
    assert f"{server.folder}/.stfolder is gone" in await household.until(problem)
    await household.ask(TRASH, one)
    (server.folder / "2.png").unlink()
    await household.until(left)
    assert files(server.folder) == {"1.png": first}
    await household.becomes(two, "active")
    put(server.folder / "3.png", third)
    await household.tied("3.png", third)
    await household.ask(RESTORE, one)

    # Shared again, Syncthing has forgotten that the file ever was here. It brings it back, and so the asset lives.
    await server.configure(shared)
    await household.both_have({"1.png": first, "2.png": second, "3.png": third})
    assert await household.tied("1.png", first) == one
    assert await household.tied("2.png", second) == two

    async def well() -> bool:
        return await problem() == ""

    await household.until(well)
