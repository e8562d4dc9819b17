"""The folder in which a stack keeps everything: databases, logs, secrets, and the lock that makes it its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from stack.errors import StackError

__all__ = ["DataDir", "write_private"]


class DataDir:
    """The layout of a data directory; the folder is made if it is not there.

    Raises:
        StackError: if the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise StackError(f"{self.root} cannot be the data directory: {error.strerror}.") from error

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        """The PostgreSQL cluster."""
        return self.root / "postgres"

    @property
    def temporal_database(self) -> Path:
        """Temporal's SQLite file."""
        return self.root / "temporal.db"

    @property
    def secrets(self) -> Path:
        """Tokens and keys, made at the first start."""
        return self.root / "secrets.json"

    @property
    def client_env(self) -> Path:
        """The `TCLOUD_*` variables of an administrator, for `set -a; . client.env`."""
        return self.root / "client.env"

    @property
    def client_home(self) -> Path:
        """`TCLOUD_HOME` of the stack's own processes: nobody's `~/.tcloud` is read or written."""
        return self.root / "client"

    @property
    def server_cache(self) -> Path:
        """What the server may lose."""
        return self.root / "cache"

    def log(self, name: str) -> Path:
        """The log of the process of that name."""
        return self.logs / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other stack away from the folder.

        Raises:
            StackError: naming the process that has it.
        """
        owner = self.root / "owner.pid"
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise StackError(
                f"{self.root} is in use by {_describe_owner(owner)}: stop it, or choose another with --data-dir."
            ) from error
        except OSError as error:
            raise StackError(f"{self.root} cannot be locked: {error.strerror}.") from error
        try:
            owner.write_text(str(os.getpid()))
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, all of it or nothing."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _describe_owner(owner: Path) -> str:
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int(owner.read_text()))
        command = " ".join(Path(part).name if part.startswith("/") else part for part in process.cmdline()[:4])
        return f"process {process.pid} ({command})"
    return "another process"
