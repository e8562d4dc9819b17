"""One child process: started in a group of its own, its output in a file, stopped by a signal and then by force."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from stack.errors import ChildFailedError
from stack.guard import MARK

__all__ = ["Child", "ChildSpec", "clean_environment"]

POLL_SECONDS = 0.1

OWN_PREFIXES = ("TCLOUD_", "TEMPOMESH_", "SQLMESH__", "TEMPORAL_")


def clean_environment() -> dict[str, str]:
    """The environment of this process without what configures Tempomesh, SQLMesh or Temporal's clients: a child gets
    exactly its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}


@dataclass(frozen=True)
class ChildSpec:
    """What to start, and how to tell that it serves."""

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], Awaitable[bool]]
    """Asked again and again; may raise whatever a server that is not there yet makes it raise."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """In addition to `clean_environment`."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace: timedelta = timedelta(seconds=10)
    """How long it may take to stop before it is killed."""
    start_timeout: timedelta = timedelta(seconds=60)
    start_attempts: int = 1
    """How often it is started if it ends at its start; more than once for a program whose start depends on luck."""
    user: int | None = None
    """User and group id to run as; None is the user of this process."""
    cwd: Path | None = None


class Child:
    """A process that has been started from a spec."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process, log_start: int) -> None:
        self.spec = spec
        self.process = process
        self._log_start = log_start

    @classmethod
    async def start(cls, spec: ChildSpec, mark: str) -> "Child":
        """Starts the process; whether it serves is for `ready` to say. `mark` is the guard's."""
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        with spec.log.open("ab") as log:
            log_start = log.tell()
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), **spec.environment, MARK: mark},
                cwd=spec.cwd,
                user=spec.user,
                group=spec.user,
                extra_groups=None if spec.user is None else [],
                start_new_session=True,
            )
        return cls(spec, process, log_start)

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.process.returncode is None

    async def ready(self) -> None:
        """Returns once the process serves.

        Raises:
            ChildFailedError: if it ends first, or does not serve in time.
        """
        spec = self.spec
        try:
            async with asyncio.timeout(spec.start_timeout.total_seconds()):
                while True:
                    if not self.is_running:
                        raise self._failed(f"ended at its start with code {self.process.returncode}")
                    with suppress(Exception):
                        if await spec.is_ready():
                            return
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise self._failed(f"does not answer after {spec.start_timeout.total_seconds():.0f} s") from error

    def _failed(self, how: str) -> ChildFailedError:
        return ChildFailedError.of(self.spec.name, how, self.spec.log, self._log_start, self.process.returncode)

    async def stop(self) -> None:
        """Asks the process to stop, waits for as long as its grace lasts, then kills its whole group."""
        if self.is_running:
            with suppress(ProcessLookupError):
                self.process.send_signal(self.spec.stop_signal)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.spec.grace.total_seconds()):
                    await self.process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Kills the process and what is left of its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
