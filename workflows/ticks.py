"""What a run does first: it says who it is, and gives way if another one does its work.

Whatever is away, one run evaluates all that is due. Without a control worker ticks wait unseen, and the last one is
run. Without an executor it is the first one that waits, and those that come after it end.
"""

from datetime import timedelta
from itertools import chain, repeat

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    TimeoutError,  # noqa: A004 - Temporal's, not Python's
    TimeoutType,
)

with workflow.unsafe.imports_passed_through():
    from workflows.attributes import RUN_ID
    from workflows.interfaces import ControlActivities, ExecutorActivities
    from workflows.payloads import RunInput, TickRef, UnitGraph
    from workflows.policies import PLANNING, RECORD

__all__ = ["gives_way", "prepare_tick"]

_LATE = timedelta(minutes=1)
_FIRST_WAITS = (timedelta(seconds=15), timedelta(minutes=1), timedelta(minutes=5))
_LATER_WAITS = timedelta(minutes=30)
"""How long a tick waits for an executor before it asks whether an earlier one waits already, which it does seldom: the
answer was no, and each time it asks adds to its history."""

_CHANGE = "run-id-and-late-ticks"


async def gives_way(run: RunInput, run_id: str) -> bool:
    """Whether a run ends at once, because it has waited for a worker for long and a later one does its work.

    While no control worker is there, every tick starts a workflow that waits. One evaluates all that is due: the last.
    Makes the run known by its id to whoever searches Temporal, too.
    """
    if run.walk is not None or run.round > 1 or not workflow.patched(_CHANGE):
        return False
    info = workflow.info()
    if info.typed_search_attributes.get(RUN_ID) is None:
        workflow.upsert_search_attributes([RUN_ID.value_set(run_id)])
    if run.trigger != "schedule" or workflow.now() - info.workflow_start_time < _LATE:
        return False
    has_later: bool = await workflow.execute_activity_method(
        ControlActivities.has_later_tick,
        TickRef(environment=run.environment, run_id=run_id, started_at=info.workflow_start_time),
        **RECORD,
    )
    return has_later


async def prepare_tick(run: RunInput, run_id: str, queue: str) -> UnitGraph | None:
    """Has a tick's run prepared by an executor of a queue.

    None if none takes it up, and an earlier tick is waiting for one, too. That one is prepared when an executor is
    there, later than now: it evaluates what was due for this one.
    """
    waits = chain(_FIRST_WAITS, repeat(_LATER_WAITS))
    while True:
        try:
            # Temporal ends the wait: what an executor has taken up is never given up for another tick.
            return await workflow.execute_activity_method(
                ExecutorActivities.prepare_run,
                run,
                task_queue=queue,
                schedule_to_start_timeout=next(waits),
                **PLANNING,
            )
        except ActivityError as error:
            cause = error.cause
            if not isinstance(cause, TimeoutError) or cause.type is not TimeoutType.SCHEDULE_TO_START:
                raise
        tick = TickRef(environment=run.environment, run_id=run_id, started_at=workflow.info().workflow_start_time)
        if await workflow.execute_activity_method(ControlActivities.has_waiting_tick, tick, **RECORD):
            return None
