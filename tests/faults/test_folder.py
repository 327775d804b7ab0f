"""The folder does everything that file systems, file sync tools and people do to one, with work in flight."""

import asyncio
import hashlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import command, without_override
from tests.faults.parts import parts
from tests.faults.report import Report
from tests.faults.rig import Rig, by_tcp, picture, rigged, sha1
from tests.faults.traffic import Traffic
from tests.mounts import mounted
from tests.waiting import until

pytestmark = [pytest.mark.newest, pytest.mark.timeout(300)]

_TIMES = 3


async def until_logged(rig: Rig, event: str, *, beyond: int = 0, seconds: float = 20.0) -> None:
    async def said() -> bool:
        return len(rig.logged(event)) > beyond

    await until(said, seconds=seconds)


async def ends_well(rig: Rig, traffic: Traffic) -> None:
    """Both sides agree, a full comparison finds nothing, nothing is lost, and the log has no traceback."""
    await rig.agrees(seconds=60)
    assert rig.running()
    await rig.resync()
    await rig.nothing_is_lost(traffic.contents)
    assert "Traceback" not in rig.log()


# --- files that do not keep still ---


def _handle(folder: Path, number: int, content: bytes, step: int) -> None:
    """One thing that somebody does to a file of theirs while it is hashed or sent."""
    path = folder / f"busy{number}.jpg"
    match step % 7:
        case 0:
            path.write_bytes(content)
        case 1:
            with path.open("ab") as file:
                file.write(content[:100])
        case 2:
            os.truncate(path, 50)
        case 3:
            path.unlink()
        case 4:
            path.write_bytes(content * 50)
        case 5:
            path.rename(folder / f"busy{number} again.jpg")
        case 6:
            (folder / f"busy{number} again.jpg").rename(path)


@pytest.mark.long
async def test_files_that_do_not_keep_still(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """They grow, shrink, change, vanish and come back under the service's eyes; what counts is what they end as."""
    async with rigged(library_url, immich_version, settle_time="0") as rig:
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(1)
        chosen = random.Random(4)
        for number in itertools.chain(*[range(12)] * 21):
            step = report.times("folder: a file handled while in use") // 12
            with suppress(FileNotFoundError):
                _handle(rig.folder, number, picture(f"{number} {step}"), step)
            report.injected("folder: a file handled while in use")
            await rig.reacts(seconds=chosen.random() * 0.01)
        for number in range(12):
            rig.put(f"busy{number}.jpg", content := picture(f"last {number}"))
            rig.want({f"busy{number}.jpg": content})
        await traffic.deeds()

        async def agrees() -> bool:
            library = await rig.library()
            active = {key for key, status in library.items() if status == "active"}
            wanted = {key for key, status in rig.wanted.library.items() if status == "active"}
            return rig.files() == rig.wanted.files and active == wanted

        await until(agrees, seconds=60)
        # What was sent of contents that did not last is in Immich's trash.
        rig.wanted.library |= {key: "trashed" for key in await rig.library() if key not in rig.wanted.library}
        await ends_well(rig, traffic)
        report.survived("folder: a file handled while in use", in_flight="12 files")


# --- rights ---


@pytest.mark.parametrize("what", parts(["file", "folder", "root"], always=["folder"]))
async def test_permission_denied(library_url: str, immich_version: ImmichVersion, what: str, report: Report) -> None:
    """To a service that may read only what its user may. What can't be read is not taken for deleted."""
    name = f"folder: permission denied, {what}"
    async with rigged(library_url, immich_version) as rig, by_tcp(rig):
        traffic = Traffic(rig)
        rig.start(before=without_override())
        await traffic.stock(_TIMES * 2)
        closed = rig.folder / "closed"
        rig.put("closed/old.jpg", old := picture("old"))
        rig.want({"closed/old.jpg": old})
        await rig.agrees()
        for number in range(_TIMES):
            path = {"file": closed / f"{number}.jpg", "folder": closed, "root": rig.folder}[what]
            rig.put(f"closed/.{number}.tmp", content := picture("closed"))
            if what == "file":
                (closed / f".{number}.tmp").chmod(0)
            (closed / f".{number}.tmp").rename(closed / f"{number}.jpg")
            before = len(rig.logged("root.unusable"))
            path.chmod(0)
            report.injected(name)
            if what == "root":
                await until_logged(rig, "root.unusable", beyond=before)
            else:
                await traffic.deeds()
                seen = await rig.last_scan()
                await command("resync", env=rig.environment())
                await rig.scanned(since=seen)
            assert (await rig.library())[sha1(old)] == "active"
            path.chmod(0o755)
            rig.want({f"closed/{number}.jpg": content})
            traffic.contents.append(content)
            await traffic.deeds()
            if what != "root":
                await command("resync", env=rig.environment())  # a chmod is no event
            await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived(name, in_flight="12 deeds")


# --- file systems ---


@asynccontextmanager
async def on_a_disk_of_its_own(url: str, version: ImmichVersion, *, inodes: int = 0) -> AsyncIterator[tuple[Rig, Path]]:
    """A rig whose sync root is a small file system."""
    async with rigged(url, version) as rig:
        place = rig.folder.parent
        rig.folder.rmdir()
        with mounted(place, inodes=inodes):
            rig.folder.mkdir()
            try:
                yield rig, place
            finally:
                rig.kill()


@pytest.mark.long
async def test_a_file_system_turns_read_only(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """What Immich deleted leaves the folder once it can."""
    async with on_a_disk_of_its_own(library_url, immich_version) as (rig, place):
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(_TIMES * 4)
        for _ in range(_TIMES):
            remount(place, "ro")
            before = len(rig.logged("quarantine.refused"))
            await traffic.immich_deeds(2)
            report.injected("folder: file system read-only")
            await until_logged(rig, "quarantine.refused", beyond=before)
            remount(place, "rw")
            await traffic.deeds()
            await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived("folder: file system read-only", in_flight="10 deeds")


async def test_a_file_system_is_full(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """No room for a folder in quarantine, nor for one that comes back."""
    async with on_a_disk_of_its_own(library_url, immich_version, inodes=200) as (rig, place):
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(_TIMES * 3)
        deep = {f"deep{number}/er/{number}.jpg": picture("deep") for number in range(_TIMES)}
        for name, content in deep.items():
            rig.put(name, content)
        rig.want(deep)
        await rig.agrees()
        for name, content in deep.items():
            ballast = place / "ballast"
            ballast.mkdir()
            fill(ballast)
            before = len(rig.logged("quarantine.refused"))
            await rig.trash(content)
            report.injected("folder: file system full")
            await until_logged(rig, "quarantine.refused", beyond=before)
            assert (rig.folder / name).exists()
            shutil.rmtree(ballast)
            del rig.wanted.files[name]
            rig.want(trashed=[content])
            await traffic.deeds()
            await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived("folder: file system full", in_flight="7 deeds")


@pytest.mark.parametrize("room", ["files", "bytes"])
async def test_a_file_system_is_full_at_first_sight(
    library_url: str, immich_version: ImmichVersion, report: Report, room: str
) -> None:
    """No room for the mark: that is said, nothing of it is left behind, and with room everything is synced."""
    async with on_a_disk_of_its_own(library_url, immich_version, inodes=200 if room == "files" else 0) as (rig, place):
        traffic = Traffic(rig)
        (rig.folder / ".immich-dbsync").mkdir()
        await traffic.arrivals(5)
        ballast = place / "ballast"
        ballast.mkdir()
        if room == "files":
            fill(ballast)
        else:
            with suppress(OSError), (ballast / "0").open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        rig.start()
        report.injected("folder: file system full at first sight")
        await until_logged(rig, "root.unusable")
        assert "No space left on device" in rig.logged("root.unusable")[-1]["reason"]
        assert [*(rig.folder / ".immich-dbsync").iterdir()] == []
        shutil.rmtree(ballast)
        await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived("folder: file system full at first sight", in_flight="5 deeds")


async def test_no_rename_reaches_the_quarantine(
    library_url: str, immich_version: ImmichVersion, report: Report
) -> None:
    """EXDEV, as between two subvolumes: copied, compared, and only then taken away."""
    async with rigged(library_url, immich_version) as rig:
        traffic = Traffic(rig)
        rig.switch("exdev")
        rig.start(with_seam=True)
        await traffic.stock(6)
        for _ in range(6):
            report.injected("folder: EXDEV")
            await traffic.deeds()
        await ends_well(rig, traffic)
        report.survived("folder: EXDEV", in_flight="36 deeds")


@pytest.mark.long
async def test_a_disk_that_can_not_be_read(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """EIO: the file is left alone, all others go on; read again when somebody asks."""
    async with rigged(library_url, immich_version) as rig:
        traffic = Traffic(rig)
        rig.start(with_seam=True)
        await traffic.stock(_TIMES * 2)
        rig.switch("eio", "bad.jpg")
        for number in range(_TIMES):
            before = len(rig.logged("file.not_taken"))
            rig.put(f"{number} bad.jpg", content := picture("bad"))
            report.injected("folder: EIO")
            await traffic.deeds()
            await until_logged(rig, "file.not_taken", beyond=before)
            traffic.contents.append(content)
            rig.want({f"{number} bad.jpg": content})
        rig.switch("eio", None)
        await traffic.deeds()
        await command("resync", env=rig.environment())
        await ends_well(rig, traffic)
        report.survived("folder: EIO", in_flight="24 deeds")


# --- the root goes away ---


async def test_the_root_is_unmounted(
    library_url: str, immich_version: ImmichVersion, tmp_path: Path, report: Report
) -> None:
    """What is below an unmounted folder is not deleted; with the mount back all is made up for."""
    async with rigged(library_url, immich_version) as rig:
        disk = tmp_path / "disk"
        disk.mkdir()
        traffic = Traffic(rig)
        with bound(disk, rig.folder):
            rig.start()
            await traffic.stock(_TIMES * 2)
        for _ in range(_TIMES):
            before = len(rig.logged("root.unusable"))
            report.injected("folder: root unmounted")
            await traffic.immich_deeds(1)
            await until_logged(rig, "root.unusable", beyond=before)
            await rig.nothing_is_trashed_but(rig.wanted)
            with bound(disk, rig.folder):
                await traffic.deeds()
                await rig.agrees(seconds=60)
        with bound(disk, rig.folder):
            await ends_well(rig, traffic)
            rig.kill()
        report.survived("folder: root unmounted", in_flight="8 deeds")


@pytest.mark.long
async def test_the_root_is_replaced(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    async with rigged(library_url, immich_version) as rig:
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(_TIMES * 2)
        aside = rig.folder.with_name("aside")
        for _ in range(_TIMES):
            before = len(rig.logged("root.unusable"))
            rig.folder.rename(aside)
            rig.folder.mkdir()
            (rig.folder / "a stranger's.jpg").write_bytes(stranger := picture("stranger"))
            report.injected("folder: root replaced")
            await traffic.immich_deeds(1)
            await until_logged(rig, "root.unusable", beyond=before)
            await rig.nothing_is_trashed_but(rig.wanted)
            assert sha1(stranger) not in await rig.library()
            shutil.rmtree(rig.folder)
            aside.rename(rig.folder)
            await traffic.deeds()
            await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived("folder: root replaced", in_flight="8 deeds")


@pytest.mark.long
async def test_the_root_is_emptied(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """That waits for a person; with the files back there is nothing to be decided any more."""
    async with rigged(library_url, immich_version) as rig:
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(_TIMES * 4)
        for _ in range(_TIMES):
            before = len(rig.logged("hold.opened"))
            files = rig.files()
            for name in files:
                (rig.folder / name).unlink()
            report.injected("folder: root emptied")
            await until_logged(rig, "hold.opened", beyond=before)
            await traffic.immich_deeds(1, files=False)
            await rig.nothing_is_trashed_but(rig.wanted)
            for name, content in files.items():
                if name in rig.wanted.files:
                    rig.put(name, content)
            await rig.agrees(seconds=60)
            await traffic.deeds()
            await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived("folder: root emptied", in_flight="8 deeds")


# --- inotify ---


async def test_the_queue_of_events_overflows(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """More happens while the service is stopped than the kernel keeps: the rest is found by looking."""
    limit = kept_events()
    async with rigged(library_url, immich_version) as rig:
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(2)
        process = rig.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        noise = rig.folder / "noise.txt"
        for _ in range(limit):
            noise.touch()
            noise.unlink()
        await traffic.deeds(2)
        report.injected("folder: inotify queue overflows")
        process.send_signal(signal.SIGCONT)
        await ends_well(rig, traffic)
        report.survived("folder: inotify queue overflows", in_flight="12 deeds")


@pytest.mark.long
async def test_the_limit_of_watches_is_reached(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """In a user namespace with a limit of its own: polled instead, and said with what to do."""
    limited = 'echo 4 > /proc/sys/user/max_inotify_watches; exec "$@"'
    async with rigged(library_url, immich_version) as rig, by_tcp(rig):
        traffic = Traffic(rig)
        rig.start(before=["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh"])
        await traffic.stock(2)
        report.injected("folder: inotify watches used up")
        for number in range(8):
            (rig.folder / f"more{number}").mkdir()
        await until_logged(rig, "root.watch")
        await traffic.deeds(2)
        await rig.agrees(seconds=90)
        assert "fs.inotify.max_user_watches" in rig.logged("root.watch")[-1]["reason"]
        await ends_well(rig, traffic)
        report.survived("folder: inotify watches used up", in_flight="12 deeds")


# --- names and stats ---

_NAMES = (
    b"\xff\xfe not utf-8.jpg",
    b"x" * 251 + b".jpg",
    b"new\nline.jpg",
    b"tab\tand\x01control\x7f.jpg",
    b"-rf --force.jpg",
    b"--help.jpg",
    "cafe\u0301.jpg".encode(),
    "caf\u00e9.jpg".encode(),
    b"Twin.JPG",
    b"twin.jpg",
    b"$(touch pwned)`id`;.jpg",
    b"' or 1=1; drop table asset; --.jpg",
    b"%s%n{}.jpg",
    b" leading and trailing .jpg",
    b"a/b/../c.jpg".replace(b"/", b"\xe2\x88\x95"),
    "\u202egnp.jpg".encode(),
    "\U0001f4f7.jpg".encode(),
)


async def test_names_of_every_kind(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """There, to the trash from either side, and back."""
    deep = b"/".join([b"d"] * 200) + b"/"
    names = [os.fsdecode(name) for name in (*_NAMES, deep + b"deep.jpg")]
    async with rigged(library_url, immich_version) as rig:
        files = {name: picture("name") for name in names}
        rig.put("stays.jpg", stays := picture("stays"))
        rig.want({"stays.jpg": stays})
        for name, content in files.items():
            rig.put(name, content)
            report.injected("folder: a strange name")
        rig.want(files)
        rig.start()
        await rig.agrees()
        await rig.trash(*files.values())
        for name in files:
            del rig.wanted.files[name]
        rig.want(trashed=files.values())
        await rig.agrees()
        await rig.restore(*files.values())
        rig.want(files)
        await rig.agrees()
        for name in names:
            (rig.folder / name).unlink()
            del rig.wanted.files[name]
        rig.want(trashed=files.values())
        await rig.agrees()
        for name, content in files.items():
            rig.put(name, content)
        rig.want(files)
        await rig.agrees()
        await rig.resync()
        assert "Traceback" not in rig.log()
        report.survived("folder: a strange name", in_flight=f"{len(names)} files")


async def test_dates_out_of_the_ordinary(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """1970, before it, 2100, and the last that a file system may keep; there, to the trash, and back with its date."""
    dates = {"epoch": 0, "before": -86_400, "2100": 4_102_444_800, "far": 253_402_300_800}
    async with rigged(library_url, immich_version) as rig:
        rig.start()
        files = {f"{name}.jpg": picture("dated") for name in dates}
        rig.put("stays.jpg", stays := picture("stays"))
        rig.want({"stays.jpg": stays})
        for (name, content), date in zip(files.items(), dates.values(), strict=True):
            rig.put(name, content, mtime=date)
            report.injected("folder: a strange date")
        rig.want(files)
        kept = {name: (rig.folder / f"{name}.jpg").stat().st_mtime for name in dates}  # not every file system's last
        await rig.agrees()
        for deed in (rig.trash, rig.restore):
            await deed(*files.values())
            if deed == rig.trash:
                for name in files:
                    del rig.wanted.files[name]
                rig.want(trashed=files.values())
            else:
                rig.want(files)
            await rig.agrees()
        assert kept == {name: (rig.folder / f"{name}.jpg").stat().st_mtime for name in dates}
        await rig.resync()
        assert "Traceback" not in rig.log()
        report.survived("folder: a strange date", in_flight="4 files")


async def test_the_clock_is_set(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    """An hour back, a day ahead, and right again, with files that are new by one clock and old by the other."""
    async with rigged(library_url, immich_version) as rig:
        traffic = Traffic(rig)
        rig.start(with_seam=True)
        await traffic.stock(4)
        for seconds in ("-3600", "86400", "0"):
            rig.switch("clock", seconds)
            report.injected("folder: the clock is set")
            rig.put("fresh.jpg", content := picture("fresh"), mtime=time.time())
            rig.want({f"{seconds}.jpg": content})
            (rig.folder / "fresh.jpg").rename(rig.folder / f"{seconds}.jpg")
            await traffic.deeds()
            await rig.agrees(seconds=60)
        await ends_well(rig, traffic)
        report.survived("folder: the clock is set", in_flight="7 deeds")


# --- large and many ---


@pytest.mark.long
async def test_a_file_of_five_gigabytes(library_url: str, immich_version: ImmichVersion, report: Report) -> None:
    size = 5 << 30
    digest = hashlib.sha1(usedforsecurity=False)
    for _ in range(size >> 20):
        digest.update(bytes(1 << 20))
    async with rigged(library_url, immich_version) as rig:
        rig.put("stays.jpg", picture("stays"))
        rig.start()
        sparse = rig.folder / ".sparse"
        sparse.touch()
        os.truncate(sparse, size)
        os.utime(sparse, (1_700_000_000, 1_700_000_000))
        sparse.rename(rig.folder / "sparse.mp4")

        async def has(status: str) -> bool:
            return (await rig.library()).get(digest.digest()) == status

        await until(lambda: has("active"), seconds=240)
        report.injected("folder: a sparse file of 5 GiB")
        (rig.folder / "sparse.mp4").unlink()
        await until(lambda: has("trashed"), seconds=30)
        assert rig.peak_memory() < 300 << 20
        report.survived("folder: a sparse file of 5 GiB", in_flight="1 file")


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_hundred_thousand_files_in_one_burst(
    library_url: str, immich_version: ImmichVersion, report: Report
) -> None:
    """Of ten thousand contents, so that it is the files that are many and not what the server stores."""
    contents = [picture("burst") for _ in range(10_000)]
    async with rigged(library_url, immich_version) as rig:
        rig.start()
        await rig.scanned()

        def create() -> None:
            for folder in range(100):
                (rig.folder / f"f{folder}").mkdir()
                for number in range(1000):
                    content, name = contents[(folder % 10) * 1000 + number], f"f{folder}/{number}.jpg"
                    (rig.folder / name).write_bytes(content)
                    rig.wanted.files[name] = content

        await asyncio.to_thread(create)
        report.injected("folder: 100,000 files in one burst")
        rig.want(active=contents)

        async def recorded() -> bool:
            count: int = await rig.stage.connection.fetchval(
                "select count(*) from immich_dbsync_v1.records where asset_id is not null"
            )
            return count == 100_000

        await until(recorded, seconds=800)
        await rig.agrees(seconds=60)
        assert rig.peak_memory() < 300 << 20
        report.survived("folder: 100,000 files in one burst", in_flight="100,000 files")


# --- ways ---


@contextmanager
def bound(source: Path, place: Path) -> Iterator[None]:
    """``source`` is mounted at ``place``, as a disk of its own would be."""
    subprocess.run(["mount", "--bind", source, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def kept_events() -> int:
    """How many events the kernel keeps for one who watches."""
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", place], check=True)


def fill(ballast: Path) -> None:
    """Leave no room for a file on the file system of this folder."""
    with suppress(OSError):
        for number in itertools.count():
            (ballast / f"{number}").touch()
