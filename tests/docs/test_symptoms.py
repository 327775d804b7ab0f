"""What the page of troubleshooting shows of a symptom is what somebody who has it sees."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage
from tests.acceptance.commands import put
from tests.docs.blocks import ROOT, blocks
from tests.docs.reader import Reader
from tests.waiting import until

PAGE = ROOT / "docs" / "troubleshooting.md"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
async def reader(stage: Stage) -> AsyncIterator[Reader]:
    """Somebody whose service runs, with a picture in a folder that Syncthing shares."""
    with Reader(stage) as reader:
        await reader.settle_in()
        put(reader.folder, "Camera/IMG_0001.png", picture(0))
        (reader.folder / "Camera" / ".stfolder").mkdir()
        await reader.synced(1)
        yield reader


def shown(heading: str) -> list[str]:
    """The lines that the page shows of this symptom."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index(f"### {heading}") + 1
    last = next((n for n, line in enumerate(lines[first:], first) if line.startswith("##")), len(lines))
    texts = [block.text for block in blocks(PAGE) if block.language == "text" and first < block.line <= last]
    assert texts, heading
    return [" ".join(line.split()) for text in texts for line in text.splitlines()]


async def sees(reader: Reader, heading: str, *words: str) -> None:
    """Wait until a command prints every line that the page shows; … stands for anything."""
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in shown(heading)]

    async def missing() -> list[str]:
        ended = await reader.run(words)
        out = ended.out.replace(str(reader.world), "").replace(str(reader.stage.user), "USER-ID")
        lines = [" ".join(_UUID.sub("ID", line).split()) for line in out.splitlines()]
        return [pattern for pattern in patterns if not any(re.fullmatch(pattern, line) for line in lines)]

    async def all_there() -> bool:
        return not await missing()

    try:
        await until(all_there, seconds=20)
    except AssertionError:
        assert not await missing()


async def test_a_hold(reader: Reader) -> None:
    await reader.hold()
    await sees(reader, '"Needs somebody" in status', "status")
    await sees(reader, "Everything is on hold", "holds", "list")


async def test_a_stfolder_that_is_gone(reader: Reader) -> None:
    async def known() -> bool:
        found = "select stfolders <> '{}' from immich_dbsync_v1.owners"
        return bool(await reader.stage.connection.fetchval(found))

    await until(known)
    (reader.folder / "Camera" / ".stfolder").rmdir()
    await sees(reader, "A .stfolder is gone", "status")


async def test_a_folder_without_its_mark(reader: Reader) -> None:
    shutil.move(reader.folder / ".immich-dbsync" / "root-id", reader.here)
    await sees(reader, "After restoring a folder, or moving it to another disk", "status")


async def test_a_key_that_somebody_deleted(reader: Reader) -> None:
    await reader.stage.connection.execute("delete from api_key")
    put(reader.folder, "Camera/IMG_0002.png", picture(1))
    await sees(reader, "An API key is refused", "status")


async def test_a_trigger_that_is_gone(reader: Reader) -> None:
    await reader.stage.connection.execute("drop trigger immich_dbsync_v1_updated on asset")
    await sees(reader, "A deletion in Immich does not reach the folder, or the phone", "triggers", "verify")


async def test_an_immich_that_is_down(reader: Reader) -> None:
    reader.settings["IMMICH_DBSYNC_SERVER_URL"] = "http://127.0.0.1:1"
    await sees(reader, "A picture does not arrive in Immich", "status")


def test_each_that_is_shown_is_looked_at() -> None:
    """Text on the page that none of these tests wants would be held by nothing."""
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    looked_at = re.findall(r'sees\(reader, (?:"(.+?)"|\'(.+?)\'), ', Path(__file__).read_text())
    there = [block for block in blocks(PAGE) if block.language == "text"]
    assert len(looked_at) == len(there)
    assert {one or other for one, other in looked_at} <= {*headings}
