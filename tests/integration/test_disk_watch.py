"""Watching: whatever happens in the folder, a hint comes that covers it."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from immich_dbsync.disk import watch as watching
from immich_dbsync.disk.root import Root
from immich_dbsync.disk.watch import FolderLimit, Hints, Watch, WatchLimit, WatchMode, watch
from immich_dbsync.errors import RootUnusable

DEADLINE = 10


class Watched:
    """A running watch, and what it hinted at since `clear`."""

    def __init__(self, watch: Watch, folder: Path) -> None:
        self.watch = watch
        self.folder = folder
        self.paths: set[bytes] = set()
        self.rescans = 0
        self._more = asyncio.Condition()

    async def follow(self) -> None:
        async for hints in self.watch:
            async with self._more:
                self.paths |= hints.paths
                self.rescans += hints.rescan
                self._more.notify_all()

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE), self._more:
            await self._more.wait_for(met)

    async def covers(self, path: bytes) -> None:
        """Wait until a consumer that looks where it is told to would have seen this path."""
        parts = path.split(b"/")
        await self.until(lambda: any(b"/".join(parts[:n]) in self.paths for n in range(1, len(parts) + 1)))


def make(folder: Path) -> None:
    folder.mkdir()


def exchange(folder: Path, away: Path) -> None:
    folder.rename(away)
    folder.mkdir()


@asynccontextmanager
async def watched(folder: Path, **options: float) -> AsyncIterator[Watched]:
    stop = asyncio.Event()
    with Root(folder) as root:
        each = Watched(Watch(root, stop, **options), folder)  # type: ignore[arg-type]
        task = asyncio.create_task(each.follow())
        try:
            await each.until(lambda: each.rescans >= 1)
            yield each
        finally:
            stop.set()
            async with asyncio.timeout(DEADLINE):
                await task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "a").mkdir(parents=True)
    return folder


async def test_a_file_renamed_in_created_and_deleted(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"1")
    async with watched(folder) as each:
        (tmp_path / "x.jpg").rename(folder / "a/x.jpg")
        await each.covers(b"a/x.jpg")
        (folder / "y.jpg").write_bytes(b"1")
        await each.covers(b"y.jpg")
        each.paths.clear()
        (folder / "a/x.jpg").unlink()
        await each.covers(b"a/x.jpg")
        assert each.watch.mode is WatchMode.NATIVE


async def test_new_folders_are_watched_and_scanned(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/c").mkdir(parents=True)
    (tmp_path / "tree/c/x.jpg").write_bytes(b"1")
    async with watched(folder) as each:
        (folder / "p/q").mkdir(parents=True)
        (folder / "p/q/x.jpg").write_bytes(b"1")
        await each.covers(b"p/q/x.jpg")
        (tmp_path / "tree").rename(folder / "p/tree")
        await each.until(lambda: b"p/tree/c" in each.paths)
        each.paths.clear()
        (folder / "p/tree/c/later.jpg").write_bytes(b"1")
        (folder / "p/q/later.jpg").write_bytes(b"1")
        await each.covers(b"p/tree/c/later.jpg")
        await each.covers(b"p/q/later.jpg")


async def test_many_new_folders_do_not_stop_everything_again_and_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher is made while nothing else runs, so its making rests in proportion to what it took."""
    monkeypatch.setattr(watching, "_REST", 1e9)
    async with watched(folder) as each:
        (folder / "p").mkdir()
        await each.until(lambda: bool(each.watch._young_folders))
        (folder / "q").mkdir()
        (folder / "q/x.jpg").write_bytes(b"1")
        await each.covers(b"q/x.jpg")
        assert each.watch._young_folders == {b"p"}
        each.watch._rest_until = 0
        (folder / "a/wake.jpg").write_bytes(b"1")
        await each.until(lambda: each.watch._young_folders == {b"p", b"q"})
        each.paths.clear()
        (folder / "q/later.jpg").write_bytes(b"1")
        await each.covers(b"q/later.jpg")


async def test_a_renamed_folder_is_watched_under_its_new_name(folder: Path) -> None:
    (folder / "a/c").mkdir()
    async with watched(folder) as each:
        for old, new in (("a", "b"), ("b", "a")):
            each.paths.clear()
            (folder / old).rename(folder / new)
            await each.until(lambda old=old, new=new: {old.encode(), f"{new}/c".encode()} <= each.paths)  # type: ignore[misc]
            (folder / new / "c/x.jpg").write_bytes(b"1")
            await each.until(lambda new=new: f"{new}/c/x.jpg".encode() in each.paths)  # type: ignore[misc]


async def test_a_deleted_tree_is_hinted_at(folder: Path) -> None:
    (folder / "a/b").mkdir()
    (folder / "a/b/x.jpg").write_bytes(b"1")
    async with watched(folder) as each:
        shutil.rmtree(folder / "a")
        await each.until(lambda: b"a" in each.paths)


async def test_hidden_folders_and_linked_ones_are_not_watched(folder: Path, tmp_path: Path) -> None:
    (folder / ".immich-dbsync/quarantine").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (folder / "link").symlink_to(tmp_path / "other")
    async with watched(folder) as each:
        (folder / "a/late").symlink_to(tmp_path / "other")
        (folder / ".immich-dbsync/quarantine/x.jpg").write_bytes(b"1")
        (folder / ".hidden.jpg").write_bytes(b"1")
        (tmp_path / "other/x.jpg").write_bytes(b"1")
        (folder / "a/end.jpg").write_bytes(b"1")
        await each.covers(b"a/end.jpg")
        assert each.paths <= {b"a/late", b"a/end.jpg"}


async def test_a_name_that_is_not_utf_8_costs_a_rescan_and_not_the_watch(folder: Path) -> None:
    async with watched(folder) as each:
        (folder / "a" / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"1")
        await each.until(lambda: each.rescans >= 2)
        (folder / "good.jpg").write_bytes(b"1")
        await each.covers(b"good.jpg")


async def test_a_folder_that_can_t_be_watched_is_hinted_at_in_turn(folder: Path) -> None:
    (folder / "a" / os.fsdecode(b"bad\xff")).mkdir()
    async with watched(folder, poll_s=0.05) as each:
        await each.until(lambda: {b"a", b"a/bad\xff"} <= each.paths)
        (folder / "a" / os.fsdecode(b"bad\xff") / "new").mkdir()
        await each.until(lambda: b"a/bad\xff/new" in each.watch._unwatchable)


async def test_a_root_that_can_t_be_watched_is_compared_as_a_whole_when_it_changes(folder: Path) -> None:
    (folder / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"1")
    async with watched(folder) as each:
        await each.until(lambda: each.rescans >= 2)  # what changed since the first is not known
        (folder / "good.jpg").write_bytes(b"1")
        await each.until(lambda: each.rescans >= 3)


async def test_reading_a_file_whose_name_is_not_utf_8_does_not_end_the_watch(folder: Path) -> None:
    """To read is an event as well: each scan would end the watch, and that ask for a scan."""
    (folder / "a" / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"1")
    (folder / "b").mkdir()
    async with watched(folder) as each:
        (folder / "a" / os.fsdecode(b"bad\xff.jpg")).read_bytes()
        await each.until(lambda: b"a" in each.paths)
        each.paths.clear()
        (folder / "a/good.jpg").write_bytes(b"1")
        await each.covers(b"a/good.jpg")
        (folder / "b/x.jpg").write_bytes(b"1")
        await each.covers(b"b/x.jpg")
        (folder / "a/new").mkdir()
        await each.until(lambda: b"a/new" in each.watch._watched)
        assert each.rescans == 1


async def test_a_root_deleted_and_made_anew_is_watched_on(folder: Path) -> None:
    async with watched(folder) as each:
        shutil.rmtree(folder)
        await each.until(lambda: each.rescans >= 2)
        make(folder)
        await each.until(lambda: each.rescans >= 3)
        (folder / "x.jpg").write_bytes(b"1")
        await each.covers(b"x.jpg")


async def test_a_root_exchanged_without_an_event_is_noticed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_CHECK_S", 0.05)
    async with watched(folder) as each:
        exchange(folder, tmp_path / "away")
        await each.until(lambda: each.rescans >= 3)
        (folder / "x.jpg").write_bytes(b"1")
        await each.covers(b"x.jpg")


async def test_a_burst_asks_for_a_rescan_and_still_finds_new_folders(folder: Path) -> None:
    async with watched(folder, burst=50, debounce_ms=400) as each:
        (folder / "new").mkdir()
        for number in range(500):
            (folder / f"a/{number}.jpg").write_bytes(b"1")
        await each.until(lambda: each.rescans >= 2)
        await each.until(lambda: b"new" in each.watch._watched)
        (folder / "new/x.jpg").write_bytes(b"1")
        await each.covers(b"new/x.jpg")


async def test_the_kernels_limit_means_polling_and_a_word_about_it(folder: Path) -> None:
    """In a child process, in a user namespace with a limit of its own."""
    for number in range(20):
        (folder / str(number)).mkdir()
    child = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "Path('/proc/sys/user/max_inotify_watches').write_text('5')\n"
        "from immich_dbsync.disk.root import Root\nfrom immich_dbsync.disk.watch import Watch\n"
        "async def main():\n"
        "    seen = 0\n    stop = asyncio.Event()\n"
        "    watch = Watch(Root(Path(sys.argv[1])), stop, poll_s=0.05)\n"
        "    async for hints in watch:\n"
        "        seen += hints.rescan\n"
        "        if seen == 3: stop.set()\n"
        "    print(watch.mode, watch.trouble)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-root-user", sys.executable, "-c", child, str(folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    assert out.decode().startswith("polling")
    assert "fs.inotify.max_user_watches" in out.decode()


@pytest.mark.parametrize(("name", "most"), [("_MOST_FOLDERS", 12), ("_MOST_BYTES", 40)])
async def test_more_folders_than_one_root_may_have_are_polled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    monkeypatch.setattr(watching, name, most)
    for number in range(10):
        (folder / f"f{number}").mkdir()
    async with watched(folder, poll_s=0.1) as each:
        assert each.watch.mode is WatchMode.NATIVE
        for number in range(10):
            (folder / f"more{number}").mkdir()
        await each.until(lambda: each.watch.mode is WatchMode.POLLING)
        assert isinstance(each.watch.trouble, FolderLimit)
        before = each.rescans
        await each.until(lambda: each.rescans > before + 1)
        for number in range(10):
            (folder / f"more{number}").rmdir()
        await each.until(lambda: each.watch.mode is WatchMode.NATIVE)
        assert each.watch.trouble is None


async def test_one_root_does_not_use_up_the_kernels_watches(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "max_user_watches"
    limit.write_text("10")
    monkeypatch.setattr(watching, "_WATCHES", limit)
    for number in range(9):
        (folder / f"f{number}").mkdir()
    async with watched(folder, poll_s=0.1) as each:
        assert each.watch.mode is WatchMode.POLLING
        assert isinstance(each.watch.trouble, WatchLimit)


async def test_given_up_early_it_ends(folder: Path) -> None:
    stop = asyncio.Event()
    with Root(folder) as root:
        hints = watch(root, stop=stop).__aiter__()
        assert await anext(hints) == Hints(rescan=True)
        waiting = asyncio.ensure_future(anext(hints))
        assert not (await asyncio.wait({waiting}, timeout=0.05))[0]  # nothing happens
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_the_limits_sentence_is_one_line() -> None:
    assert "\n" not in str(WatchLimit("x", 3))
    assert not issubclass(WatchLimit, RootUnusable)
