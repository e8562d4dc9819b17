"""The activities of the control worker: records over HTTP, schedules in Temporal."""

from collections.abc import Awaitable
from typing import TypeVar

import httpx
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.schedules import EnvironmentSchedules
from tcloud.api.control import ControlApi
from tcloud.wire.environments import ScheduledEnvironment, UnscheduledCron
from tcloud.wire.executions import ConsoleEvent, ExecutionOutcome
from workflows.interfaces import ControlActivities
from workflows.payloads import (
    EnvironmentRef,
    ExecutionRef,
    MaintenanceInput,
    MaintenanceOutcome,
    PausesRef,
    PausesStanding,
    QueryInput,
    QueryOutcome,
    RunOutcome,
    TickRef,
)
from workflows.plan_payloads import HoldResult, PlanOutcome, StageRef, StageStatus

__all__ = ["ServerBackedControlActivities"]

Answer = TypeVar("Answer")


class ServerBackedControlActivities(ControlActivities):
    """Control activities that keep their records with the server.

    All of them may be repeated: a record that is written twice is the same record.

    Args:
        api: The server.
        schedules: The project's schedules.
    """

    def __init__(self, api: ControlApi, schedules: EnvironmentSchedules):
        self._api = api
        self._schedules = schedules

    @activity.defn
    async def record_plan_status(self, plan: PlanOutcome) -> None:
        await _recorded(self._api.plan_status(plan.plan_id, plan.status, plan.error))

    @activity.defn
    async def record_stage_status(self, stage: StageStatus) -> None:
        await _recorded(self._api.stage_status(stage.plan_id, stage.index, stage.status, stage.error))

    @activity.defn
    async def hold_tables(self, stage: StageRef) -> HoldResult:
        held = await _recorded(self._api.hold_tables(stage.plan_id, stage.index))
        return HoldResult(is_held=not held.waiting_for)

    @activity.defn
    async def record_outcome(self, execution: ExecutionRef) -> None:
        outcome = ExecutionOutcome(
            failed=execution.failed, skipped=execution.skipped, cause=execution.cause, errors=execution.errors
        )
        await _recorded(self._api.execution_outcome(execution.execution_id, outcome))

    @activity.defn
    async def record_run_status(self, run: RunOutcome) -> None:
        await _recorded(self._api.run_status(run.run_id, run.status, run.error))

    @activity.defn
    async def begin_query(self, query: QueryInput) -> None:
        await _recorded(self._api.begin_query(query.query_id))

    @activity.defn
    async def record_query_status(self, query: QueryOutcome) -> None:
        await _recorded(self._api.query_status(query.query_id, query.status, query.error))

    @activity.defn
    async def sync_schedules(self, environment: EnvironmentRef) -> None:
        name = environment.environment
        wanted = await self._wanted(name)
        left_out = await self._schedules.sync(name, wanted.crons if wanted else [], wanted.pause if wanted else None)
        await _recorded(self._api.unscheduled(name, left_out))
        if left_out and environment.plan_id is not None:
            warnings = [ConsoleEvent(type="log_warning", payload=_warning(cron)) for cron in left_out]
            await _recorded(self._api.owner_events(environment.plan_id, warnings))

    @activity.defn
    async def settle_pauses(self, pauses: PausesRef) -> PausesStanding:
        answer = await _recorded(self._api.settle_pauses(pauses.environment, pauses.run_id))
        if (wanted := await self._wanted(pauses.environment)) is not None:
            await self._schedules.follow_pause(wanted)
        return PausesStanding.model_validate_json(answer)

    @activity.defn
    async def reconcile_schedules(self, maintenance: MaintenanceInput) -> MaintenanceOutcome:  # noqa: ARG002 - all is maintained
        return await self._schedules.reconcile(self._api.wanted_schedules)

    @activity.defn
    async def has_later_tick(self, tick: TickRef) -> bool:
        return await self._schedules.has_later_tick(tick)

    @activity.defn
    async def has_waiting_tick(self, tick: TickRef) -> bool:
        return await self._schedules.has_waiting_tick(tick)

    async def _wanted(self, environment: str) -> ScheduledEnvironment | None:
        found = await self._api.wanted_schedules()
        return next((wanted for wanted in found if wanted.environment == environment), None)


def _warning(left_out: UnscheduledCron) -> dict[str, object]:
    message = (
        f"{left_out.reason} These models do not run by themselves: {', '.join(left_out.models)}. "
        "Give them another cron or cron_tz, or run them with `tcloud runs start`."
    )
    return {"short_message": message, "long_message": None}


async def _recorded(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if httpx.codes.is_client_error(status) and status != httpx.codes.TOO_MANY_REQUESTS:
            raise ApplicationError(_refusal(error.response), non_retryable=True) from error
        raise


def _refusal(response: httpx.Response) -> str:
    """The server's own sentence: it may be what a plan ends with."""
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"The server refused the record: {response.text}"
