"""Starts run workflows of a stack, waits for their ends, and reads from their histories where the time went."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from statistics import mean

import httpx
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, ScheduleActionExecutionStartWorkflow

from tests.fixtures.stack import RunningStack

__all__ = ["EndedRun", "RunClient"]

POLL_SECONDS = 0.02
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class EndedRun:
    """A run from the moment it was asked for to the end of its workflow."""

    seconds: float
    detail: str
    evaluations: int = 0
    """Evaluations that succeeded; only counted for runs started by hand."""


class RunClient:
    """Starts runs of a stack's project.

    Args:
        stack: A stack that is ready.
    """

    def __init__(self, stack: RunningStack):
        self._stack = stack

    def trigger(self, environment: str, cron: str) -> EndedRun:
        """Has a schedule fire now, as it does at each of its ticks."""
        return asyncio.run(self._trigger(f"schedule/{environment}/{cron}/UTC"))

    def start(self, environment: str, *, end: str) -> EndedRun:
        """Starts a run by hand, as `tcloud sqlmesh run --end` does."""
        return asyncio.run(self._start(environment, end))

    async def _trigger(self, schedule_id: str) -> EndedRun:
        client = await self._stack.temporal()
        schedule = client.get_schedule_handle(schedule_id)
        before = (await schedule.describe()).info.num_actions
        asked_at = time.time()
        await schedule.trigger()
        while True:
            info = (await schedule.describe()).info
            if info.num_actions > before:
                break
            await asyncio.sleep(POLL_SECONDS)
        started = info.recent_actions[-1].action
        assert isinstance(started, ScheduleActionExecutionStartWorkflow)
        return await self._ended(client, started.workflow_id, asked_at)

    async def _start(self, environment: str, end: str) -> EndedRun:
        client = await self._stack.temporal()
        variables = self._stack.client_environment
        async with httpx.AsyncClient(
            base_url=f"{self._stack.url}/api/",
            headers={"Authorization": f"Bearer {variables['TCLOUD_CLIENT_SECRET']}"},
            timeout=30,
        ) as http:
            asked_at = time.time()
            answer = await http.post("runs", json={"environment": environment, "end": end})
            run_id = answer.raise_for_status().json()["run_id"]
            ended = await self._ended(client, f"run/{run_id}", asked_at)
            record = (await http.get(f"runs/{run_id}")).raise_for_status().json()
        succeeded = [e for e in record["evaluations"] if e["status"] == "success"]
        return replace(ended, evaluations=len(succeeded))

    async def _ended(self, client: Client, workflow_id: str, asked_at: float) -> EndedRun:
        handle = client.get_workflow_handle(workflow_id)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for _ in handle.fetch_history_events(wait_new_event=True):
                pass
        events = [event async for event in handle.fetch_history_events()]
        close = events[-1]
        if close.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            raise RuntimeError(f"{workflow_id} ended with {EventType.Name(close.event_type)}.")
        activities = _activities(events)
        return EndedRun(
            seconds=_seconds(close) - asked_at,
            detail=_detail(events, activities, asked_at),
        )


@dataclass(frozen=True)
class _Activity:
    waited: float
    worked: float


def _activities(events: Sequence[HistoryEvent]) -> dict[str, list[_Activity]]:
    by_id = {event.event_id: event for event in events}
    found = defaultdict(list)
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            done = event.activity_task_completed_event_attributes
            scheduled, started = by_id[done.scheduled_event_id], by_id[done.started_event_id]
            name = scheduled.activity_task_scheduled_event_attributes.activity_type.name
            found[name].append(_Activity(_seconds(started) - _seconds(scheduled), _seconds(event) - _seconds(started)))
    return found


def _detail(events: Sequence[HistoryEvent], activities: dict[str, list[_Activity]], asked_at: float) -> str:
    tasks = sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED for event in events)
    parts = [f"started after {_seconds(events[0]) - asked_at:.3f} s", f"{tasks} workflow tasks"]
    parts += [
        f"{name} {len(done)} times: waited {mean(a.waited for a in done) * 1000:.0f} ms, "
        f"worked {mean(a.worked for a in done) * 1000:.0f} ms each"
        for name, done in activities.items()
    ]
    return "; ".join(parts)


def _seconds(event: HistoryEvent) -> float:
    return event.event_time.ToDatetime(tzinfo=UTC).timestamp()
