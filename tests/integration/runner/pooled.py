"""A project whose tasks are executed where executors execute them: in runner processes, of any Python environment."""

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envmanager.environments import runner_variables
from envmanager.errors import RunnerCrashedError
from envmanager.pool import Role, Runner
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.store import EnvironmentStore
from tcloud.wire.pythons import PinnedPython
from tests.fixtures.loops import RunInLoop, loop_in_thread
from tests.integration.runner.sides import Driven
from workers.settings import cache_folder

__all__ = ["Pooled", "PooledRunners", "pooled_runners"]

SECONDS = 60.0


@dataclass
class PooledRunners:
    """Pools of runners, and the loop that they live in."""

    run: RunInLoop
    store: EnvironmentStore
    pools: RunnerPools


@contextmanager
def pooled_runners(variables: dict[str, str], limits: RunnerLimits) -> Iterator[PooledRunners]:
    """Pools as an executor has them, with the environments that executors of this machine have built."""
    everything = {**os.environ, **variables}
    with loop_in_thread() as run, tempfile.TemporaryDirectory(prefix="tm-") as scratch:
        store = EnvironmentStore(cache_folder(), everything)

        async def make() -> RunnerPools:
            pools = RunnerPools(store.hold, runner_variables(everything), Path(scratch), limits)
            await pools.start()
            return pools

        pools = run(make())
        try:
            yield PooledRunners(run, store, pools)
        finally:
            run(pools.stop())


@dataclass
class Pooled(Driven):
    """Through the tasks of runner processes that are processes."""

    runners: PooledRunners | None = None
    python: PinnedPython | None = None
    evaluation_seconds: float = SECONDS
    """How long a unit may take."""
    pids: list[int] = field(default_factory=list)
    """The process of each call, in their order."""

    def call(self, task: str, **arguments: Any) -> dict[str, Any]:
        assert self.runners is not None
        try:
            return self.runners.run(self._call(task, json.loads(json.dumps(arguments))))
        except RunnerCrashedError as error:
            return self._failed(error.reason, error.log_tail)
        except TimeoutError:
            return self._failed("it took too long", "")

    async def _call(self, task: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self.runners is not None
        role = Role.EVALUATE if task == "evaluate_unit" else Role.PLAN
        seconds = self.evaluation_seconds if role is Role.EVALUATE else SECONDS
        async with self.runners.pools.runner(role, self.python) as runner:
            self.pids.append(runner.pid)
            async with asyncio.timeout(seconds):
                return await self._answer(runner, task, arguments)

    async def _answer(self, runner: Runner, task: str, arguments: dict[str, Any]) -> dict[str, Any]:
        async def state(method: str, body: bytes) -> bytes:
            return await asyncio.to_thread(self._transport, method, body)

        async def events(told: list[dict[str, Any]]) -> None:
            self.events.extend(told)

        return await runner.call(task, arguments, state, events)

    def _failed(self, error: str, log: str) -> dict[str, Any]:
        return {"status": "failed", "error": error, "log": log, "cause": None, "intervals": None, "events": []}
