"""Has executors tell of plans and runs; whom, their configuration says."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows.interfaces import ExecutorActivities, ExecutorQueue
    from workflows.payloads import RunNotice
    from workflows.plan_payloads import PlanNotice
    from workflows.policies import NOTIFICATION

__all__ = ["give_notice"]

Notice = TypeVar("Notice", PlanNotice, RunNotice)


async def give_notice(
    tell: Callable[[ExecutorActivities, Notice], Awaitable[None]], notice: Notice, queue: ExecutorQueue
) -> None:
    """Has an executor of a queue give a notice; a plan or run fares no worse if nobody hears of it.

    Raises:
        ActivityError: If the workflow was cancelled.
    """
    try:
        await workflow.execute_activity_method(tell, notice, task_queue=queue, **NOTIFICATION)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        workflow.logger.warning("Nobody was notified of %s: %s", notice.event, error.cause or error)
