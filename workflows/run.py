"""Evaluates what is due in an environment, as `sqlmesh run` does."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows.interfaces import ControlActivities, ExecutorActivities, ExecutorQueue, queue_of
    from workflows.notices import give_notice
    from workflows.payloads import (
        RUN_STOPPED,
        ExecutionRef,
        RunInput,
        RunNotice,
        RunOutcome,
        StatementsRef,
        UnitGraph,
        UnitState,
        Walk,
    )
    from workflows.policies import PLANNING, RECORD
    from workflows.ticks import gives_way, prepare_tick
    from workflows.units import UnitsWorkflow
    from workflows.walk import DUMMY

__all__ = ["RunWorkflow"]

_EVENTS = {"success": "run_end", "failed": "run_failure"}
_BY_OTHERS = "Other plans or runs are evaluating all that is due."
_STOPPED_ONES = "a-run-that-was-stopped-is-told-of"
"""What patches the histories of runs of whose end nobody was notified, because they were stopped."""


@workflow.defn
class RunWorkflow(UnitsWorkflow):
    """One run of an environment, with the id `run/<run id>`.

    A schedule starts it with the base id `run/<environment>`, to which Temporal appends the tick: crons that fire
    at the same minute coalesce into one run, which evaluates whatever is due then.
    """

    _has_notifications = False
    _is_stopped = False
    _left_out: str | None = None
    """Why statements of it were left out, if they were."""

    @workflow.run
    async def run(self, run: RunInput) -> RunOutcome:
        try:
            return await self._run(run)
        except ActivityError as error:
            if is_cancelled_exception(error):
                await self._record_cancelled(run)
                raise
            return await self._record(run, "failed", str(error.cause or error))
        except asyncio.CancelledError:
            await self._record_cancelled(run)
            raise

    async def _run(self, run: RunInput) -> RunOutcome:
        if await gives_way(run, _run_id()):
            return await self._nothing_to_do(run)
        walk = run.walk
        if walk is not None:
            self._has_notifications = walk.graph.has_notifications
        else:
            graph = await self._prepare(run)
            if graph is None:
                # Should an executor have begun with it before it was lost, its record goes.
                return await self._record(run, "nothing_to_do")
            self._has_notifications = graph.has_notifications
            if graph.paused:
                return await self._paused(run, graph.paused)
            if run.round == 1 and not graph.nothing_to_do:
                await self._notify(run, "run_start")
            if graph.error:
                return await self._record(run, "failed", graph.error)
            if graph.nothing_to_do and run.round == 1:
                return await self._nothing_to_do(run)
            if graph.nothing_to_do:
                if run.failures:
                    return await self._record(run, "failed", _failed(run.failures))
                return await self._record(run, "success")
            walk = Walk(graph=graph)
            if graph.has_environment_statements and (error := await self._statements(run, walk, "before_all")):
                return await self._record(run, "failed", error)
        walk = await self._evaluate(walk, run.environment, ExecutorQueue.RUN)
        if not walk.finished:
            workflow.continue_as_new(run.model_copy(update={"walk": walk}))
        failed = walk.numbers(UnitState.FAILED)
        await workflow.execute_activity_method(
            ControlActivities.record_outcome,
            ExecutionRef(
                execution_id=walk.graph.execution_id,
                environment=run.environment,
                failed=failed,
                skipped=walk.numbers(UnitState.SKIPPED),
                errors=walk.errors,
            ),
            **RECORD,
        )
        failures = run.failures + len(failed)
        self._is_stopped = walk.stopped
        if walk.preempted and not walk.stopped:
            # What a plan has replaced was left out: the next round takes what is new in its place.
            workflow.continue_as_new(
                run.model_copy(update={"walk": None, "round": run.round + 1, "failures": failures})
            )
        if walk.graph.has_environment_statements and (error := await self._statements(run, walk, "after_all")):
            return await self._record(run, "failed", error)
        if failures:
            return await self._record(run, "failed", _failed(failures))
        if not walk.stopped and _is_all_skipped(walk):
            return await self._record(run, "skipped", walk.paused or _BY_OTHERS)
        left_out = walk.paused or self._left_out
        return await self._record(run, "success", f"Not all of it ran: {left_out}" if left_out else None)

    async def _prepare(self, run: RunInput) -> UnitGraph | None:
        graph = await self._prepare_at(run, None)
        if graph is not None and graph.elsewhere:
            graph = await self._prepare_at(run, graph.elsewhere)
        return graph

    async def _prepare_at(self, run: RunInput, gateway: str | None) -> UnitGraph | None:
        queue = queue_of(ExecutorQueue.RUN, gateway)
        if run.trigger == "schedule" and run.round == 1:
            return await prepare_tick(run, _run_id(), queue)
        return await workflow.execute_activity_method(
            ExecutorActivities.prepare_run,
            run,
            task_queue=queue,
            **PLANNING,
        )

    async def _statements(self, run: RunInput, walk: Walk, runtime_stage: str) -> str | None:
        result = await workflow.execute_activity_method(
            ExecutorActivities.run_statements,
            StatementsRef(
                execution_id=walk.graph.execution_id, environment=run.environment, runtime_stage=runtime_stage
            ),
            task_queue=queue_of(ExecutorQueue.RUN, walk.graph.gateway),
            **PLANNING,
        )
        self._left_out = self._left_out or result.paused
        return result.error

    async def _paused(self, run: RunInput, reason: str) -> RunOutcome:
        if run.round > 1:
            # What a plan put in place of what it had replaced is left to the run that catches up.
            if run.failures:
                return await self._record(run, "failed", _failed(run.failures))
            return await self._record(run, "success", f"Not all of it ran: {reason}")
        if run.trigger == "schedule":
            return await self._record(run, "nothing_to_do")
        return await self._record(run, "skipped", reason)

    async def _nothing_to_do(self, run: RunInput) -> RunOutcome:
        if run.trigger == "schedule":
            # A tick with nothing due was never recorded, so that it leaves nothing in the listings.
            return RunOutcome(run_id=_run_id(), environment=run.environment, status="nothing_to_do")
        return await self._record(run, "nothing_to_do")

    async def _record(self, run: RunInput, status: str, error: str | None = None) -> RunOutcome:
        outcome = RunOutcome(run_id=_run_id(), environment=run.environment, status=status, error=error)
        await workflow.execute_activity_method(
            ControlActivities.record_run_status,
            outcome,
            **RECORD,
        )
        if status == "aborted" or self._is_stopped:
            if self._has_notifications and workflow.patched(_STOPPED_ONES):
                await self._notify(run, RUN_STOPPED)
        elif event := _EVENTS.get(status):
            await self._notify(run, event, error)
        return outcome

    async def _notify(self, run: RunInput, event: str, error: str | None = None) -> None:
        if not self._has_notifications:
            return
        notice = RunNotice(run_id=_run_id(), environment=run.environment, event=event, error=error)
        await give_notice(ExecutorActivities.notify_run, notice, ExecutorQueue.RUN)

    async def _record_cancelled(self, run: RunInput) -> None:
        # Shielded, or the cancellation that is being recorded would cancel its own record.
        await asyncio.shield(self._record(run, "aborted", "The run was cancelled."))


def _failed(failures: int) -> str:
    return "1 unit of work failed." if failures == 1 else f"{failures} units of work failed."


def _is_all_skipped(walk: Walk) -> bool:
    states = [state for state, kind in zip(walk.states, walk.graph.kinds, strict=True) if kind != DUMMY]
    return bool(states) and all(state == UnitState.SKIPPED for state in states)


def _run_id() -> str:
    return workflow.info().workflow_id.removeprefix("run/")
