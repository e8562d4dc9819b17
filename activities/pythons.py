"""Python environments on an executor: which one a plan's models run in, and runners of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from envmanager.errors import PythonUnavailableError
from envmanager.pool import Role, Runner
from envmanager.pools import RunnerPools
from envmanager.resolving import resolve
from envmanager.store import EnvironmentStore, Held, modules_in
from tcloud.api.executor import ExecutorApi
from tcloud.wire.plans import Plan
from tcloud.wire.pythons import BuiltPython, PinnedPython, PlanPython, PythonRequest
from tcloud.wire.queries import QueryPython

__all__ = ["Pythons", "Say", "WhoAsks"]

_log = structlog.get_logger(__name__)
_LOCK = "the project's sqlmesh-requirements.lock"

Say = Callable[[str], Awaitable[None]]
"""Tells whoever watches a plan or a query what it waits for."""

WhoAsks = Callable[[Sequence[str]], Awaitable[dict[str, list[str]]]]
"""Which models' code imports packages."""


class Pythons:
    """The Python environments of a project, as far as this executor has to do with them.

    Args:
        api: The server, which keeps what was pinned.
        store: Those that are built on this machine.
        pools: Their processes.
        drivers: Says what an environment needs for the warehouses of this executor, as requirements with versions.
        sqlmesh_version: The version that the executor, and so every environment, has.
        python_version: That of the executor's own interpreter, major and minor.
    """

    def __init__(
        self,
        api: ExecutorApi,
        store: EnvironmentStore,
        pools: RunnerPools,
        *,
        drivers: Callable[[], list[str]],
        sqlmesh_version: str,
        python_version: str,
    ):
        self._api = api
        self._store = store
        self._pools = pools
        self._drivers = drivers
        self._sqlmesh_version = sqlmesh_version
        self._python_version = python_version
        self._pinned: dict[str, PinnedPython] = {}

    async def of_plan(self, plan: Plan, who_asks: WhoAsks, say: Say) -> str | None:
        """Resolves what a plan's environment asks for, and builds it; nothing of the environment is touched.

        Args:
            plan: The plan.
            who_asks: Asked where what is asked for cannot be had.
            say: Told what is waited for, where it is more than a moment.

        Returns:
            The environment's key; None if nothing is asked for, and the executor's own interpreter does.

        Raises:
            PythonUnavailableError: If there is no such set of packages, with uv's explanation and the models that ask
                for them; or if it cannot be had now.
        """
        if not plan.requirements and plan.python_version is None:
            return None
        of = f"'{plan.environment}'"
        try:
            pinned = await self._pinned_for(plan, of, who_asks, say)
            with await self._built(pinned, of, say) as held:
                modules = await asyncio.to_thread(modules_in, held.environment)
        except PythonUnavailableError as error:
            text = f"The Python environment of {of} cannot be made: {error}"
            if error.retryable:
                await say(f"{text} It is tried again.")
            raise PythonUnavailableError(text, retryable=error.retryable) from error
        await self._api.put_plan_python(plan.plan_id, PlanPython(key=pinned.key, modules=modules))
        return pinned.key

    async def of_query(self, asked: QueryPython, say: Say) -> str | None:
        """Resolves and builds what the code needs that answers a query; mostly a plan has had that done.

        Returns:
            The environment's key; None if nothing is asked for, and the executor's own interpreter does.

        Raises:
            PythonUnavailableError: If there is no such set of packages, or it cannot be had now.
        """
        if not asked.requirements and asked.python_version is None:
            return None
        of = "this query"
        try:
            pinned = await self._resolved(asked.requirements, asked.python_version, of, say)
            (await self._built(pinned, of, say)).release()
        except PythonUnavailableError as error:
            text = f"The Python environment of {of} cannot be made: {error}"
            raise PythonUnavailableError(text, retryable=error.retryable) from error
        return pinned.key

    async def build(self, key: str) -> None:
        """Has an environment built on this machine.

        Raises:
            PythonUnavailableError: If it cannot be.
        """
        (await self._store.hold(await self._known(key))).release()

    @asynccontextmanager
    async def runner(self, role: Role, key: str | None) -> AsyncIterator[Runner]:
        """Lends a runner of an environment.

        Raises:
            PythonUnavailableError: If the environment cannot be built.
            ZygoteFailedError: If no process of it comes up.
        """
        python = None if key is None else await self._known(key)
        async with self._pools.runner(role, python) as runner:
            yield runner

    async def prepare(self, role: Role, key: str | None) -> None:
        """Has a runner of an environment wait.

        Raises:
            PythonUnavailableError, ZygoteFailedError: As `runner` does.
        """
        await self._pools.prepare(None if key is None else await self._known(key), role)

    async def report(self) -> tuple[list[str], list[BuiltPython]]:
        """For the executor's report: what its processes run in, and what is built on this machine."""
        in_use = {environment.key: (environment, busy, idle) for environment, busy, idle in self._pools.in_use}
        try:
            stored = {found.key: found for found in await asyncio.to_thread(self._store.stored)}
        except OSError:
            # What is there has no say in whether this executor lives.
            stored = {}
        built = []
        for key in [*in_use, *(key for key in stored if key not in in_use)]:
            environment, busy, idle = in_use.get(key, (None, 0, 0))
            found = environment or stored[key]
            built.append(
                BuiltPython(
                    key=key, python_version=found.python_version, size_bytes=found.size_bytes, busy=busy, idle=idle
                )
            )
        return list(in_use), built

    async def _pinned_for(self, plan: Plan, of: str, who_asks: WhoAsks, say: Say) -> PinnedPython:
        try:
            return await self._resolved(plan.requirements, plan.python_version, of, say)
        except PythonUnavailableError as error:
            if error.retryable:
                raise
            raise await _with_models(error, plan, who_asks) from error

    async def _built(self, pinned: PinnedPython, of: str, say: Say) -> Held:
        if all(stored.key != pinned.key for stored in await asyncio.to_thread(self._store.stored)):
            await say(f"Building the Python environment of {of}: {len(pinned.packages)} packages.")
        return await self._store.hold(pinned)

    async def _resolved(
        self, requirements: dict[str, str], python_version: str | None, of: str, say: Say
    ) -> PinnedPython:
        interpreter = await self._store.interpreter(python_version or self._python_version)
        request = PythonRequest(
            requirements=requirements,
            sqlmesh_version=self._sqlmesh_version,
            drivers=self._drivers(),
            python_version=interpreter.minor,
            platform=interpreter.platform,
        )
        known = await self._api.python_environment_for(request)
        if known is None:
            asked = ", ".join(f"{name}=={version}" for name, version in sorted(requirements.items()))
            await say(f"Resolving the Python packages of {of}: {asked or f'Python {request.python_version}'}.")
            pinned = await resolve(self._store.uv, request, interpreter)
            known = await self._api.put_python_environment(pinned)
            _log.info("python_resolved", key=known.key, packages=len(known.packages), of=of)
        self._pinned[known.key] = known
        return known

    async def _known(self, key: str) -> PinnedPython:
        if key not in self._pinned:
            self._pinned[key] = await self._api.python_environment(key)
        return self._pinned[key]


async def _with_models(error: PythonUnavailableError, plan: Plan, who_asks: WhoAsks) -> PythonUnavailableError:
    """The error with the models that ask for the packages it speaks of."""
    concerned = sorted(name for name in plan.requirements if _is_named(name, error.packages))
    asking = await who_asks(concerned) if concerned else {}
    said = [
        f"{name}=={plan.requirements[name]} is asked for by {', '.join(asking.get(name, [_LOCK]))}."
        for name in concerned
    ]
    return PythonUnavailableError(" ".join([str(error), *said]), retryable=False)


def _is_named(name: str, packages: frozenset[str]) -> bool:
    return any(name.lower().replace("_", "-") == package.lower().replace("_", "-").rstrip(".") for package in packages)
