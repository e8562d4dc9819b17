"""Brings the Temporal schedules of an environment in line with the crons of its models."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from activities.crons import CronNotTranslatableError, schedule_spec
from tcloud.wire.environments import CronGroup, UnscheduledCron
from workflows.attributes import ENVIRONMENT, KIND, TRIGGER
from workflows.interfaces import CONTROL_QUEUE
from workflows.payloads import RunInput
from workflows.run import RunWorkflow

__all__ = ["EnvironmentSchedules"]

_log = structlog.get_logger(__name__)

_CATCH_UP_WINDOW = timedelta(minutes=1)
"""Temporal's default is a year. A run evaluates whatever is due, so after an outage one tick is as good as all."""

_AT_ONCE = 20
_MEMO_FINGERPRINT = "fingerprint"


class EnvironmentSchedules:
    """The schedules of a project's environments: one for each distinct cron and timezone of an environment.

    Args:
        client: A Temporal client of the project's namespace.
    """

    def __init__(self, client: Client):
        self._client = client

    async def sync(self, environment: str, crons: Sequence[CronGroup]) -> list[UnscheduledCron]:
        """Creates, changes and deletes schedules until there is exactly one for each group.

        A cron that Temporal does not take is left out; the others are scheduled all the same.

        Returns:
            What was left out, and why.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        wanted = {_schedule_id(environment, group): group for group in crons}
        existing = await self._existing(environment)
        limit = asyncio.Semaphore(_AT_ONCE)

        refused: list[UnscheduledCron] = []

        async def put(schedule_id: str, group: CronGroup) -> None:
            async with limit:
                try:
                    await self._put(schedule_id, environment, group, existing.get(schedule_id))
                except CronNotTranslatableError as error:
                    _log.warning("cron_not_scheduled", environment=environment, cron=group.cron, reason=str(error))
                    refused.append(UnscheduledCron(**group.model_dump(), reason=str(error)))

        async def delete(schedule_id: str) -> None:
            async with limit:
                await self._delete(schedule_id)

        await asyncio.gather(
            *(put(schedule_id, group) for schedule_id, group in wanted.items()),
            *(delete(schedule_id) for schedule_id in existing.keys() - wanted.keys()),
        )
        return sorted(refused, key=lambda left_out: (left_out.cron, left_out.timezone))

    async def _existing(self, environment: str) -> dict[str, str]:
        """Schedule id to the fingerprint in its memo: `describe` would give back a compiled spec."""
        prefix = _environment_prefix(environment)
        found = {}
        # No query: visibility lags behind, and a schedule just created must be seen.
        async for listed in await self._client.list_schedules():
            if listed.id.startswith(prefix):
                found[listed.id] = str((await listed.memo()).get(_MEMO_FINGERPRINT, ""))
        return found

    async def _put(self, schedule_id: str, environment: str, group: CronGroup, existing: str | None) -> None:
        log = _log.bind(environment=environment, cron=group.cron, timezone=group.timezone)
        schedule = _schedule(environment, group)
        fingerprint = _fingerprint(group)
        if existing == fingerprint:
            return
        memo = {
            _MEMO_FINGERPRINT: fingerprint,
            "environment": environment,
            "cron": group.cron,
            "timezone": group.timezone,
        }
        try:
            await self._client.create_schedule(
                schedule_id, schedule, memo=memo, search_attributes=_search_attributes(environment)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            # A timezone that Python knows and Temporal does not, for one; asking again would not help.
            raise CronNotTranslatableError(
                f"Cron '{group.cron}' in {group.timezone} cannot be scheduled: {error.message}."
            ) from error
        except ScheduleAlreadyRunningError:
            await self._client.get_schedule_handle(schedule_id).update(lambda found: _updated(found, schedule))
        log.info("schedule_set", schedule_id=schedule_id, models=len(group.models))

    async def _delete(self, schedule_id: str) -> None:
        try:
            await self._client.get_schedule_handle(schedule_id).delete()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        _log.info("schedule_deleted", schedule_id=schedule_id)


def _schedule(environment: str, group: CronGroup) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            RunWorkflow.run,
            RunInput(environment=environment),
            id=f"run/{environment}",
            task_queue=CONTROL_QUEUE,
            typed_search_attributes=TypedSearchAttributes(
                [
                    SearchAttributePair(KIND, "run"),
                    SearchAttributePair(ENVIRONMENT, environment),
                    SearchAttributePair(TRIGGER, "schedule"),
                ]
            ),
        ),
        spec=schedule_spec(group.cron, group.timezone),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL, catchup_window=_CATCH_UP_WINDOW),
        state=ScheduleState(note=f"{len(group.models)} models of environment {environment}: {group.cron}"),
    )


def _updated(found: ScheduleUpdateInput, wanted: Schedule) -> ScheduleUpdate:
    # Whoever paused the schedule by hand meant it: only what the cron decides is replaced.
    wanted.state.paused = found.description.schedule.state.paused
    return ScheduleUpdate(schedule=wanted)


def _schedule_id(environment: str, group: CronGroup) -> str:
    return f"{_environment_prefix(environment)}{quote(group.cron, safe='*@')}/{quote(group.timezone, safe='')}"


def _environment_prefix(environment: str) -> str:
    return f"schedule/{environment}/"


def _search_attributes(environment: str) -> TypedSearchAttributes:
    return TypedSearchAttributes([SearchAttributePair(ENVIRONMENT, environment)])


def _fingerprint(group: CronGroup) -> str:
    return hashlib.sha256(f"{group.cron}|{group.timezone}".encode()).hexdigest()[:16]
