"""One actor per environment; its workflow id, `environment/<name>`, is the mutex of the environment's plans."""

import asyncio
from contextlib import suppress

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ChildWorkflowError
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from workflows.attributes import ENVIRONMENT, KIND, PLAN_ID
    from workflows.interfaces import CONTROL_QUEUE, ControlActivities
    from workflows.payloads import EnvironmentState, PlanInput, PlanOutcome, PlanRef
    from workflows.plan import PlanWorkflow
    from workflows.policies import RECORD

__all__ = ["EnvironmentWorkflow"]


@workflow.defn
class EnvironmentWorkflow:
    """Applies the plans of one environment strictly one after another, in the order of their arrival.

    It never ends: it waits for plans, and continues as new between two of them.
    """

    @workflow.init
    def __init__(self, state: EnvironmentState):
        self._environment = state.environment
        self._queue = list(state.queue)
        self._applying: ChildWorkflowHandle[PlanWorkflow, PlanOutcome] | None = None
        self._cancelled_at_start: str | None = None

    @workflow.run
    async def run(self, state: EnvironmentState) -> None:  # noqa: ARG002 - read by __init__
        while not workflow.info().is_continue_as_new_suggested():
            await workflow.wait_condition(lambda: bool(self._queue))
            await self._apply(self._queue[0])
            self._queue.pop(0)
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._state())

    @workflow.update
    def submit_plan(self, plan: PlanRef) -> int:
        """Puts a plan at the end of the queue and returns its place; 0 is applied at once. Repeating it is harmless."""
        if plan.plan_id not in self._queue:
            self._queue.append(plan.plan_id)
        return self._queue.index(plan.plan_id)

    @workflow.signal
    async def cancel_plan(self, plan: PlanRef) -> None:
        """Takes a plan out of the queue, or cancels it if it is being applied."""
        if plan.plan_id not in self._queue:
            return
        if self._queue[0] == plan.plan_id:
            if self._applying is not None:
                self._applying.cancel()
            else:
                self._cancelled_at_start = plan.plan_id
            return
        self._queue.remove(plan.plan_id)
        await workflow.execute_activity_method(
            ControlActivities.record_plan_status,
            PlanOutcome(
                plan_id=plan.plan_id,
                environment=self._environment,
                status="aborted",
                error="The plan was cancelled before its turn came; nothing was changed.",
            ),
            **RECORD,
        )

    @workflow.query
    def state(self) -> EnvironmentState:
        """The plans in the order in which they are applied; the first is being applied."""
        return self._state()

    def _state(self) -> EnvironmentState:
        return EnvironmentState(environment=self._environment, queue=self._queue)

    async def _apply(self, plan_id: str) -> None:
        # A plan that fails records it itself; whatever happened to it, the next one's turn comes.
        with suppress(ChildWorkflowError, asyncio.CancelledError):
            self._applying = await workflow.start_child_workflow(
                PlanWorkflow.run,
                PlanInput(environment=self._environment, plan_id=plan_id),
                id=f"plan/{self._environment}/{plan_id}",
                task_queue=CONTROL_QUEUE,
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(KIND, "plan"),
                        SearchAttributePair(ENVIRONMENT, self._environment),
                        SearchAttributePair(PLAN_ID, plan_id),
                    ]
                ),
            )
            if self._cancelled_at_start == plan_id:
                self._applying.cancel()
            await self._applying
        self._applying = None
