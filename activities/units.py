"""Evaluates units: claim, evaluate in a runner, record; each once, whatever dies in between."""

from collections.abc import Mapping
from typing import Any

import structlog
from temporalio.exceptions import ApplicationError

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
_KEPT_REFUSALS = 1000


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
        self._refused: dict[tuple[str, int], None] = {}

    async def evaluate(self, units: UnitRef, attempt: int) -> UnitResult:
        """Evaluates units until one fails, is claimed by another plan or run, or all are done.

        Raises:
            ApplicationError: Retryable, if the infrastructure failed in the middle of one.
        """
        for finished, unit in enumerate(units.units):
            started = await self._api.start_unit(
                StartUnit(execution_id=units.execution_id, unit=unit, attempt=attempt, executor=self._executor)
            )
            match started.verdict:
                case Verdict.STOP:
                    return UnitResult(finished=finished, stopped=True)
                case Verdict.CLAIMED:
                    self._remember_refusal(units.execution_id, unit)
                    return UnitResult(finished=finished, claimed_by=started.claimed_by)
                case Verdict.DONE:
                    if started.status is not Status.SUCCESS:
                        return UnitResult(finished=finished, error=started.error_message or "It failed before.")
                case Verdict.GO:
                    # After a wait or a crash somebody may have done the interval: SQLMesh's state is asked first.
                    recheck = attempt > 1 or (units.execution_id, unit) in self._refused
                    error = await self._evaluate(units.execution_id, unit, started, recheck=recheck)
                    if error is not None:
                        return UnitResult(finished=finished, error=error)
        return UnitResult(finished=len(units.units))

    async def _evaluate(self, execution_id: str, unit: int, started: UnitStarted, *, recheck: bool) -> str | None:
        assert started.evaluation_id is not None  # noqa: S101 - with the verdict GO it is there
        assert started.fence is not None  # noqa: S101 - likewise
        log = _log.bind(execution_id=execution_id, unit=unit, evaluation_id=started.evaluation_id)
        try:
            with self._leases.holding(started.evaluation_id, started.fence, started.lease_seconds or 60.0):
                outcome = await self._in_runner(execution_id, unit, recheck=recheck)
        except LeaseLostError as error:
            raise ApplicationError(str(error), type="LeaseLost") from error
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
        finish = _finish(started.evaluation_id, started.fence, outcome)
        try:
            await self._api.finish_unit(finish)
        except RefusedError as error:
            if error.code == _FENCED:
                raise ApplicationError(str(error), type=_FENCED) from error
            raise
        if finish.status is Status.SCHEDULED:
            raise ApplicationError(finish.error_message or "The unit was handed back.", type="Infrastructure")
        log.info("unit_finished", status=finish.status.value)
        return finish.error_message if finish.status is Status.FAILED else None

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

    def _remember_refusal(self, execution_id: str, unit: int) -> None:
        self._refused[execution_id, unit] = None
        while len(self._refused) > _KEPT_REFUSALS:
            del self._refused[next(iter(self._refused))]


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
