"""What a run does first: it says who it is, and gives way if it comes late and is not needed any more."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.attributes import RUN_ID
    from workflows.interfaces import ControlActivities
    from workflows.payloads import RunInput, TickRef
    from workflows.policies import RECORD

__all__ = ["gives_way"]

_LATE = timedelta(minutes=1)
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
