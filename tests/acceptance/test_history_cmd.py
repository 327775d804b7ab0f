"""``immich-dbsync history`` tells what was done to which file, when and why, beside a service and without one."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import typer

from immich_dbsync.cli.history_cmd import since_when
from immich_dbsync.demo.people import create_user
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Ended, Service, command, put
from tests.waiting import until

pytestmark = pytest.mark.newest  # nothing here depends on Immich's tables

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    """A user whose picture was uploaded, and left the folder after it was trashed; another who has done nothing."""
    async with staged(library_url, version=immich_version) as stage:
        await create_user(stage.connection, email="bob@example.org", name="Bob")
        put(stage.folder, "Camera/a.png", picture(1))
        put(stage.folder, "Camera2.png", picture(2))
        with Service(stage.environment(), stage.log):

            async def noted(count: int) -> bool:
                ended = await told(stage, "--json")
                return ended.code == 0 and len(ended.json["history"]) == count

            await until(lambda: noted(2), seconds=20)
            await stage.connection.execute(
                "update asset set status = 'trashed', \"deletedAt\" = now() where \"originalFileName\" = 'a.png'"
            )

            await until(lambda: noted(3), seconds=20)
        yield stage


async def told(stage: Stage, *words: str) -> Ended:
    return await command("history", *words, env=stage.environment())


def lines(ended: Ended) -> list[tuple[str, ...]]:
    """User, what was done, path and why of each line."""
    assert ended.code == 0, ended
    return [tuple(line.split("\t")[1:]) for line in ended.out.splitlines()]


A_UPLOADED = ("ada@example.org", "upload", "Camera/a.png", "new in the folder")
A_TAKEN = ("ada@example.org", "quarantine", "Camera/a.png", "its asset is in Immich's trash")
OTHER = ("ada@example.org", "upload", "Camera2.png", "new in the folder")


async def test_what_was_done_to_which_file(stage: Stage) -> None:
    everything = lines(await told(stage))
    assert sorted(everything) == sorted([A_UPLOADED, OTHER, A_TAKEN])
    assert everything[-1] == A_TAKEN
    assert lines(await told(stage, "Camera")) == [A_UPLOADED, A_TAKEN]
    assert lines(await told(stage, "Camera/a.png", "--user", "Ada")) == [A_UPLOADED, A_TAKEN]
    assert lines(await told(stage, str(stage.folder / "Camera2.png"))) == [OTHER]
    assert sorted(lines(await told(stage, str(stage.folder)))) == sorted(everything)
    assert lines(await told(stage, "--limit", "1")) == [A_TAKEN]
    assert len(lines(await told(stage, "--since", "1h"))) == 3


async def test_json(stage: Stage) -> None:
    ended = await told(stage, "Camera/a.png", "--json")
    assert ended.json["version"] == 1
    first, last = ended.json["history"]
    asset = await stage.connection.fetchval("select id from asset where \"originalFileName\" = 'a.png'")
    assert {**last, "at": ""} == {
        "at": "",
        "user": "ada@example.org",
        "owner": str(stage.user),
        "action": "quarantine",
        "path": "Camera/a.png",
        "asset": str(asset),
        "why": "its asset is in Immich's trash",
    }
    assert datetime.fromisoformat(first["at"]) < datetime.fromisoformat(last["at"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", last["at"])
    assert (await told(stage, "elsewhere.png", "--json")).complaint(13)


async def test_nothing_was_done(stage: Stage) -> None:
    for words in (["--user", "bob@example.org"], ["--since", "9999-01-01"]):
        ended = await told(stage, *words)
        assert (ended.code, ended.out) == (0, "")
        assert ended.err == ("Nothing was done since then.\n" if "--since" in words else "Nothing was done yet.\n")
    assert "nothing of 'elsewhere.png'" in (await told(stage, "elsewhere.png")).complaint(13)
    assert "Did you mean Camera/a.png?" in (await told(stage, "Camra/a.png")).complaint(13)


async def test_what_is_typed_wrong(stage: Stage) -> None:
    assert "Did you mean ada@example.org?" in (await told(stage, "--user", "ada@exmple.org")).complaint(13)
    near = f"Did you mean {stage.folder}/Camera/a.png?"
    assert near in (await told(stage, f"{stage.folder}/Camra/a.png")).complaint(13)
    assert "lies in no user's folder" in (await told(stage, "/elsewhere/a.png")).complaint(13)
    assert (await told(stage, "--limit", "1000000000000000000000")).code == 2
    ended = await told(stage, "--since", "yesterday")
    assert ended.code == 2
    assert "no age such as" in " ".join(ended.err.replace("│", "").split())


async def test_before_anything_is_installed(database_url: str, immich_version: ImmichVersion) -> None:
    async with staged(database_url, version=immich_version) as stage:
        assert "triggers install" in (await told(stage)).complaint(6)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-11-01T10:00:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1).astimezone(UTC)),  # of this machine's zone
    ],
)
def test_since_when(text: str, moment: datetime) -> None:
    assert since_when(text, NOW) == moment


@pytest.mark.parametrize("text", ["2x", "-2d", "2026-13-01", "tomorrow", "9999999999d", "999999w", "٢d"])
def test_since_never(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        since_when(text, NOW)
