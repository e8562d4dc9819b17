"""Evaluates single units: claim, evaluate in a runner, record; each once, whatever dies in between."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import httpx
import structlog
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from activities.discretion import discreet_finish
from activities.leases import LeaseKeeper, LeaseLostError
from activities.runner_calls import RunnerCalls
from activities.turns import TurnQueue
from envmanager.errors import PythonUnavailableError, RunnerCrashedError, TaskFailedError, ZygoteFailedError
from tcloud.api.executor import RefusedError
from tcloud.tracing import is_tracing, record_spans, span
from tcloud.wire.executions import (
    ConsoleEvent,
    Execution,
    FinishUnit,
    SnapshotRef,
    StartUnit,
    UnitStarted,
    UnitTurn,
)
from tcloud.wire.runs import Audit
from tcloud.wire.statuses import Status
from telemetry.metrics import count, observe_seconds

__all__ = ["UnitEvaluations"]

_log = structlog.get_logger(__name__)
_PATIENCE_SECONDS = 120.0
_HAND_BACK_SECONDS = 3.0


class UnitEvaluations:
    """Takes units through their three steps.

    Args:
        turns: Takes turns at the server.
        runners: The processes that SQLMesh runs in.
        leases: Keeps the claims of what is in flight.
        executor: This executor's identity.
        timeout: After how long an evaluation is stopped of which its project says nothing; None for never.
    """

    def __init__(
        self,
        turns: TurnQueue,
        runners: RunnerCalls,
        leases: LeaseKeeper,
        executor: str,
        timeout: timedelta | None = None,
    ):
        self._turns = turns
        self._runners = runners
        self._leases = leases
        self._executor = executor
        self._timeout = timeout

    async def prepare(self, execution: Execution) -> None:
        """Has what the units of an execution need be there; may take minutes, in which nothing is claimed yet.

        Raises:
            PythonUnavailableError: If their Python environment cannot be built.
        """
        await self._runners.prepare(execution)

    async def start(self, execution_id: str, unit: int, finish: FinishUnit | None) -> UnitStarted:
        """Records the unit before, and claims and opens the next one.

        Raises:
            RefusedError: With the code TM-FENCED if the unit before is no longer this executor's.
        """
        start = StartUnit(execution_id=execution_id, unit=unit, executor=self._executor)
        call = asyncio.ensure_future(self._turn(UnitTurn(finish=finish, start=start)))
        try:
            started = await asyncio.shield(call)
        except asyncio.CancelledError:
            # The unit before has been evaluated, and the next one may be claimed by now: neither is left like that.
            with suppress(RefusedError, httpx.HTTPError, TimeoutError):
                await self._hand_back(await asyncio.wait_for(call, _HAND_BACK_SECONDS))
            raise
        assert started is not None  # noqa: S101 - it was asked for
        return started

    async def finish(self, finish: FinishUnit) -> None:
        """Records a unit.

        Raises:
            RefusedError: With the code TM-FENCED if it is no longer this executor's.
        """
        await self._turn(UnitTurn(finish=finish))

    async def run(self, execution: Execution, unit: int, started: UnitStarted, retried: int) -> FinishUnit:
        """Evaluates a claimed unit in a runner; everything that ends badly is an ending, too.

        Args:
            execution: The execution.
            unit: The unit's number.
            started: What the server said to its start.
            retried: How often it has been tried again because it failed.

        Raises:
            asyncio.CancelledError: If it was stopped; it has been handed back then.
        """
        assert started.evaluation_id is not None  # noqa: S101 - with the verdict GO it is there
        assert started.fence is not None  # noqa: S101 - likewise
        log = _log.bind(execution_id=execution.execution_id, unit=unit, evaluation_id=started.evaluation_id)
        begun = monotonic()
        try:
            with self._leases.holding(started.evaluation_id, started.fence, started.lease_seconds or 30.0):
                outcome = await self._in_time(execution, unit, recheck=started.recheck)
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_back(started))
            raise
        except (LeaseLostError, ZygoteFailedError, PythonUnavailableError) as error:
            outcome = {"status": "failed", "error": str(error), "retryable": True}
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
        may_differ = _may_differ(outcome)
        if self._runners.keeps_home:
            if finish.error_message is not None:
                log.warning("kept_at_home", error=finish.error_message, evaluation_log=finish.log)
            finish = discreet_finish(finish)
        if finish.status is Status.FAILED and may_differ:
            snapshot = execution.snapshots[execution.units[unit].snapshot]
            if retried < snapshot.retries:
                finish = _tried_again(finish, snapshot, retried)
        log.info("unit_evaluated", status=finish.status)
        count("tempomesh_evaluations", status=finish.status.value)
        observe_seconds("tempomesh_evaluation_duration_seconds", monotonic() - begun)
        return finish

    @retry(
        retry=retry_if_exception_type(httpx.HTTPError),
        wait=wait_exponential_jitter(initial=0.2, max=3.0),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        reraise=True,
    )
    async def _turn(self, turn: UnitTurn) -> UnitStarted | None:
        # What took an hour to evaluate is not thrown away because the server restarts; a lease that has run out
        # meanwhile is the server's to refuse.
        return await self._turns.take(turn)

    async def _hand_back(self, started: UnitStarted | None) -> None:
        """Releases the claim of a unit that is stopped, so that nobody waits for its lease."""
        if started is None or started.evaluation_id is None or started.fence is None:
            return
        finish = FinishUnit(
            evaluation_id=started.evaluation_id,
            fence=started.fence,
            status=Status.SCHEDULED,
            error_message=f"Executor {self._executor} stopped in the middle of it.",
        )
        with suppress(RefusedError, httpx.HTTPError, TimeoutError):
            await asyncio.wait_for(self._turns.take(UnitTurn(finish=finish)), _HAND_BACK_SECONDS)

    async def _in_time(self, execution: Execution, unit: int, *, recheck: bool) -> dict[str, Any]:
        limit = self._limit(execution.snapshots[execution.units[unit].snapshot])
        try:
            # Cancelling the call cancels the queries in the warehouse and ends the process.
            async with asyncio.timeout(limit.seconds) as timeout:
                return await self._in_runner(execution, unit, recheck=recheck)
        except TimeoutError:
            if not timeout.expired():
                raise
            error = f"It was stopped: it took longer than {limit.seconds:g} seconds, the limit that {limit.by} sets."
            return {"status": "failed", "error": error}

    def _limit(self, snapshot: SnapshotRef) -> "_Limit":
        if snapshot.timeout_seconds is None and self._timeout is not None:
            return _Limit(self._timeout.total_seconds(), f"TCLOUD_EXECUTOR_EVALUATION_TIMEOUT of {self._executor}")
        return _Limit(snapshot.timeout_seconds, "evaluation_timeout_seconds of the project")

    async def _in_runner(self, execution: Execution, unit: int, *, recheck: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "execution_id": execution.execution_id,
            "execution": None,
            "unit": unit,
            "recheck": recheck,
            "traced": is_tracing(),
        }
        model = execution.snapshots[execution.units[unit].snapshot].name
        async with self._runners.evaluator(execution) as runner:
            with span("evaluate", **{"tempomesh.model": model}):
                outcome = await self._runners.evaluate(runner, arguments, execution)
                if outcome.get("need_execution"):
                    arguments["execution"] = execution.model_dump(mode="json")
                    outcome = await self._runners.evaluate(runner, arguments, execution)
                record_spans(outcome.pop("spans", ()))
        return outcome


@dataclass(frozen=True)
class _Limit:
    seconds: float | None
    by: str


def _may_differ(outcome: Mapping[str, Any]) -> bool:
    """Whether another attempt at a failed unit might end differently: what an audit found stays to be found."""
    return "audits" not in (outcome.get("cause") or {})


def _tried_again(finish: FinishUnit, snapshot: SnapshotRef, retried: int) -> FinishUnit:
    wait = f" in {snapshot.retry_backoff_seconds:g} seconds" if snapshot.retry_backoff_seconds else ""
    said = (
        f"{snapshot.name} failed and is tried again{wait} (retry {retried + 1} of {snapshot.retries}): "
        f"{' '.join((finish.error_message or '').split())}"
    )
    # A warning on the terminal of whoever watches; the last attempt is the one that is reported as failed.
    warning = ConsoleEvent(type="log_warning", payload={"short_message": said})
    return finish.model_copy(
        update={"status": Status.SCHEDULED, "is_retried": True, "events": [*_unfinished(finish.events), warning]}
    )


def _unfinished(events: Sequence[ConsoleEvent]) -> list[ConsoleEvent]:
    """The events of an attempt after which another one comes: SQLMesh's consoles count each batch once."""
    return [event for event in events if event.type != "update_snapshot_evaluation_progress"]


def _finish(evaluation_id: str, fence: int, outcome: Mapping[str, Any]) -> FinishUnit:
    status = Status(outcome["status"])
    if status is Status.FAILED and outcome.get("retryable"):
        # Handed back: the claim is released, and whoever takes the unit next starts it anew.
        status = Status.SCHEDULED
    events = [ConsoleEvent.model_validate(event) for event in outcome.get("events", [])]
    return FinishUnit(
        evaluation_id=evaluation_id,
        fence=fence,
        status=status,
        error_message=outcome.get("error"),
        cause=outcome.get("cause"),
        log=outcome.get("log"),
        audits=[Audit.model_validate(audit) for audit in outcome.get("audits", [])],
        interval=outcome.get("interval"),
        intervals=outcome.get("intervals"),
        events=_unfinished(events) if status is Status.SCHEDULED else events,
    )
