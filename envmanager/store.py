"""Python environments on disk: named by what is in them, built once, never changed, removed when nobody uses them."""

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import distributions
from pathlib import Path
from typing import Self

import structlog
from filelock import FileLock, Timeout
from packaging.utils import canonicalize_name

from envmanager.bytecode import add_bytecode
from envmanager.environments import PythonEnvironment
from envmanager.errors import PythonUnavailableError
from envmanager.interpreters import Interpreter, find_interpreter
from envmanager.uv import Uv
from tcloud.wire.pythons import PinnedPython
from telemetry.metrics import count, observe_seconds

__all__ = ["EnvironmentStore", "Held", "StoredEnvironment", "modules_in"]

_log = structlog.get_logger(__name__)
_PARTIAL = ".building-"
_GONE = ".removing-"
_FACTS = "tempomesh.json"
_IMPORTED = (".py", ".so")
_LOCK_POLL_SECONDS = 0.1
_NOT_WRITABLE = 0o555


@dataclass(frozen=True)
class StoredEnvironment:
    """A Python environment on this machine."""

    key: str
    path: Path
    python_version: str
    size_bytes: int
    """Of its files; those that it shares with others are counted, too."""
    used_at: float
    """When it was last taken into use, in seconds since the epoch."""
    is_in_use: bool


class Held:
    """A built environment that nobody removes until it is released.

    Args:
        environment: What is held.
        lock: The open file whose lock says so.
    """

    def __init__(self, environment: PythonEnvironment, lock: int):
        self.environment = environment
        self._lock = lock

    def release(self) -> None:
        """Lets it be removed, as far as this holder is concerned."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            # It counts as used until now, not until it was taken into use.
            os.utime(lock)
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class EnvironmentStore:
    """The Python environments of this machine, shared by all executors that have the same folder.

    Args:
        folder: Where they are kept; best on the file system of uv's cache, whose files are linked and not copied then.
        variables: The executor's environment variables, of which uv gets its own.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]):
        self._folder = folder
        self.uv = Uv(variables, folder)
        self._interpreters: dict[str, Interpreter] = {}

    async def interpreter(self, python_version: str) -> Interpreter:
        """The interpreter of a version on this machine.

        Raises:
            PythonUnavailableError: If there is none.
        """
        if python_version not in self._interpreters:
            self._interpreters[python_version] = await find_interpreter(self.uv, python_version)
        return self._interpreters[python_version]

    async def hold(self, pinned: PinnedPython) -> Held:
        """Takes an environment into use, and builds it if it is not there.

        Of all processes that want it at the same time one builds it and the others wait. One that dies in the middle
        of it leaves nothing that could be taken for an environment.

        Raises:
            PythonUnavailableError: If it cannot be built.
        """
        interpreter = await self.interpreter(pinned.request.python_version)
        if interpreter.platform != pinned.request.platform:
            raise PythonUnavailableError(
                f"The packages were pinned for {pinned.request.platform} and this executor is {interpreter.platform}: "
                "let executors of one platform apply plans and run.",
                retryable=False,
            )
        name = f"{pinned.key}-{interpreter.version}"
        lock = await asyncio.to_thread(self._share, name)
        try:
            if not self._facts(name):
                async with self._building(name):
                    # Whoever had the lock before may have built it.
                    if not self._facts(name):
                        await self._build(pinned, interpreter, name)
            facts = self._facts(name)
            environment = PythonEnvironment(
                interpreter=self._path(name) / "bin" / "python",
                key=pinned.key,
                python_version=interpreter.version,
                size_bytes=int(str(facts.get("size_bytes", 0))),
            )
        except BaseException:
            os.close(lock)
            raise
        return Held(environment, lock)

    def stored(self) -> list[StoredEnvironment]:
        """What is there, the one first that has been in use last."""
        found = []
        for path in self._environments.iterdir() if self._environments.is_dir() else ():
            facts = self._facts(path.name)
            if not facts:
                continue
            with self._alone(path.name) as is_alone:
                found.append(
                    StoredEnvironment(
                        key=str(facts["key"]),
                        path=path,
                        python_version=str(facts["python_version"]),
                        size_bytes=int(str(facts["size_bytes"])),
                        used_at=self._lock_path(path.name, "use").stat().st_mtime,
                        is_in_use=not is_alone,
                    )
                )
        return sorted(found, key=lambda stored: stored.used_at, reverse=True)

    def prune(self, unused_for: timedelta, max_bytes: int | None = None) -> list[StoredEnvironment]:
        """Removes what has not been in use for so long, and the longest unused ones while all together are too large.

        Returns:
            What was removed; what is in use never is.
        """
        self._remove_leftovers()
        removed = []
        now = time.time()
        kept = self.stored()
        for stored in reversed(list(kept)):
            is_old = now - stored.used_at >= unused_for.total_seconds()
            is_too_much = max_bytes is not None and _disk_use(self._folder) > max_bytes
            if (is_old or is_too_much) and self._remove(stored.path.name):
                removed.append(stored)
        if removed:
            self._remove_unused_bytecode()
        return removed

    @property
    def disk_use(self) -> int:
        """Bytes on disk of all environments together; files that they share are counted once."""
        return _disk_use(self._folder)

    @property
    def _environments(self) -> Path:
        return self._folder / "environments"

    @property
    def _bytecode(self) -> Path:
        return self._folder / "bytecode"

    def _path(self, name: str) -> Path:
        return self._environments / name

    def _lock_path(self, name: str, kind: str) -> Path:
        return self._folder / "locks" / f"{name}.{kind}"

    def _facts(self, name: str) -> dict[str, object]:
        try:
            facts: dict[str, object] = json.loads((self._path(name) / _FACTS).read_text())
        except (OSError, ValueError):
            return {}
        return facts

    def _share(self, name: str) -> int:
        """A lock that any number of processes have together, for as long as they use the environment."""
        path = self._lock_path(name, "use")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Whoever removes the environment has it for the moment of a renaming.
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(path)
        return lock

    @contextmanager
    def _alone(self, name: str) -> Iterator[bool]:
        """Whether nobody uses the environment; while the context is open, nobody begins to."""
        path = self._lock_path(name, "use")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    @asynccontextmanager
    async def _building(self, name: str) -> AsyncIterator[None]:
        lock = FileLock(self._lock_path(name, "build"), thread_local=False)
        while True:
            try:
                lock.acquire(blocking=False)
                break
            except Timeout:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    async def _build(self, pinned: PinnedPython, interpreter: Interpreter, name: str) -> None:
        started = time.monotonic()
        self._environments.mkdir(parents=True, exist_ok=True)
        for left in self._environments.glob(f"{_PARTIAL}{name}-*"):
            # Of a process that died: whoever builds has the lock.
            await asyncio.to_thread(_delete, left)
        partial = self._environments / f"{_PARTIAL}{name}-{secrets.token_hex(4)}"
        try:
            await self.uv.run("venv", "--quiet", "--relocatable", "--python", str(interpreter.path), str(partial))
            requirements = partial / "requirements.txt"
            requirements.write_text(pinned.pinned)
            await self.uv.run(
                *("pip", "sync", "--quiet", "--require-hashes", "--python", str(partial / "bin" / "python")),
                str(requirements),
            )
            site_packages = partial / "lib" / f"python{interpreter.minor}" / "site-packages"
            await add_bytecode(site_packages, interpreter, self._bytecode)
            await asyncio.to_thread(_finish, partial, site_packages, pinned, interpreter)
            partial.rename(self._path(name))
        except PythonUnavailableError:
            count("tempomesh_python_builds", outcome="failed")
            raise
        except OSError as error:
            count("tempomesh_python_builds", outcome="failed")
            raise PythonUnavailableError(
                f"The Python environment cannot be built in {self._folder}: {error}.", retryable=True
            ) from error
        finally:
            if partial.exists():
                await asyncio.to_thread(_delete, partial)
        count("tempomesh_python_builds", outcome="built")
        observe_seconds("tempomesh_python_build_duration_seconds", time.monotonic() - started)
        _log.info("python_built", key=pinned.key, seconds=round(time.monotonic() - started, 1))

    def _remove(self, name: str) -> bool:
        gone = self._environments / f"{_GONE}{name}-{secrets.token_hex(4)}"
        with self._alone(name) as is_alone:
            if not is_alone:
                return False
            self._path(name).rename(gone)
        _delete(gone)
        return True

    def _remove_leftovers(self) -> None:
        for left in self._environments.glob(f"{_GONE}*"):
            _delete(left)
        for left in self._environments.glob(f"{_PARTIAL}*"):
            name = left.name.removeprefix(_PARTIAL).rpartition("-")[0]
            with suppress(Timeout), FileLock(self._lock_path(name, "build"), blocking=False):
                _delete(left)

    def _remove_unused_bytecode(self) -> None:
        for path in self._bytecode.rglob("*.pyc"):
            with suppress(OSError):
                if path.stat().st_nlink == 1:
                    path.unlink()


def modules_in(environment: PythonEnvironment) -> dict[str, list[str]]:
    """The packages of a built environment, and what each of them is imported as."""
    facts = json.loads((environment.interpreter.parent.parent / _FACTS).read_text())
    modules: dict[str, list[str]] = facts.get("modules", {})
    return modules


def _installed_in(site_packages: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for installed in distributions(path=[str(site_packages)]):
        tops = {file.parts[0].partition(".")[0] for file in installed.files or () if file.suffix in _IMPORTED}
        found[str(canonicalize_name(installed.name))] = sorted(filter(None, tops))
    return found


def _finish(partial: Path, site_packages: Path, pinned: PinnedPython, interpreter: Interpreter) -> None:
    """Notes what it is, and takes away the right to change it; files that uv links from its cache stay as they are."""
    size = 0
    folders = []
    for current, _, files in os.walk(partial):
        folders.append(Path(current))
        size += sum(os.lstat(os.path.join(current, file)).st_size for file in files)  # noqa: PTH118 (many thousands)
    facts = {
        "key": pinned.key,
        "python_version": interpreter.version,
        "size_bytes": size,
        "modules": _installed_in(site_packages),
    }
    (partial / _FACTS).write_text(json.dumps(facts))
    for folder in folders:
        folder.chmod(_NOT_WRITABLE)


def _delete(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            Path(folder).chmod(0o755)
    shutil.rmtree(path, ignore_errors=True)


def _disk_use(folder: Path) -> int:
    seen: set[int] = set()
    total = 0
    for current, _, files in os.walk(folder):
        for file in files:
            with suppress(OSError):
                found = os.lstat(os.path.join(current, file))  # noqa: PTH118 (many thousands)
                if found.st_ino not in seen:
                    seen.add(found.st_ino)
                    total += found.st_blocks * 512
    return total
