"""One actor per environment; its workflow id, `environment/<name>`, is the mutex of the environment's plans.

It also has the environment's pauses. The server's record is what enforces them; what is durable work about them is
done here: Temporal's schedules follow, a pause with an end is ended by a timer, and the run that catches up is started.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

from temporalio import workflow
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from workflows.attributes import ENVIRONMENT, KIND, PLAN_ID, RUN_ID, TRIGGER
    from workflows.interfaces import CONTROL_QUEUE, ControlActivities
    from workflows.payloads import EnvironmentState, PauseRef, PausesRef, ResumeRef, RunInput
    from workflows.plan import PlanWorkflow
    from workflows.plan_payloads import PlanInput, PlanOutcome, PlanRef
    from workflows.policies import RECORD
    from workflows.run import RunWorkflow
    from workflows.traces import in_trace

__all__ = ["EnvironmentWorkflow"]

_TRIGGER = "resume"
_SOON = timedelta(seconds=1)
"""A pause whose end the server does not see yet, because its clock is slow, is asked for again."""


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
        self._pauses = list(state.pauses)
        self._runs_to_start = list(state.runs_to_start)
        self._is_unsettled = state.is_unsettled
        self._traceparents = dict(state.traceparents)
        self._is_settling = False
        self._is_long = False

    @workflow.run
    async def run(self, state: EnvironmentState) -> None:  # noqa: ARG002 - read by __init__
        keeper = asyncio.create_task(self._keep_pauses())
        while not workflow.info().is_continue_as_new_suggested():
            await workflow.wait_condition(lambda: bool(self._queue) or self._is_long)
            if self._queue:
                await self._apply(self._queue[0])
                self._queue.pop(0)
        await workflow.wait_condition(lambda: workflow.all_handlers_finished() and not self._is_settling)
        keeper.cancel()
        workflow.continue_as_new(self._state())

    @workflow.update
    def submit_plan(self, plan: PlanRef) -> int:
        """Puts a plan at the end of the queue and returns its place; 0 is applied at once. Repeating it is harmless."""
        if plan.plan_id not in self._queue:
            self._queue.append(plan.plan_id)
            if plan.traceparent is not None:
                self._traceparents[plan.plan_id] = plan.traceparent
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

    @workflow.signal
    def pause(self, pause: PauseRef) -> None:
        """Tells that the environment, or models of it, are paused."""
        self._pauses = [*(known for known in self._pauses if known.pause_id != pause.pause_id), pause]
        self._is_unsettled = True

    @workflow.signal
    def resume(self, resume: ResumeRef) -> None:
        """Tells that a pause has ended."""
        self._pauses = [known for known in self._pauses if known.pause_id != resume.pause_id]
        if resume.run_id is not None:
            self._runs_to_start.append(resume.run_id)
        self._is_unsettled = True

    @workflow.query
    def state(self) -> EnvironmentState:
        """The plans in the order in which they are applied, the first is being applied; and the pauses."""
        return self._state()

    def _state(self) -> EnvironmentState:
        return EnvironmentState(
            environment=self._environment,
            queue=self._queue,
            pauses=self._pauses,
            runs_to_start=self._runs_to_start,
            is_unsettled=self._is_unsettled,
            traceparents={
                plan_id: self._traceparents[plan_id] for plan_id in self._queue if plan_id in self._traceparents
            },
        )

    async def _keep_pauses(self) -> None:
        """Does what follows from pauses, as they come and go, until it is cancelled."""
        while True:
            # A timer of Temporal's: it goes off whatever has been away meanwhile.
            with suppress(asyncio.TimeoutError):
                await workflow.wait_condition(
                    lambda: self._is_unsettled, timeout=self._next_end(), timeout_summary="until a pause ends"
                )
            self._is_settling = True
            await self._settle()
            self._is_settling = False
            self._is_long = workflow.info().is_continue_as_new_suggested()

    async def _settle(self) -> None:
        await self._start_runs()
        self._is_unsettled = False
        run_id = f"{self._environment}-resume-{workflow.now():%Y%m%dT%H%M%S%fZ}"
        try:
            standing = await workflow.execute_activity_method(
                ControlActivities.settle_pauses, PausesRef(environment=self._environment, run_id=run_id), **RECORD
            )
        except ActivityError as error:
            # The server refuses it for good; maintenance does what is left to do.
            workflow.logger.warning("The pauses cannot be settled: %s", error.cause or error)
            self._pauses = [pause for pause in self._pauses if pause.until is None]
            return
        if not self._is_unsettled:
            # Signals may have come in another order than the server's records; those are right.
            self._pauses = standing.pauses
        if standing.run_id is not None:
            self._runs_to_start.append(standing.run_id)
            await self._start_runs()

    def _next_end(self) -> timedelta | None:
        ends = [pause.until for pause in self._pauses if pause.until is not None]
        return max(min(ends) - workflow.now(), _SOON) if ends else None

    async def _start_runs(self) -> None:
        """Starts the runs that evaluate what is due now that a pause has ended, and leaves them to themselves."""
        while self._runs_to_start:
            run_id = self._runs_to_start[0]
            # It may have been started before, if the server has told of it twice.
            with suppress(WorkflowAlreadyStartedError):
                await workflow.start_child_workflow(
                    RunWorkflow.run,
                    RunInput(environment=self._environment, trigger=_TRIGGER),
                    id=f"run/{run_id}",
                    task_queue=CONTROL_QUEUE,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    search_attributes=TypedSearchAttributes(
                        [
                            SearchAttributePair(KIND, "run"),
                            SearchAttributePair(ENVIRONMENT, self._environment),
                            SearchAttributePair(RUN_ID, run_id),
                            SearchAttributePair(TRIGGER, _TRIGGER),
                        ]
                    ),
                    static_summary=f"Run of {self._environment}, which catches up after a pause",
                )
            self._runs_to_start.pop(0)

    async def _apply(self, plan_id: str) -> None:
        # A plan that fails records it itself; whatever happened to it, the next one's turn comes.
        with suppress(ChildWorkflowError, asyncio.CancelledError):
            with in_trace(self._traceparents.pop(plan_id, None)):
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
