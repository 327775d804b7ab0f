"""Moves and copies: no request, and no SHA-1 a second time. What may be read again is read for XXH3 alone."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from immich_dbsync.model import RelPath
from immich_dbsync.service import rounds
from tests.integration.harness import Harness, picture, until

ONE, TWO, THREE = picture(1), picture(2), picture(3)
SAME_SIZE = [b"%032d" % number for number in range(8)]
MTIME_NS = 1_700_000_000 * 10**9
LONG_S = 1.0
UPLOAD = ("POST", "/api/assets")
TRASH = ("DELETE", "/api/assets")

running_or_stopped = pytest.mark.parametrize("running", [True, False])


@asynccontextmanager
async def free(sync: Harness, *, running: bool = True, read: bool = False) -> AsyncIterator[None]:
    """What is done to the folder in the block costs no request and no SHA-1, and without ``read`` no read at all.

    Not ``running``: the service is stopped meanwhile. Afterwards every file is tied to the asset of its content.
    """
    assert UPLOAD in sync.requests
    requests = list(sync.requests)
    sync.reads.sha1.clear()
    sync.reads.xxh3.clear()
    if not running:
        await sync.stop()
    yield
    if not running:
        await sync.start()
    files = sync.files()
    await sync.recorded([*files])
    await sync.rescan()
    assert sync.requests == requests
    assert sync.reads.sha1 == []
    assert read or sync.reads.xxh3 == []
    assert sync.files() == files
    assert sync.quarantined() == []
    for name, content in files.items():
        assert await sync.status(content) == "active"
        assert await sync.tied(name) == await sync.asset(content)


async def seen_missing(sync: Harness, name: str) -> None:
    """Return once the service knows that there is no file at this path."""

    async def check() -> bool:
        return RelPath(os.fsencode(name)) in sync.owner().known.gone_since

    await until(check)


@running_or_stopped
async def test_move_within_one_batch(sync: Harness, *, running: bool) -> None:
    contents = {"a.png": ONE, "Camera/b.png": TWO, "Camera/c.png": THREE}
    for name, content in contents.items():
        sync.put(name, content)
    await sync.start()
    assert sorted(sync.reads.sha1) == sorted(map(os.fsencode, contents))
    async with free(sync, running=running):
        sync.path("Best").mkdir()
        sync.path("a.png").rename(sync.path("Best/z.png"))
        sync.path("Camera/b.png").rename(sync.path("b.png"))
        sync.path("Camera/c.png").rename(sync.path("Camera/0.png"))
    assert sync.files() == {"Best/z.png": ONE, "b.png": TWO, "Camera/0.png": THREE}


async def test_move_across_batches_where_the_old_path_is_seen_first(sync: Harness) -> None:
    sync.change(move_grace=LONG_S)
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync):
        aside = sync.path(".aside")
        sync.path("a.png").rename(aside)
        await seen_missing(sync, "a.png")
        aside.rename(sync.path("b.png"))
    assert sync.files() == {"b.png": ONE}


async def test_move_across_batches_by_copying_where_the_old_path_is_seen_first(sync: Harness) -> None:
    sync.change(move_grace=LONG_S)
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync, read=True):
        sync.path("a.png").unlink()
        await seen_missing(sync, "a.png")
        sync.put("b.png", ONE)
    assert sync.files() == {"b.png": ONE}


async def test_move_across_batches_and_back_again(sync: Harness) -> None:
    sync.change(move_grace=LONG_S)
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync, read=True):  # it comes back with another ctime
        aside = sync.path(".aside")
        sync.path("a.png").rename(aside)
        await seen_missing(sync, "a.png")
        aside.rename(sync.path("a.png"))
    assert sync.files() == {"a.png": ONE}


async def test_move_across_a_restart_in_its_middle(sync: Harness) -> None:
    sync.change(move_grace=LONG_S)
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync):
        aside = sync.path(".aside")
        sync.path("a.png").rename(aside)
        await seen_missing(sync, "a.png")
        await sync.stop()
        aside.rename(sync.path("b.png"))
        await sync.start()
    assert sync.files() == {"b.png": ONE}


async def test_move_across_a_restart_that_comes_between_the_old_path_and_the_new(sync: Harness) -> None:
    sync.change(move_grace=LONG_S)
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync):
        aside = sync.path(".aside")
        await sync.stop()
        sync.path("a.png").rename(aside)
        await sync.start(wait=False)
        await until(lambda: _known(sync))
        await seen_missing(sync, "a.png")
        aside.rename(sync.path("b.png"))
    assert sync.files() == {"b.png": ONE}


async def _known(sync: Harness) -> bool:
    return sync.session is not None and bool(sync.syncs())


@pytest.mark.parametrize(("backlog", "running"), [(None, True), (3, True), (3, False)])
async def test_move_of_a_whole_directory(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, backlog: int | None, *, running: bool
) -> None:
    """Also one that takes several batches."""
    if backlog is not None:
        monkeypatch.setattr(rounds, "BATCH", 2)
        monkeypatch.setattr(rounds, "BACKLOG", backlog)
    for number in range(12):
        sync.put(f"Camera/2026/{number % 3}/{number}.png", SAME_SIZE[0] + b"%02d" % number, mtime_ns=MTIME_NS)
    await sync.start()
    async with free(sync, running=running):
        sync.path("Camera").rename(sync.path("Zoo"))
    assert len(sync.files()) == 12


@pytest.mark.parametrize("contents", [(ONE, TWO), tuple(SAME_SIZE[:2])], ids=["sizes differ", "same size"])
@running_or_stopped
async def test_swapped_names(sync: Harness, contents: tuple[bytes, bytes], *, running: bool) -> None:
    one, two = contents
    sync.put("a.png", one, mtime_ns=MTIME_NS)
    sync.put("Camera/b.png", two, mtime_ns=MTIME_NS)
    await sync.start()
    async with free(sync, running=running):
        sync.path("a.png").rename(sync.path(".aside"))
        sync.path("Camera/b.png").rename(sync.path("a.png"))
        sync.path(".aside").rename(sync.path("Camera/b.png"))
    assert sync.files() == {"a.png": two, "Camera/b.png": one}


@running_or_stopped
async def test_swapped_names_of_whole_directories(sync: Harness, *, running: bool) -> None:
    for number, content in enumerate(SAME_SIZE):
        sync.put(f"{number % 2}/{number // 2}.png", content, mtime_ns=MTIME_NS)
    await sync.start()
    before = sync.files()
    async with free(sync, running=running):
        sync.path("0").rename(sync.path(".aside"))
        sync.path("1").rename(sync.path("0"))
        sync.path(".aside").rename(sync.path("1"))
    assert sync.files() == {f"{1 - int(name[0])}{name[1:]}": content for name, content in before.items()}


async def test_swapped_contents_written_in_place(sync: Harness) -> None:
    """No move: one of them may be read for both digests, when the record that knew it was overwritten already."""
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    before = list(sync.requests)
    await sync.stop()
    sync.path("a.png").write_bytes(TWO)
    sync.path("b.png").write_bytes(ONE)
    await sync.start()
    await sync.rescan()
    assert sync.requests == before
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert await sync.tied("b.png") == await sync.asset(ONE)
    assert sync.files() == {"a.png": TWO, "b.png": ONE}


@pytest.mark.parametrize("length", [2, 7])
@running_or_stopped
async def test_chain(sync: Harness, length: int, *, running: bool) -> None:
    """a→b, b→c and so on. A long one may be read, but not for SHA-1."""
    for number, content in enumerate(SAME_SIZE[:length]):
        sync.put(f"{number}.png", content, mtime_ns=MTIME_NS)
    await sync.start()
    async with free(sync, running=running, read=length > 2):
        for number in reversed(range(length)):
            sync.path(f"{number}.png").rename(sync.path(f"{number + 1}.png"))
    assert sync.files() == {f"{number + 1}.png": content for number, content in enumerate(SAME_SIZE[:length])}


@running_or_stopped
async def test_chain_that_closes(sync: Harness, *, running: bool) -> None:
    for number, content in enumerate([ONE, TWO, THREE]):
        sync.put(f"{number}.png", content)
    await sync.start()
    async with free(sync, running=running):
        sync.path("2.png").rename(sync.path(".aside"))
        sync.path("1.png").rename(sync.path("2.png"))
        sync.path("0.png").rename(sync.path("1.png"))
        sync.path(".aside").rename(sync.path("0.png"))
    assert sync.files() == {"0.png": THREE, "1.png": ONE, "2.png": TWO}


@running_or_stopped
async def test_move_by_copying_and_deleting(sync: Harness, *, running: bool) -> None:
    sync.put("Camera/a.png", ONE)
    sync.put("Camera/b.png", TWO)
    await sync.start()
    async with free(sync, running=running, read=True):
        sync.path("Best").mkdir()
        shutil.copy2(sync.path("Camera/a.png"), sync.path("Best/c.png"))
        shutil.copyfile(sync.path("Camera/b.png"), sync.path("Best/d.png"))
        sync.path("Camera/a.png").unlink()
        sync.path("Camera/b.png").unlink()
    assert sync.files() == {"Best/c.png": ONE, "Best/d.png": TWO}
    assert {b"Best/c.png", b"Best/d.png"} <= {*sync.reads.xxh3}  # which is how it was found out


async def test_move_onto_another_file(sync: Harness) -> None:
    """What was there is deleted, and only that."""
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    sync.reads.sha1.clear()
    sync.path("a.png").rename(sync.path("b.png"))
    await sync.becomes(TWO, "trashed")
    await sync.idle()
    assert sync.files() == {"b.png": ONE}
    assert await sync.status(ONE) == "active"
    assert await sync.tied("b.png") == await sync.asset(ONE)
    assert sync.requests.count(UPLOAD) == 2
    assert sync.requests.count(TRASH) == 1
    assert sync.reads.sha1 == []


async def test_move_onto_a_file_that_is_being_written(sync: Harness) -> None:
    """Which is not waited for any more: nothing else of its size could be deleted meanwhile."""
    sync.change(settle_time=2.0)
    sync.put("a.png", ONE)
    await sync.start()
    sync.path("b.png").write_bytes(TWO)

    async def seen() -> bool:
        return sync.owner().todo.settling()

    await until(seen)
    async with free(sync):
        sync.path("a.png").rename(sync.path("b.png"))
    assert sync.owner().identified()


@running_or_stopped
async def test_copy_deleted_before_its_original(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync, read=True):
        sync.put("copy.png", ONE)
    assert await sync.tied("copy.png") == await sync.tied("a.png")
    async with free(sync, running=running):
        sync.path("copy.png").unlink()
    sync.path("a.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.requests == [UPLOAD, TRASH]


@running_or_stopped
async def test_copy_deleted_after_its_original(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync, read=True):
        sync.put("copy.png", ONE)
    async with free(sync, running=running):
        sync.path("a.png").unlink()
    sync.path("copy.png").unlink()
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert sync.requests == [UPLOAD, TRASH]


async def test_copy_that_is_not_looked_at_yet_when_its_original_is_deleted(sync: Harness) -> None:
    """It has not settled for longer than the grace."""
    sync.change(settle_time=0.6)
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync, read=True):
        sync.path("copy.png").write_bytes(ONE)
        sync.path("a.png").unlink()
    assert sync.files() == {"copy.png": ONE}


@running_or_stopped
async def test_hard_link(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    async with free(sync, running=running, read=True):  # linking moves the ctime
        sync.path("link.png").hardlink_to(sync.path("a.png"))
    assert sync.files() == {"a.png": ONE, "link.png": ONE, "b.png": TWO}
    async with free(sync, running=running, read=True):
        sync.path("a.png").unlink()
    assert sync.files() == {"link.png": ONE, "b.png": TWO}


@running_or_stopped
async def test_move_by_a_hard_link(sync: Harness, *, running: bool) -> None:
    sync.put("a.png", ONE)
    await sync.start()
    async with free(sync, running=running):
        sync.path("b.png").hardlink_to(sync.path("a.png"))
        sync.path("a.png").unlink()
    assert sync.files() == {"b.png": ONE}


@running_or_stopped
async def test_move_to_another_owners_root(sync: Harness, *, running: bool) -> None:
    """Two owners are never joined."""
    bob = await sync.add_person("bob@example.org")
    sync.put("a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    await sync.idle()
    sync.reads.sha1.clear()
    if not running:
        await sync.stop()
    sync.path("a.png").rename(bob.path("a.png"))
    if not running:
        await sync.start()
    await sync.becomes(ONE, "trashed")
    await bob.becomes(ONE, "active")
    await sync.idle()
    assert await bob.tied("a.png") == await bob.asset(ONE) != await sync.asset(ONE)
    await sync.recorded(["b.png"])
    assert bob.files() == {"a.png": ONE}
    assert sync.files() == {"b.png": TWO}
    assert sync.quarantined() == bob.quarantined() == []
    assert sync.requests.count(UPLOAD) == 3
    assert sync.requests.count(TRASH) == 1
    assert sync.reads.sha1 == [b"a.png"]  # what is known of the first owner's files says nothing about another's


async def test_copy_to_another_owners_root_leaves_the_first_alone(sync: Harness) -> None:
    bob = await sync.add_person("bob@example.org")
    sync.put("a.png", ONE)
    await sync.start()
    await sync.idle()
    bob.put("a.png", ONE)
    assert await bob.tied("a.png") != await sync.asset(ONE)
    bob.path("a.png").unlink()
    await bob.becomes(ONE, "trashed")
    await sync.rescan()
    assert sync.files() == {"a.png": ONE}
    assert await sync.status(ONE) == "active"


@pytest.mark.parametrize("force", [False, True])
async def test_move_of_a_file_whose_asset_is_deleted_meanwhile(sync: Harness, *, force: bool) -> None:
    """It leaves the folder from where it is now, and comes back there."""
    sync.put("Camera/a.png", ONE)
    sync.put("b.png", TWO)
    await sync.start()
    sync.reads.sha1.clear()
    await sync.stop()
    sync.path("Camera").rename(sync.path("Zoo"))
    asset = await sync.asset(ONE)
    await sync.trash(asset, force=force)
    await sync.immich.idle()
    requests = list(sync.requests)
    await sync.start()
    await sync.gone("Zoo/a.png")
    await sync.recorded(["b.png"])
    assert sync.quarantined() == [ONE]
    assert sync.requests == requests
    assert sync.reads.sha1 == []
    if not force:
        await sync.restore(asset)
        await sync.there("Zoo/a.png", ONE)
        await sync.idle()
        assert sync.files() == {"Zoo/a.png": ONE, "b.png": TWO}
