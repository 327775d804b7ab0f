"""Keys and passwords appear nowhere, and the least rights suffice: with everything done and everything going wrong."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import Ended, command
from tests.faults.parts import parts
from tests.faults.proxy import Proxy
from tests.faults.report import Report
from tests.faults.rig import Rig, by_tcp, picture, rigged
from tests.faults.traffic import Traffic
from tests.integration.assets import connected, least_role
from tests.waiting import until

pytestmark = [pytest.mark.newest, pytest.mark.timeout(300)]

_PASSWORD = "s3cr3t-pa55w0rd"

COMMANDS = (
    "status",
    "status --json",
    "users list",
    "users list --json",
    "holds list",
    "holds list --json",
    "holds show 1",
    "quarantine list",
    "quarantine list --json",
    "history",
    "history --json",
    "config show",
    "config show --json",
    "triggers verify",
    "triggers verify --json",
    "triggers sql",
    "triggers sql --role x",
    "resync",
    "resync --json",
    "resync --dry-run",
    "resync --rehash",
    "resync --user nobody@example.org",
    "doctor",
    "doctor --json",
    "users add ada@example.org",
    "users pause ada@example.org",
    "users resume ada@example.org",
    "holds approve 1 --yes",
    "quarantine restore 1",
    "quarantine purge --older-than 1d --yes",
    "--version",
    "--help",
)


@pytest.fixture
def role(database_url: str) -> str:
    """A role with the rights that are printed for it, on a database where all is installed."""
    return least_role(database_url)


def holds_no_secret(rig: Rig, texts: Iterable[str]) -> None:
    for text in texts:
        for secret in (rig.stage.key, _PASSWORD):
            assert secret not in text


def command_line(process: int) -> str:
    """What `ps` shows of it."""
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


async def everything(rig: Rig) -> list[Ended]:
    return [await command(*line.split(), env=rig.environment()) for line in COMMANDS]


@pytest.mark.parametrize("form", parts(["json", "console"], always=["json"]))
async def test_secrets_appear_nowhere(
    database_url: str, role: str, immich_version: ImmichVersion, form: str, report: Report
) -> None:
    """Not in logs at the finest level, output, errors, `ps` or our tables, under the least rights that work."""
    async with rigged(database_url, immich_version, hold_min="1", hold_fraction="0") as rig, by_tcp(rig) as proxy:
        user = role.replace(" ", "%20")
        rig.settings |= {
            "IMMICH_DBSYNC_DATABASE_URL": proxy.url(urlsplit(database_url).path[1:], f"{user}:{_PASSWORD}"),
            "IMMICH_DBSYNC_LOG_LEVEL": "debug",
            "IMMICH_DBSYNC_LOG_FORMAT": form,
            "IMMICH_DBSYNC_PROTECT": "favourites albums",
            "IMMICH_DBSYNC_QUARANTINE_RETENTION": "1",
        }
        rig.start(before=["env"])
        process = rig.process
        assert process is not None
        names = [f"{number}.jpg" for number in range(12)]
        files = {name: picture("secret") for name in names}
        for name, content in files.items():
            rig.put(name, content)
        rig.want(files)
        await rig.agrees()
        holds_no_secret(rig, [command_line(process.pid)])
        # A bit of everything: an edit, a move, deletions on both sides, one for good, a hold.
        rig.put(names[0], picture("edited"))
        (rig.folder / names[1]).rename(rig.folder / "moved.jpg")
        await rig.trash(files[names[2]], files[names[3]])
        await rig.restore(files[names[3]])
        await rig.trash(files[names[4]], force=True)
        for name in names[5:9]:
            (rig.folder / name).unlink()

        async def held() -> bool:
            return bool(await rig.stage.connection.fetchval("select count(*) from immich_dbsync_v1.holds"))

        await until(held)
        outputs = await everything(rig)
        assert [ended.code for ended in outputs if ended.code not in {0, 2, 3, 7, 9, 12, 13}] == []
        # And everything goes wrong.
        await misfortunes(rig, proxy)
        outputs += await everything(rig)
        dump = await asyncio.to_thread(_dump, database_url)
        log = rig.log()
        assert "permission denied" not in log
        holds_no_secret(rig, [log, dump, *(ended.out + ended.err for ended in outputs)])
        assert "asset" in dump
        assert await rig.stop() == 0
        holds_no_secret(rig, [rig.log()])
        report.injected("secrets: every command and every error")
        report.survived("secrets: every command and every error", in_flight=f"{len(outputs)} commands")


async def misfortunes(rig: Rig, proxy: Proxy) -> None:
    """The database cut off, the server away, the key revoked, each until the service has noticed."""

    async def said(text: str) -> bool:
        return text in rig.log()

    async def noticed() -> bool:
        return await said("owner.paused") or await said("key.unusable")

    proxy.cut()
    await until(lambda: said("database.unavailable"))
    rig.stage.immich.faults.reset_next = 3
    rig.put("late.jpg", picture("late"))
    await until(lambda: said("request.failed"), seconds=20)
    await rig.stage.connection.execute("delete from api_key")
    rig.put("later.jpg", picture("later"))
    # By the server's refusal, or by a look at the database, whichever comes first.
    await until(noticed, seconds=20)


def _dump(url: str) -> str:
    """All that our tables hold, as text."""
    with connected(url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'immich_dbsync_v1'").fetchall()
        rows = [
            row
            for [table] in tables
            for row in connection.execute(f"select t::text from immich_dbsync_v1.{table} t".encode())
        ]
    return "\n".join(str(row[0]) for row in rows)


async def test_the_least_rights_suffice(
    database_url: str, role: str, immich_version: ImmichVersion, report: Report
) -> None:
    """The service syncs both ways under them; what they lack it does not need."""
    async with rigged(database_url, immich_version) as rig, by_tcp(rig) as proxy:
        rig.settings["IMMICH_DBSYNC_DATABASE_URL"] = proxy.url(
            urlsplit(database_url).path[1:], role.replace(" ", "%20")
        )
        traffic = Traffic(rig)
        rig.start()
        await traffic.stock(6)
        await traffic.deeds(6)
        report.injected("secrets: the least rights")
        await rig.agrees(seconds=60)
        await rig.resync()
        assert "permission denied" not in rig.log()
        assert (await command("status", env=rig.environment())).code == 0
        report.survived("secrets: the least rights", in_flight="36 deeds")


async def test_a_service_whose_keys_are_in_a_file_that_others_may_read_does_not_start(
    library_url: str, immich_version: ImmichVersion
) -> None:
    async with rigged(library_url, immich_version) as rig:
        keys = rig.stage.home / "keys"
        keys.write_text(f"{rig.stage.key}\n")
        keys.chmod(0o640)
        env = rig.environment() | {"IMMICH_DBSYNC_API_KEYS_FILE": str(keys)}
        del env["IMMICH_DBSYNC_API_KEYS"]
        complaint = (await command("run", env=env)).complaint(3, rig.stage.key)
        assert "may be read by others (mode 0640)" in complaint
        keys.chmod(0o600)
        rig.settings["IMMICH_DBSYNC_API_KEYS_FILE"] = str(keys)
        rig.settings["IMMICH_DBSYNC_API_KEYS"] = ""
        rig.put("a.jpg", content := picture("a"))
        rig.want({"a.jpg": content})
        rig.start()
        await rig.agrees()
