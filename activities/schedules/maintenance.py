"""The schedule of the maintenance itself."""

import asyncio
from datetime import timedelta

import structlog
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from activities.schedules.drift import has_drifted
from workflows.attributes import KIND
from workflows.interfaces import CONTROL_QUEUE, MAINTENANCE
from workflows.maintenance import MaintenanceWorkflow
from workflows.payloads import MaintenanceInput

__all__ = ["MaintenanceSchedule"]

_log = structlog.get_logger(__name__)
_CATCH_UP_WINDOW = timedelta(minutes=1)


class MaintenanceSchedule:
    """Has a project maintained every few minutes.

    Args:
        client: A Temporal client of the project's namespace.
        every: How often.
    """

    def __init__(self, client: Client, every: timedelta):
        self._client = client
        self._every = every

    async def ensure(self) -> None:
        """Makes the schedule, or puts it right, and starts a round at once.

        Raises:
            RPCError: If Temporal cannot be reached.
        """
        wanted = _schedule(self._every)
        try:
            await self._client.create_schedule(MAINTENANCE, wanted, trigger_immediately=True)
            _log.info("maintenance_scheduled", every=str(self._every))
            return
        except ScheduleAlreadyRunningError:
            handle = self._client.get_schedule_handle(MAINTENANCE)
        if await has_drifted(self._client, (await handle.describe()).schedule, wanted):
            await _put_right(handle, wanted)
            _log.info("maintenance_rescheduled", every=str(self._every))
        await handle.trigger()

    async def keep(self) -> None:
        """Makes the schedule again, as often as it is to wake, if somebody has deleted it; until it is cancelled.

        One call each time; what else differs is for `ensure`.
        """
        while True:
            await asyncio.sleep(self._every.total_seconds())
            try:
                await self._client.create_schedule(MAINTENANCE, _schedule(self._every), trigger_immediately=True)
            except ScheduleAlreadyRunningError:
                continue
            except RPCError as error:
                _log.warning("maintenance_not_scheduled", reason=error.message)
            else:
                _log.info("maintenance_restored", every=str(self._every))


async def _put_right(handle: ScheduleHandle, wanted: Schedule) -> None:
    def update(found: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted.state.paused = found.description.schedule.state.paused
        return ScheduleUpdate(schedule=wanted)

    await handle.update(update)


def _schedule(every: timedelta) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            MaintenanceWorkflow.run,
            MaintenanceInput(),
            id=MAINTENANCE,
            task_queue=CONTROL_QUEUE,
            typed_search_attributes=TypedSearchAttributes([SearchAttributePair(KIND, MAINTENANCE)]),
            static_summary="Compares Temporal's schedules with what they should be",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP_WINDOW),
        state=ScheduleState(note="Restores the schedules of all environments, and makes up for missed ticks."),
    )
