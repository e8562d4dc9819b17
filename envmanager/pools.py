"""Runner processes of all Python environments that are in use: a pool for each, limits over all of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import structlog

from envmanager.connections import ManagedConnections
from envmanager.environments import PythonEnvironment
from envmanager.pool import Role, Runner, RunnerPool
from envmanager.store import Held
from envmanager.zygote import Zygote
from tcloud.wire.pythons import PinnedPython

__all__ = ["RunnerLimits", "RunnerPools"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunnerLimits:
    """How many runners there are, and for how long."""

    max_tasks: int = 500
    """After so many tasks a runner is replaced."""
    max_memory_bytes: int = 900_000_000
    """A runner that has more resident after a task is replaced."""
    memory_limit_bytes: int | None = None
    """What a runner may have at all; None is no limit but the kernel's."""
    max_environments: int = 4
    """Python environments, besides the executor's own, that have processes at a time."""
    max_idle: int = 16
    """Runners that wait for work, of all environments together."""


@dataclass
class _Kept:
    pool: RunnerPool
    environment: PythonEnvironment
    held: Held | None
    users: int = 0
    used_at: float = field(default_factory=monotonic)


class RunnerPools:
    """A pool of runners for each Python environment in use, and one for the executor's own interpreter.

    Of environments that nobody has used for longest the processes are stopped when there are too many; an environment
    in which something is evaluated keeps its own.

    Args:
        hold: Takes a Python environment into use, building it where it is not there.
        variables: The environment variables of all runners.
        scratch: A folder for sockets and logs.
        limits: Of all runners.
        managed: The connections of the project's vault, which runners get besides those of their variables.
    """

    def __init__(
        self,
        hold: Callable[[PinnedPython], Awaitable[Held]],
        variables: Mapping[str, str],
        scratch: Path,
        limits: RunnerLimits,
        managed: ManagedConnections | None = None,
    ):
        self._hold = hold
        self._variables = dict(variables)
        self._scratch = scratch
        self._limits = limits
        self._managed = managed or ManagedConnections("")
        self._made = 0
        own = PythonEnvironment.of_this_process()
        self._own = _Kept(self._pool(own), own, None)
        self._kept: dict[str, _Kept] = {}
        self._starting: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        """Starts the first process of the executor's own interpreter.

        Raises:
            ZygoteFailedError: If it does not come up.
        """
        await self._own.pool.start()

    async def stop(self) -> None:
        """Ends all runners, and the queries of busy ones."""
        kept = [self._own, *self._kept.values()]
        self._kept.clear()
        await asyncio.gather(*(self._stop(one) for one in kept))

    @asynccontextmanager
    async def runner(self, role: Role, python: PinnedPython | None = None) -> AsyncIterator[Runner]:
        """Lends a runner of a Python environment; None is the executor's own interpreter.

        Raises:
            PythonUnavailableError: If the environment cannot be built.
            ZygoteFailedError: If no process of it comes up.
        """
        async with self._using(python) as pool, pool.runner(role) as runner:
            yield runner
        self._trim()

    async def prepare(self, python: PinnedPython | None, role: Role) -> None:
        """Has a runner of an environment wait for its first task.

        Raises:
            PythonUnavailableError, ZygoteFailedError: As `runner` does.
        """
        async with self._using(python) as pool:
            await pool.warm(role)

    def replace_outdated(self) -> None:
        """Ends the runners that have other connections than the vault has now; busy ones when they have finished."""
        for kept in (self._own, *self._kept.values()):
            kept.pool.end_outdated()

    @property
    def sizes(self) -> tuple[int, int]:
        """How many runners are busy and how many idle, in all environments together."""
        sizes = [kept.pool.sizes for kept in (self._own, *self._kept.values())]
        return sum(busy for busy, _ in sizes), sum(idle for _, idle in sizes)

    @property
    def in_use(self) -> list[tuple[PythonEnvironment, int, int]]:
        """The environments that have processes, each with how many runners are busy and how many idle."""
        return [(kept.environment, *kept.pool.sizes) for kept in (self._own, *self._kept.values())]

    @asynccontextmanager
    async def _using(self, python: PinnedPython | None) -> AsyncIterator[RunnerPool]:
        if python is None:
            kept = self._own
            kept.users += 1
        else:
            kept = await self._of(python)
        try:
            yield kept.pool
        finally:
            kept.users -= 1
            kept.used_at = monotonic()

    async def _of(self, python: PinnedPython) -> _Kept:
        """The pool of an environment, which nobody stops until its user is counted out again."""
        async with self._starting.setdefault(python.key, asyncio.Lock()):
            kept = self._kept.get(python.key)
            if kept is not None:
                kept.users += 1
                return kept
            held = await self._hold(python)
            try:
                await self._make_room()
                pool = self._pool(held.environment)
                started = monotonic()
                try:
                    await pool.start()
                except BaseException:
                    await pool.stop()
                    raise
                _log.info("python_started", key=python.key, seconds=round(monotonic() - started, 1))
            except BaseException:
                held.release()
                raise
            kept = self._kept[python.key] = _Kept(pool, held.environment, held, users=1)
            return kept

    async def _make_room(self) -> None:
        """Stops what has been unused longest, unless everything is in use: then there is one more for a while."""
        unused = sorted((k for k in self._kept.values() if not k.users), key=lambda kept: kept.used_at)
        for kept in unused[: max(0, len(self._kept) + 1 - self._limits.max_environments)]:
            del self._kept[kept.environment.key]
            _log.info("python_stopped", key=kept.environment.key)
            await self._stop(kept)

    async def _stop(self, kept: _Kept) -> None:
        try:
            await kept.pool.stop()
        finally:
            if kept.held is not None:
                kept.held.release()

    def _trim(self) -> None:
        """Ends the runners that have waited longest while there are too many."""
        pools = [self._own.pool, *(kept.pool for kept in self._kept.values())]
        while sum(pool.sizes[1] for pool in pools) > self._limits.max_idle:
            min((pool for pool in pools if pool.sizes[1]), key=lambda pool: pool.idle_since).end_idle()

    def _pool(self, environment: PythonEnvironment) -> RunnerPool:
        self._made += 1
        # Short, because the path of a unix socket is.
        scratch = self._scratch / str(self._made)
        scratch.mkdir()
        zygote = Zygote(environment, self._variables, scratch, self._limits.memory_limit_bytes)
        return RunnerPool(zygote, self._managed, self._limits.max_tasks, self._limits.max_memory_bytes)
