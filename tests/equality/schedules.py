"""Keeps real time out: the clock of the comparison is the one that its commands name."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import quote

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleState,
)

from tests.fixtures.stack import RunningStack

__all__ = ["hold_schedules"]


def hold_schedules(stack: RunningStack, crons: Iterable[str]) -> None:
    """Makes the schedules of `prod` before the first plan does, paused; whoever changes them later leaves them so."""
    asyncio.run(_hold(stack, crons))


async def _hold(stack: RunningStack, crons: Iterable[str]) -> None:
    client = await stack.temporal()
    for cron in crons:
        await client.create_schedule(
            f"schedule/prod/{quote(cron, safe='*@')}/UTC",
            Schedule(
                action=ScheduleActionStartWorkflow("Never", id="never", task_queue="never"),
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=365))]),
                state=ScheduleState(paused=True),
            ),
        )
