"""Brings the Temporal schedules of environments in line with the crons of their models."""

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import (
    Client,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleListDescription,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from activities.crons import CronNotTranslatableError, next_instant
from activities.schedules.definitions import Definition, environment_of, is_paused_by_hand
from activities.schedules.drift import has_drifted, seems_unchanged
from activities.schedules.missed import missed
from tcloud.wire.environments import CronGroup, ScheduledEnvironment, UnscheduledCron
from workflows.attributes import ENVIRONMENT, KIND, TRIGGER
from workflows.interfaces import ExecutorActivities
from workflows.payloads import MaintenanceOutcome, TickRef

__all__ = ["EnvironmentSchedules"]

_log = structlog.get_logger(__name__)
_AT_ONCE = 20
_PREPARATION = ExecutorActivities.prepare_run.__name__
_NOT_TAKEN_UP = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED


@dataclass
class _Changes:
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    left_out: list[UnscheduledCron] = field(default_factory=list)


class EnvironmentSchedules:
    """The schedules of a project's environments: one for each distinct cron and timezone of an environment.

    Args:
        client: A Temporal client of the project's namespace.
    """

    def __init__(self, client: Client):
        self._client = client
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def sync(
        self, environment: str, crons: Sequence[CronGroup], pause: str | None = None
    ) -> list[UnscheduledCron]:
        """Creates, changes and deletes schedules until there is exactly one for each group.

        One listing tells what there is; where all is as it should be, nothing is written.

        Args:
            environment: The environment.
            crons: Its crons.
            pause: Why the environment is paused, if it is.

        Returns:
            What neither croniter nor Temporal takes; the others are scheduled all the same.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        listed = {
            schedule_id: found
            for schedule_id, found in (await self._listed()).items()
            if environment_of(schedule_id) == environment
        }
        changes = _Changes()
        wanted = _wanted([ScheduledEnvironment(environment=environment, crons=list(crons), pause=pause)], changes)
        await self._together(
            [
                *(
                    self._put(definition, changes)
                    for schedule_id, definition in wanted.items()
                    if schedule_id not in listed or not _seems_right(listed[schedule_id], definition)
                ),
                *(self._delete(listed[schedule_id], changes) for schedule_id in listed.keys() - wanted.keys()),
            ]
        )
        return sorted(changes.left_out, key=lambda left_out: (left_out.cron, left_out.timezone))

    async def reconcile(
        self, environments: Callable[[], Awaitable[Sequence[ScheduledEnvironment]]]
    ) -> MaintenanceOutcome:
        """Puts right what differs from what there should be, in all environments, and makes up for missed ticks.

        Schedules that somebody has paused stay paused.

        Args:
            environments: Asks for what there should be. It is asked after the schedules have been listed, so that
                one that a plan has just made is not taken for one too many.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        listed = await self._listed()
        changes = _Changes()
        wanted = _wanted(await environments(), changes)
        described: dict[str, ScheduleDescription] = {}

        async def check(definition: Definition) -> None:
            found = await self._put_right(definition, changes)
            if found is not None:
                described[definition.schedule_id] = found

        await self._together(
            [
                *(check(definition) for definition in wanted.values()),
                *(self._delete(listed[schedule_id], changes) for schedule_id in listed.keys() - wanted.keys()),
            ]
        )
        return MaintenanceOutcome(
            created=sorted(changes.created),
            updated=sorted(changes.updated),
            deleted=sorted(changes.deleted),
            paused=sorted(
                schedule_id for schedule_id, found in described.items() if is_paused_by_hand(found.schedule.state)
            ),
            caught_up=await self._catch_up(wanted, described, changes.created),
        )

    async def follow_pause(self, environment: ScheduledEnvironment) -> None:
        """Has an environment's schedules paused, or not, and leaves the rest to `sync` and `reconcile`.

        Each is looked at: a listing lags behind, and may not know yet of a pause that has just ended.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        changes = _Changes()
        await self._together(
            [self._put_right(definition, changes) for definition in _wanted([environment], changes).values()]
        )

    async def has_later_tick(self, tick: TickRef) -> bool:
        """Whether a run that another tick of the environment started later is waiting or under way.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        return (await self._client.count_workflows(_running_ticks(tick, ">"))).count > 0

    async def has_waiting_tick(self, tick: TickRef) -> bool:
        """Whether a run that another tick of the environment started earlier is waiting for an executor.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        this = (tick.started_at, f"run/{tick.run_id}")
        async for found in self._client.list_workflows(_running_ticks(tick, "<=")):
            if (found.start_time, found.id) < this and await self._waits_for_executor(found.id):
                return True
        return False

    async def _waits_for_executor(self, workflow_id: str) -> bool:
        # Not a listing's business: what an executor has just taken up is not waiting any more.
        described = await self._client.get_workflow_handle(workflow_id).describe()
        return any(
            pending.activity_type.name == _PREPARATION and pending.state == _NOT_TAKEN_UP
            for pending in described.raw_description.pending_activities
        )

    async def _catch_up(
        self,
        wanted: Mapping[str, Definition],
        described: Mapping[str, ScheduleDescription],
        restored: Container[str],
    ) -> list[str]:
        environments = []
        for environment, schedule_id in missed(wanted, described, restored, datetime.now(UTC)):
            await self._client.get_schedule_handle(schedule_id).trigger()
            environments.append(environment)
            _log.info("missed_tick_made_up_for", environment=environment, schedule_id=schedule_id)
        return environments

    async def _listed(self) -> dict[str, ScheduleListDescription]:
        # No query: visibility lags behind, and a schedule just created must be seen.
        return {
            listed.id: listed
            async for listed in await self._client.list_schedules()
            if environment_of(listed.id) is not None
        }

    async def _described(self, schedule_id: str) -> ScheduleDescription | None:
        try:
            return await self._client.get_schedule_handle(schedule_id).describe()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return None

    async def _put_right(self, definition: Definition, changes: _Changes) -> ScheduleDescription | None:
        found = await self._described(definition.schedule_id)
        if found is not None:
            state, wanted = found.schedule.state, definition.schedule(found.schedule.state)
            if state.paused == wanted.state.paused and not await has_drifted(self._client, found.schedule, wanted):
                return found
        await self._put(definition, changes)
        return await self._described(definition.schedule_id)

    async def _put(self, definition: Definition, changes: _Changes) -> None:
        schedule_id = definition.schedule_id
        try:
            try:
                await self._client.create_schedule(
                    schedule_id,
                    definition.schedule(),
                    memo=definition.memo,
                    search_attributes=definition.search_attributes,
                )
                changes.created.append(schedule_id)
            except ScheduleAlreadyRunningError:
                handle = self._client.get_schedule_handle(schedule_id)
                await handle.update(lambda found: _updated(found, definition))
                changes.updated.append(schedule_id)
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            # A timezone that Python knows and Temporal does not, for one; asking again would not help.
            group = definition.group
            _leave_out(
                definition, changes, f"Cron '{group.cron}' in {group.timezone} cannot be scheduled: {error.message}."
            )
            return
        _log.info("schedule_set", schedule_id=schedule_id, models=len(definition.group.models))

    async def _delete(self, listed: ScheduleListDescription, changes: _Changes) -> None:
        schedule_id = listed.id
        if "environment" not in await listed.memo():
            # It has an id like ours, but somebody else made it.
            return
        try:
            await self._client.get_schedule_handle(schedule_id).delete()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        changes.deleted.append(schedule_id)
        _log.info("schedule_deleted", schedule_id=schedule_id)

    async def _together(self, calls: Iterable[Awaitable[object]]) -> None:
        async def limited(call: Awaitable[object]) -> None:
            async with self._limit:
                await call

        await asyncio.gather(*(limited(call) for call in calls))


def _running_ticks(tick: TickRef, started: str) -> str:
    return (
        f"{KIND.name} = 'run' AND {TRIGGER.name} = 'schedule' AND {ENVIRONMENT.name} = '{tick.environment}' "
        f"AND ExecutionStatus = 'Running' AND StartTime {started} '{tick.started_at.isoformat()}'"
    )


def _wanted(environments: Iterable[ScheduledEnvironment], changes: _Changes) -> dict[str, Definition]:
    """Those that will ever tick: Temporal deletes a schedule without a future by itself."""
    now = datetime.now(UTC)
    wanted = {}
    for environment in environments:
        for group in environment.crons:
            definition = Definition(environment.environment, group, environment.pause, environment.resumed_at)
            try:
                if next_instant(group.cron, group.timezone, now) is not None and definition.schedule().spec.calendars:
                    wanted[definition.schedule_id] = definition
            except CronNotTranslatableError as error:
                _leave_out(definition, changes, str(error))
    return wanted


def _leave_out(definition: Definition, changes: _Changes, reason: str) -> None:
    _log.warning("cron_not_scheduled", schedule_id=definition.schedule_id, reason=reason)
    changes.left_out.append(UnscheduledCron(**definition.group.model_dump(), reason=reason))


def _seems_right(listed: ScheduleListDescription, definition: Definition) -> bool:
    state = listed.schedule.state if listed.schedule is not None else None
    wanted = definition.schedule(state)
    return state is not None and state.paused == wanted.state.paused and seems_unchanged(listed, wanted)


def _updated(found: ScheduleUpdateInput, definition: Definition) -> ScheduleUpdate:
    # Whoever paused the schedule by hand meant it.
    return ScheduleUpdate(schedule=definition.schedule(found.description.schedule.state))
