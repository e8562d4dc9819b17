"""Calls of a runner process on behalf of an activity: state is forwarded, progress recorded, errors classified."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import httpx
import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.console_events import ConsoleEvents
from activities.discretion import discreet_crash, discreet_failure
from activities.pythons import Pythons
from activities.snapshots import Snapshots
from envmanager.errors import PythonUnavailableError, RunnerCrashedError, TaskFailedError, ZygoteFailedError
from envmanager.pool import Role, Runner, StateCallError
from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executions import Execution

__all__ = ["RunnerCalls", "beating", "infrastructure_errors"]

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)
_HEARTBEAT_SECONDS = 4.0
_GET_PLAN = "get_plan"
_GET_SNAPSHOTS = "get_snapshots"


class RunnerCalls:
    """Runs tasks in runner processes, each of the Python environment that it belongs to.

    Args:
        pythons: The processes, by the keys of their environments; None is the executor's own interpreter.
        api: The server, with this executor's token: a runner never sees it.
        keeps_home: Whether texts are told to this executor's own log only.
    """

    def __init__(self, pythons: Pythons, api: ExecutorApi, *, keeps_home: bool = False):
        self._pythons = pythons
        self._api = api
        self.keeps_home = keeps_home
        self._snapshots = Snapshots(api)

    async def plan_task(
        self, task: str, arguments: dict[str, Any], owner_id: str, python: str | None = None
    ) -> dict[str, Any]:
        """Runs a task that deals with a whole plan or environment; its console events become the owner's.

        Raises:
            TaskFailedError, RunnerCrashedError: As the runner's call does.
            PythonUnavailableError: If there is no such Python environment here, and it cannot be built.
        """
        events = ConsoleEvents(self._api, owner_id, keeps_home=self.keeps_home)
        async with self._pythons.runner(Role.PLAN, python) as runner, events.delivered():
            try:
                return await runner.call(task, arguments, self._state, events.append)
            except TaskFailedError as error:
                if error.retryable:
                    _drop_connections(runner)
                if not self.keeps_home:
                    raise
                _log.warning("kept_at_home", task=task, error=str(error), owner_id=owner_id)
                raise discreet_failure(error) from None
            except RunnerCrashedError as error:
                if not self.keeps_home:
                    raise
                _log.warning("kept_at_home", task=task, error=str(error), owner_id=owner_id)
                raise discreet_crash(error) from None

    async def once(self, task: str, arguments: dict[str, Any], owner_id: str) -> dict[str, Any]:
        """Runs a task in a process that gets no other one, because of what it was given.

        Raises:
            TaskFailedError, RunnerCrashedError: As the runner's call does.
        """
        events = ConsoleEvents(self._api, owner_id)
        async with self._pythons.runner(Role.EVALUATE, None) as runner, events.delivered():
            try:
                return await runner.call(task, arguments, self._state, events.append)
            finally:
                runner.kill()

    async def read_environment(self, environment: str) -> None:
        """Has a runner read an environment, so that its next tick finds it read, and another one wait for its models.

        Raises:
            RefusedError, httpx.HTTPError, TaskFailedError, RunnerCrashedError, PythonUnavailableError: Nothing is lost
                by it.
        """
        known = await self._api.environment(environment)
        if known is None:
            return
        arguments = {"environment": environment, "gateway": known.gateway, "default_catalog": known.default_catalog}
        async with self._pythons.runner(Role.PLAN, known.python_environment) as runner:
            await runner.call("read_environment", arguments, self._state)
        await self._pythons.prepare(Role.EVALUATE, known.python_environment)

    async def prepare(self, execution: Execution) -> None:
        """Has what an execution's units need be there before the first of them is claimed.

        Raises:
            PythonUnavailableError: If its Python environment cannot be built.
        """
        if execution.python_environment is not None:
            await self._pythons.prepare(Role.EVALUATE, execution.python_environment)

    @asynccontextmanager
    async def evaluator(self, execution: Execution) -> AsyncIterator[Runner]:
        """Lends a runner for units of an execution."""
        async with self._pythons.runner(Role.EVALUATE, execution.python_environment) as runner:
            yield runner

    async def evaluate(self, runner: Runner, arguments: dict[str, Any], execution: Execution) -> dict[str, Any]:
        """Evaluates a unit of an execution in a lent runner."""

        async def state(method: str, body: bytes) -> bytes:
            if method == _GET_SNAPSHOTS:
                return await _answered(self._snapshots.answer(body, execution))
            return await self._state(method, body)

        outcome = await runner.call("evaluate_unit", arguments, state)
        if printed := runner.printed:
            # Past Python, which has taken note of the rest: a library in another language, a process.
            outcome["log"] = f"{outcome.get('log') or ''}{printed}"
        if outcome.get("retryable"):
            _drop_connections(runner)
        return outcome

    async def _state(self, method: str, body: bytes) -> bytes:
        if method == _GET_PLAN:
            return await _answered(self._api.evaluatable(json.loads(body)["plan_id"]))
        return await _answered(self._api.state(method, body))


def _drop_connections(runner: Runner) -> None:
    """Ends a runner that lost a connection: SQLMesh would go on with it, and each further task would fail as well."""
    runner.kill()


async def _answered(call: Awaitable[bytes]) -> bytes:
    try:
        return await call
    except RefusedError as error:
        raise StateCallError(str(error), error.error_type or "SQLMeshError", retryable=False) from error
    except httpx.HTTPError as error:
        message = f"The state of the project cannot be reached: {error or type(error).__name__}"
        raise StateCallError(message, "SQLMeshError", retryable=True) from error


@asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Heartbeats while the body runs, so that a lost executor is noticed and a cancellation arrives."""

    async def beat() -> None:
        while True:
            # Not at once: Temporal has just heard that the activity started, and most end before the first beat.
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            activity.heartbeat()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def infrastructure_errors(call: Awaitable[Result]) -> Result:
    """Awaits a call and says to Temporal which of its errors another attempt may mend.

    Raises:
        ApplicationError: Not retryable where the server refused the request itself.
    """
    try:
        return await call
    except RefusedError as error:
        raise ApplicationError(str(error), type=error.code, non_retryable=True) from error
    except TaskFailedError as error:
        raise ApplicationError(str(error), type=error.error_type, non_retryable=not error.retryable) from error
    except PythonUnavailableError as error:
        raise ApplicationError(str(error), type="PythonUnavailable", non_retryable=not error.retryable) from error
    except ZygoteFailedError as error:
        raise ApplicationError(str(error), type="ZygoteFailed") from error
