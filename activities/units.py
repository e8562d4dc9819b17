"""Evaluates units: claim, evaluate in a runner, record; each once, whatever dies in between."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
import structlog
from temporalio.exceptions import ApplicationError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from activities.executions import Executions
from activities.leases import LeaseKeeper, LeaseLostError
from activities.runner_calls import RunnerCalls
from envmanager.errors import RunnerCrashedError, TaskFailedError
from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executions import ConsoleEvent, FinishUnit, StartUnit, UnitStarted, Verdict
from tcloud.wire.runs import Audit
from tcloud.wire.statuses import Status
from workflows.payloads import UnitRef, UnitResult

__all__ = ["UnitSequence"]

_log = structlog.get_logger(__name__)
_FENCED = "TM-FENCED"
_PATIENCE_SECONDS = 120.0
_HAND_BACK_SECONDS = 3.0


class UnitSequence:
    """Evaluates the units of one activity, one after another.

    Args:
        api: The server.
        runners: The processes that SQLMesh runs in.
        executions: The execution documents.
        leases: Keeps the claims of what is in flight.
        executor: This executor's identity.
    """

    def __init__(
        self, api: ExecutorApi, runners: RunnerCalls, executions: Executions, leases: LeaseKeeper, executor: str
    ):
        self._api = api
        self._runners = runners
        self._executions = executions
        self._leases = leases
        self._executor = executor

    async def evaluate(self, units: UnitRef, attempt: int) -> UnitResult:
        """Evaluates units until one fails, is claimed by another plan or run, or all are done.

        A unit is recorded while the next one is already being evaluated; should recording fail, the evaluation is
        stopped, and no unit is ever recorded before the one that it follows.

        Raises:
            ApplicationError: Retryable, if the infrastructure failed in the middle of one.
        """
        try:
            async with asyncio.TaskGroup() as records:
                return await self._evaluate_all(units, attempt, records)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _evaluate_all(self, units: UnitRef, attempt: int, records: asyncio.TaskGroup) -> UnitResult:
        recorded: asyncio.Task[None] | None = None
        finish: FinishUnit | None = None
        for finished, unit in enumerate(units.units):
            try:
                started = await self._api.start_unit(
                    StartUnit(execution_id=units.execution_id, unit=unit, attempt=attempt, executor=self._executor)
                )
            finally:
                # After the start, not beside it: the next evaluation waits for the one and not for the other.
                if finish is not None:
                    recorded = records.create_task(self._record(finish, after=recorded))
                    finish = None
            match started.verdict:
                case Verdict.STOP:
                    return UnitResult(finished=finished, stopped=True)
                case Verdict.CLAIMED:
                    return UnitResult(finished=finished, claimed_by=started.claimed_by)
                case Verdict.SKIP:
                    return UnitResult(finished=finished, skipped=started.error_message or "It was left out.")
                case Verdict.DONE:
                    if started.status is Status.SKIPPED:
                        return UnitResult(finished=finished, skipped=started.error_message or "It was left out.")
                    if started.status is not Status.SUCCESS:
                        return UnitResult(finished=finished, error=started.error_message or "It failed before.")
                case Verdict.GO:
                    # After a wait or a crash somebody may have done the interval: SQLMesh's state is asked first.
                    recheck = attempt > 1 or started.recheck
                    finish = await self._evaluate(units.execution_id, unit, started, recheck=recheck)
                    if finish.status is not Status.SUCCESS:
                        await self._record(finish, after=recorded)
                        return UnitResult(finished=finished, error=finish.error_message)
        if finish is not None:
            await self._record(finish, after=recorded)
        return UnitResult(finished=len(units.units))

    async def _evaluate(self, execution_id: str, unit: int, started: UnitStarted, *, recheck: bool) -> FinishUnit:
        assert started.evaluation_id is not None  # noqa: S101 - with the verdict GO it is there
        assert started.fence is not None  # noqa: S101 - likewise
        log = _log.bind(execution_id=execution_id, unit=unit, evaluation_id=started.evaluation_id)
        try:
            with self._leases.holding(started.evaluation_id, started.fence, started.lease_seconds or 60.0):
                outcome = await self._in_runner(execution_id, unit, recheck=recheck)
        except LeaseLostError as error:
            raise ApplicationError(str(error), type="LeaseLost") from error
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_back(started.evaluation_id, started.fence))
            raise
        except RunnerCrashedError as error:
            log.warning("runner_crashed", reason=error.reason)
            outcome = {"status": "failed", "error": error.reason, "log": error.log_tail}
        except TaskFailedError as error:
            outcome = {
                "status": "failed",
                "error": str(error),
                "cause": error.cause,
                "retryable": error.retryable,
            }
        log.info("unit_evaluated", status=outcome["status"])
        return _finish(started.evaluation_id, started.fence, outcome)

    async def _record(self, finish: FinishUnit, after: asyncio.Task[None] | None) -> None:
        if after is not None:
            await after
        try:
            await self._finish_patiently(finish)
        except RefusedError as error:
            if error.code == _FENCED:
                raise ApplicationError(str(error), type=_FENCED) from error
            raise
        if finish.status is Status.SCHEDULED:
            raise ApplicationError(finish.error_message or "The unit was handed back.", type="Infrastructure")

    @retry(
        retry=retry_if_exception_type(httpx.HTTPError),
        wait=wait_exponential_jitter(initial=0.2, max=3.0),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        reraise=True,
    )
    async def _finish_patiently(self, finish: FinishUnit) -> None:
        # What took an hour to evaluate is not thrown away because the server restarts; a lease that has run out
        # meanwhile is the server's to refuse.
        await self._api.finish_unit(finish)

    async def _hand_back(self, evaluation_id: str, fence: int) -> None:
        """Releases the claim of a unit that is stopped in the middle, so that nobody waits for its lease."""
        finish = FinishUnit(
            evaluation_id=evaluation_id,
            fence=fence,
            status=Status.SCHEDULED,
            error_message=f"Executor {self._executor} stopped in the middle of it.",
        )
        with suppress(RefusedError, httpx.HTTPError, TimeoutError):
            await asyncio.wait_for(self._api.finish_unit(finish), _HAND_BACK_SECONDS)

    async def _in_runner(self, execution_id: str, unit: int, *, recheck: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "execution_id": execution_id,
            "execution": None,
            "unit": unit,
            "recheck": recheck,
        }
        execution = await self._executions.get(execution_id)
        async with self._runners.evaluator() as runner:
            outcome = await self._runners.evaluate(runner, arguments, execution)
            if outcome.get("need_execution"):
                arguments["execution"] = execution.model_dump(mode="json")
                outcome = await self._runners.evaluate(runner, arguments, execution)
        return outcome


def _finish(evaluation_id: str, fence: int, outcome: Mapping[str, Any]) -> FinishUnit:
    status = Status(outcome["status"])
    if status is Status.FAILED and outcome.get("retryable"):
        # Handed back: the claim is released, and Temporal's next attempt starts the same unit again.
        status = Status.SCHEDULED
    return FinishUnit(
        evaluation_id=evaluation_id,
        fence=fence,
        status=status,
        error_message=outcome.get("error"),
        cause=outcome.get("cause"),
        log=outcome.get("log"),
        audits=[Audit.model_validate(audit) for audit in outcome.get("audits", [])],
        intervals=outcome.get("intervals"),
        events=[ConsoleEvent.model_validate(event) for event in outcome.get("events", [])],
    )
