"""The snaps that ``make snap`` packs, unpacked and run as by snapd: our own, and the part for Immich Distribution."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from immich_dbsync import __version__
from immich_dbsync.demo.pictures import picture
from immich_dbsync.demo.stage import Stage, staged
from immich_dbsync.demo.tables import ImmichVersion
from tests.acceptance.commands import environment, execute, put
from tests.acceptance.snapd import Daemon, Refused, Snapd
from tests.faults.front import Front
from tests.forked import CHECKOUT
from tests.waiting import until

pytestmark = [
    pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="On Debian: apt-get install snapd squashfs-tools"),
    pytest.mark.newest,  # nothing here depends on Immich's tables
    pytest.mark.timeout(900),  # a snap is made first, and packages for it are fetched
]

OURS = CHECKOUT / "snap"
THEIRS = OURS / "immich-distribution"
SCRIPTS = [
    *(OURS / "assemble", CHECKOUT / ".ci" / "run"),
    *sorted(path for path in [*OURS.glob("local/**/*"), *OURS.glob("hooks/*")] if path.is_file()),
    *sorted([*THEIRS.glob("bin/*"), *THEIRS.glob("hooks/*")]),
]
_PATIENCE_S = 40.0


@cache
def interpreter() -> Path:
    """The Python of the base where it is here, else the one that the tests run with."""
    found = shutil.which("python3.12")
    if found and subprocess.run([found, "-V"], capture_output=True, check=False).returncode == 0:
        return Path(found)
    return Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


def script(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


# As little work as may be: all that a snap needs is compressed within a second instead of eight.
_MKSQUASHFS = """\
#!/bin/sh
exec {mksquashfs} "$@" -Xcompression-level 1
"""


def made(project: Path, folder: Path) -> Path:
    """The snap of a project."""
    tree, output = folder / "tree", folder / "out"
    script(folder / "bin" / "mksquashfs", _MKSQUASHFS.format(mksquashfs=shutil.which("mksquashfs")))
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PIP": f"{sys.executable} -m pip",
    }
    arguments = {"project": project, "tree": tree, "output": output, "python": interpreter()}
    words = [f"--{name}={value}" for name, value in arguments.items()]
    command: list[str | Path] = [sys.executable, OURS / "make.py", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [file] = output.glob("*.snap")
    return file


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Our own snap, and the tree that it was packed from."""
    folder = tmp_path_factory.mktemp("snap")
    return made(OURS / "snapcraft.yaml", folder), folder / "tree"


@asynccontextmanager
async def installed(file: Path, home: Path, path: list[Path]) -> AsyncIterator[Snapd]:
    """The snap installed, until the block ends; on a failure what its services wrote is shown."""
    snapd = Snapd(home, path)
    try:
        await snapd.install(file)
        yield snapd
    except BaseException as error:
        for name, daemon in snapd.daemons.items():
            error.add_note(f"{name}:\n{daemon.text()[-6000:]}")
        raise
    finally:
        await snapd.close()


@pytest.fixture
async def stage(library_url: str, immich_version: ImmichVersion) -> AsyncIterator[Stage]:
    async with staged(library_url, version=immich_version) as stage:
        socket(stage).chmod(0o755)  # else it is there for PostgreSQL's user and for whoever has root's powers
        yield stage


def socket(stage: Stage) -> Path:
    """The folder of the database's socket."""
    return Path(parse_qs(urlsplit(stage.database_url).query)["host"][0])


async def status(stage: Stage) -> dict[str, int]:
    """How many assets there are, by status."""
    rows = await stage.connection.fetch("select status::text, count(*) from asset group by status")
    return {row[0]: row[1] for row in rows}


async def holds(check: Callable[[], Awaitable[bool]], daemon: Daemon) -> None:
    """Wait for a condition while the service runs."""

    async def alive() -> bool:
        assert daemon.running(), daemon.text()
        return await check()

    await until(alive, seconds=_PATIENCE_S)


async def uploaded(stage: Stage, count: int, daemon: Daemon) -> None:
    """Wait until so many assets are active."""

    async def are() -> bool:
        return (await status(stage)).get("active") == count

    await holds(are, daemon)


async def test_a_snap_of_its_own_from_install_to_remove(stage: Stage, tmp_path: Path, ours: tuple[Path, Path]) -> None:
    file, _ = ours
    assert file.name.startswith(f"immich-dbsync_{__version__}_")
    async with installed(file, tmp_path / "system", [interpreter().parent]) as snap:
        service = snap.daemons["service"]

        # Installed, it does nothing, and says what it is to be told.
        assert not service.running()
        assert (snap.common / "sync").stat().st_mode & 0o777 == 0o755
        assert (snap.common / "dbsync" / "api-keys").stat().st_mode & 0o777 == 0o600
        assert (await snap.run("immich-dbsync", "--version")).out == f"immich-dbsync {__version__}\n"
        assert "No database is set." in (await snap.run("immich-dbsync", "status")).complaint(3)
        ended = await snap.run("service")
        assert (ended.code, "snap set immich-dbsync dbsync.enabled=true" in ended.err) == (0, True)

        assert "Usage: immich-dbsync " in (await snap.run("immich-dbsync", "--help")).out

        # Alone, `doctor` says what to type, in the words of the snap.
        said = (await snap.run("immich-dbsync", "doctor")).out
        assert "Set it with: snap set immich-dbsync dbsync.database-url=postgresql://" in said
        assert "immich-dbsync.toml" not in said

        # Built for another Python than its base has, it says so.
        packages = snap.snap / "lib" / "immich-dbsync" / interpreter().name
        other = packages.rename(packages.with_name("python3.99"))
        assert "was built for python3.99" in (await snap.run("immich-dbsync", "status")).complaint(1)
        other.rename(packages)

        # What makes no sense is refused, in the words of the settings, and not kept.
        for options, message in BAD:
            with pytest.raises(Refused, match=message):
                await snap.set(**options)
            assert "dbsync" not in snap.options()
        assert not service.running()

        # Set up as a person does it, and run. The mode that somebody gave the sync root stays.
        (snap.common / "sync").chmod(0o2775)
        await snap.set(database_url=stage.database_url, server_url=stage.immich.url, move_grace=0.5)
        assert not service.running()
        assert (snap.common / "sync").stat().st_mode & 0o7777 == 0o2775
        assert (await snap.run("immich-dbsync", "users", "add", "ada@example.org")).code == 0
        folder = snap.common / "sync" / str(stage.user)
        put(folder, "Camera/1.png", picture(1))
        stage.immich.requests.clear()  # of `users add`, which tries the key
        await snap.set(enabled=True)
        await uploaded(stage, 1, service)
        assert stage.immich.requests.count(("POST", "/api/assets")) == 1

        # It begins anew when one of its options changed, and only then.
        assert service.starts == 1
        await snap.set_others(unrelated="value")
        await snap.set(move_grace=0.5)
        assert service.starts == 1
        await snap.set(move_grace=0.1)
        assert service.starts == 2
        with pytest.raises(Refused, match=r"dbsync\.move-grace"):
            await snap.set(move_grace="soon")
        assert service.running()
        assert service.starts == 2

        # Stopped for good by hand, it is enabled again by whatever is set next.
        await snap.disable("service")
        assert not service.running()
        await snap.set(enabled=True)
        assert service.running()
        assert service.starts == 3

        # A newer revision goes on where the older one was.
        await snap.refresh(file)
        assert service.starts == 4
        put(folder, "Camera/2.png", picture(2))
        await uploaded(stage, 2, service)
        assert f"SNAP={snap.home}/snap/immich-dbsync/2\0" in environment_of(service)
        assert stage.immich.requests.count(("POST", "/api/assets")) == 2
        (folder / "Camera" / "1.png").unlink()

        async def trashed() -> bool:
            return await status(stage) == {"active": 1, "trashed": 1}

        await holds(trashed, service)
        ended = await snap.run("immich-dbsync", "status", "--json")
        [owner] = json.loads(ended.out)["owners"]
        assert (ended.code, owner["synced"], owner["running"]) == (0, 1, True)

        # Disabled it stops; removed it leaves nothing in the database.
        await snap.set(enabled=False)
        assert not service.running()
        assert not service.enabled
        assert "immich_dbsync_v1" in await snap.remove()
        assert await stage.connection.fetchval("select to_regnamespace('immich_dbsync_v1')") is None


BAD: list[tuple[dict[str, Any], str]] = [
    ({"move_grace": "soon"}, r"A setting makes no sense: dbsync\.move-grace: it must be a number"),
    ({"mvoe_grace": 20}, r"There is no option dbsync\.mvoe-grace\. Did you mean dbsync\.move-grace\?"),
    ({"enabled": True}, r"No database is set\. Set it with: snap set immich-dbsync dbsync\.database-url=postgresql://"),
]
OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"uploads": 99}, r"dbsync\.uploads: it must be less than or equal to 32"),
    ({"database-url": "mysql://localhost"}, "The database URL must begin with postgresql://"),
    ({"sync-root": "photos"}, r"dbsync\.sync-root must be an absolute path, not 'photos'"),
    ({"policies": "Camera"}, "write folder=policy"),
    ({"enabled": "yes"}, r"dbsync\.enabled is true or false, not 'yes'"),
    ({"enabled": True, "database-url": "postgresql://postgres@127.0.0.1/immich"}, r"set dbsync\.api-keys\."),
]


@pytest.mark.parametrize(("options", "message"), OTHERS)
def test_what_the_hook_asks_refuses_all_that_makes_no_sense(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    snap = {"SNAP_INSTANCE_NAME": "immich-dbsync", "SNAP_COMMON": str(tmp_path)}
    env = environment({"DBSYNC_OPTIONS": json.dumps({"dbsync": options}), **snap})
    assert re.search(message, execute("snap-check", env=env, module="immich_dbsync.cli.snapped").complaint(3))


def environment_of(daemon: Daemon) -> str:
    assert daemon.process is not None
    return Path(f"/proc/{daemon.process.pid}/environ").read_text()


# --- inside Immich Distribution ---

# As theirs does it: not made for `set -u`, and with options of its own.
_LOAD_ENV = """\
export LD_LIBRARY_PATH="$SNAP/usr/local/lib:$LD_LIBRARY_PATH"
export DB_HOSTNAME="{host}" DB_USERNAME="postgres" DB_DATABASE_NAME="{name}"
export DB_PASSWORD="$(snapctl get database-password)"
export IMMICH_SERVER_URL="{server}"
"""


def host(folder: Path, load_env: str, assembled: Path) -> Path:
    """The snapcraft.yaml of a snap as Immich Distribution is, as far as we can tell the difference, with us in it.

    ``assembled``: a tree with what `snap/assemble` puts into one. Its packages are linked to: to pack them takes long.
    """
    script(folder / "src" / "bin" / "load-env", load_env)
    script(folder / "src" / "bin" / "nothing", "#!/bin/bash\n")
    for name in ("python3.12", interpreter().name):
        script(folder / "python/opt/python/python3.12/bin" / name, f'#!/bin/sh\nexec {interpreter()} "$@"\n')
    script(folder / "hooks" / "configure", "#!/bin/bash\n" + (THEIRS / "hooks" / "configure").read_text())
    text = (THEIRS / "snapcraft.yaml").read_text()
    assemble = 'snap/assemble "$CRAFT_PART_INSTALL"'
    assert text.count(assemble) == 1
    place = '"$CRAFT_PART_INSTALL"'
    packages = f"ln --symbolic {assembled}/lib/immich-dbsync/python3.* {place}/lib/immich-dbsync/"
    copy = f"cp --recursive {OURS / 'local'}/. {place}; {packages}"
    ours = yaml.safe_load(text.replace(assemble, copy))
    daemon = {"command": "bin/nothing", "daemon": "simple"}
    project = {
        "name": "immich-distribution",
        "version": "v3.1.0",
        "summary": "stand-in",
        "description": "stand-in",
        "base": "core22",
        "confinement": "strict",
        "compression": "lzo",
        "apps": {"postgres": daemon, "immich-server": daemon, **ours["apps"]},
        "parts": {
            "scripts": {"plugin": "dump", "source": str(folder / "src")},
            "uv-python312": {"plugin": "dump", "source": str(folder / "python")},
            **ours["parts"],
        },
    }
    file = folder / "snapcraft.yaml"
    file.write_text(yaml.safe_dump(project))
    return file


async def test_the_part_for_immich_distribution_runs_inside_of_it(
    stage: Stage, tmp_path: Path, ours: tuple[Path, Path]
) -> None:
    name = urlsplit(stage.database_url).path.removeprefix("/")
    async with Front(stage.immich.url) as front:
        load_env = _LOAD_ENV.format(host=socket(stage), name=name, server=front.url)
        file = await asyncio.to_thread(made, host(tmp_path / "project", load_env, ours[1]), tmp_path)
        async with installed(file, tmp_path / "system", []) as snap:
            service = snap.daemons["dbsync-service"]
            await snap.set_others(database_password="secret")
            assert service.starts == 0
            with pytest.raises(Refused, match=r"No API key is set"):
                await snap.set(enabled=True)
            with pytest.raises(Refused, match=r"Did you mean dbsync\.delete-threshold\?"):
                await snap.set(delete_treshold=7)
            assert (await snap.run("dbsync", "users", "add", "ada@example.org")).code == 0
            put(snap.common / "sync" / str(stage.user), "Camera/1.png", picture(1))

            # It waits for Immich, and with it for the database.
            front.refusing = True
            await snap.set(enabled=True)

            async def waits() -> bool:
                return "server.unavailable" in service.text()

            await holds(waits, service)
            assert "database.connected" not in service.text()
            front.refusing = False
            await uploaded(stage, 1, service)

            # What else is set there does not concern it; what is set for it does.
            await snap.set_others(https_enabled="true")
            assert service.starts == 1
            await snap.set(delete_threshold=7)
            assert service.starts == 2
            await snap.set_others(dbsync={"delete-threshold": 7})
            assert not service.running()  # `enabled` was unset with all the rest


async def test_a_snap_that_was_never_set_up_is_removed_without_a_word(ours: tuple[Path, Path], tmp_path: Path) -> None:
    async with installed(ours[0], tmp_path / "system", [interpreter().parent]) as snap:
        assert await snap.remove() == ""


async def test_removed_while_the_database_is_away_the_hook_fails_and_says_what_stays(
    ours: tuple[Path, Path], tmp_path: Path
) -> None:
    async with installed(ours[0], tmp_path / "system", [interpreter().parent]) as snap:
        await snap.set(database_url="postgresql://postgres@127.0.0.1:1/immich")
        with pytest.raises(Refused, match=r"does not answer(.|\n)*The schema immich_dbsync_v1 may still be"):
            await snap.remove()


def test_the_service_may_listen_for_the_metrics() -> None:
    for project, service in ((OURS, "service"), (THEIRS, "dbsync-service")):
        apps = yaml.safe_load((project / "snapcraft.yaml").read_text())["apps"]
        assert {"network", "network-bind"} <= {*apps[service]["plugs"]}


# --- what both are made of ---


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="On Debian: apt-get install shellcheck")
def test_the_shell_scripts_are_clean() -> None:
    assert {"launch", "dbsync-configure", "configure", "remove", "run"} <= {path.name for path in SCRIPTS}
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_shell_scripts_end_at_the_first_failure() -> None:
    for path in SCRIPTS:
        if path != THEIRS / "hooks" / "configure":  # that is a part of theirs
            assert "\nset -euo pipefail" in path.read_text(), path


def test_the_snaps_version_is_ours() -> None:
    assert yaml.safe_load((OURS / "snapcraft.yaml").read_text())["version"] == __version__


def test_names_that_immich_distribution_cleans_away_are_not_used() -> None:
    """It unsets these options and drops these objects at each start."""
    theirs = {"sync", "sync-enabled", "sync-delete-threshold"}
    project = yaml.safe_load((THEIRS / "snapcraft.yaml").read_text())
    assert not theirs & {*project["apps"], *project["parts"]}
    for path in SCRIPTS:
        assert not any(f"snapctl get {name}" in path.read_text() for name in theirs), path
