"""What happens to a file while it is uploaded."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from immich_dbsync.immich import api
from immich_dbsync.immich.library import Library
from immich_dbsync.service import uploads
from immich_dbsync.service.owner import OwnerSync
from immich_dbsync.service.queues import Job
from tests.integration.harness import Harness, picture, until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

ONE, TWO = picture(1), picture(2)
UPLOAD = ("POST", "/api/assets")


async def _upload_begins(sync: Harness) -> None:
    async def sent() -> bool:
        return UPLOAD in sync.requests

    await until(sent)


async def _while_uploaded(sync: Harness) -> None:
    """A first scan that is over, and a picture whose upload is under way."""
    await sync.start()
    sync.immich.faults.delay_s = 0.5
    sync.put("a.png", ONE)
    await _upload_begins(sync)
    sync.immich.faults.delay_s = 0.0


@pytest.mark.parametrize("act", ["rename", "touch", "chmod", "copy"])
async def test_a_file_that_is_handled_while_it_is_uploaded_stays(
    sync: Harness, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """After Immich has stored it, and before we have heard of that."""
    await sync.start()
    upload = api.Server.upload
    path, other = sync.path("a.png"), sync.path("b.png")

    async def handled(self: api.Server, key: str, what: api.Upload, body: AsyncIterator[bytes]) -> api.Uploaded:
        answer = await upload(self, key, what, body)
        if what.name == b"a.png":
            match act:
                case "rename":
                    path.rename(other)
                case "touch":
                    os.utime(path)
                case "chmod":
                    path.chmod(0o600)
                case _:
                    os.link(path, other)
        return answer

    monkeypatch.setattr(api.Server, "upload", handled)
    sync.put("a.png", ONE)

    async def tied() -> bool:
        return any((await sync.records()).values())

    await until(tied)
    await sync.rescan()
    names = {"rename": {"b.png"}, "copy": {"a.png", "b.png"}}.get(act, {"a.png"})
    assert sync.files() == dict.fromkeys(names, ONE)
    assert await sync.status(ONE) == "active"
    assert set(await sync.records()) == {name.encode() for name in names}
    assert sync.quarantined() == []


async def test_a_file_that_changes_while_it_is_uploaded_is_uploaded_again(sync: Harness) -> None:
    await _while_uploaded(sync)
    with sync.path("a.png").open("r+b") as file:
        file.write(TWO)
        file.truncate()
    await sync.becomes(TWO, "active")
    await sync.idle()
    assert sync.files() == {"a.png": TWO}
    assert await sync.tied("a.png") == await sync.asset(TWO)
    assert await sync.status(ONE) in {"trashed", None}
    rows = await sync.connection.fetch("select status::text from asset")
    assert sorted(row["status"] for row in rows) in (["active"], ["active", "trashed"])


async def test_of_a_file_that_changes_while_it_is_sent_nothing_is_stored_that_it_never_held(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler, size = bytes(3 << 20), 4 << 20
    other, first, second, torn = (content.ljust(size, b".") for content in (filler, ONE, TWO, filler + TWO))
    sync.put("of the same size.png", other)  # so that it is hashed before it is sent
    await sync.start()
    blocks, path = uploads._blocks, sync.path("a.png")
    once = [1]

    async def overwritten(*arguments: Any) -> Any:
        async for block, last in blocks(*arguments):
            if once:
                once.pop()
                path.write_bytes(torn)  # the rest of it is sent after what was there before
                os.utime(path, (1, 1))
            yield block, last

    monkeypatch.setattr(uploads, "_blocks", overwritten)
    sync.put("a.png", first)

    async def changed() -> bool:
        return not once

    await until(changed)
    sync.put("a.png", second)
    await sync.becomes(second, "active")
    await sync.idle()
    rows = await sync.connection.fetch("select checksum from asset")
    held = {hashlib.sha1(each, usedforsecurity=False).digest() for each in (other, torn, second)}
    assert {row["checksum"] for row in rows} <= held


async def test_a_file_that_is_deleted_while_it_is_uploaded_has_its_asset_trashed(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Immich has stored it: what leaves before it has been read to its end is never stored."""
    await sync.start()
    upload = api.Server.upload

    async def deleted(*arguments: Any, **named: Any) -> api.Uploaded:
        uploaded = await upload(*arguments, **named)
        sync.path("a.png").unlink()
        return uploaded

    monkeypatch.setattr(api.Server, "upload", deleted)
    sync.put("a.png", ONE)
    await sync.becomes(ONE, "trashed")
    await sync.idle()
    assert await sync.records() == {}


@pytest.mark.parametrize("fault", ["fail_next", "reset_next", "cut_next", "lose_answer_next"])
async def test_an_upload_that_fails_is_made_up_for(sync: Harness, fault: str) -> None:
    setattr(sync.immich.faults, fault, 1)
    sync.put("a.png", ONE)
    await sync.start(wait=False)
    assert await sync.tied("a.png") == await sync.asset(ONE)
    assert sync.files() == {"a.png": ONE}


async def test_a_duplicate_of_a_trashed_asset_is_seen_for_what_it_is(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trashed in the web between our look and our upload: the answer says 200 and nothing of the trash."""
    await sync.start()
    asset = await sync.upload(ONE)
    await sync.trash(asset)
    assets = Library.assets
    blind = [1]

    async def unseen(self: Library, *arguments: object) -> object:
        found = await assets(self, *arguments)  # type: ignore[arg-type]
        if blind and asset in found and UPLOAD not in sync.requests[2:]:
            return {}
        return found

    monkeypatch.setattr(Library, "assets", unseen)
    sync.put("a.png", ONE)
    await sync.becomes(ONE, "active")
    assert await sync.tied("a.png") == asset
    assert sync.files() == {"a.png": ONE}


async def test_uploads_that_lead_nowhere_are_not_repeated_at_once(
    sync: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server that does not belong to the database: it takes every upload, and no row shows up."""
    times: list[float] = []

    async def nowhere(sync: OwnerSync, job: Job) -> bool:
        del sync, job
        times.append(asyncio.get_running_loop().time())
        return False

    monkeypatch.setattr(uploads, "send", nowhere)
    sync.put("a.png", ONE)
    await sync.start(wait=False)

    async def thrice() -> bool:
        return len(times) >= 3

    await until(thrice)
    assert times[2] - times[0] > 0.5
    assert sync.files() == {"a.png": ONE}
