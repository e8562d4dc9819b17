"""Applies one plan, stage by stage, as SQLMesh's `BuiltInPlanEvaluator` does."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows.interfaces import ControlActivities, ExecutorActivities, ExecutorQueue, queue_of
    from workflows.notices import give_notice
    from workflows.payloads import EnvironmentRef, ExecutionRef, StageResult, UnitState, Walk
    from workflows.plan_payloads import (
        CatchUpRef,
        PlanInput,
        PlanNotice,
        PlanOutcome,
        PlanRef,
        PlanStages,
        StageKind,
        StageRef,
        StageStatus,
        StageSummary,
    )
    from workflows.policies import PLANNING, RECORD
    from workflows.units import UnitsWorkflow

__all__ = ["PlanWorkflow"]

_APPLICATION_FAILED = "Plan application failed."
"""What SQLMesh says when models failed; which ones, its console has already shown."""


_EVENTS = {"success": "apply_end", "failed": "apply_failure", "aborted": "apply_failure"}

_TOGETHER = "a-stage-ends-with-the-start-of-the-next"
"""What patches the histories of plans for which each end was recorded by itself; that is a round trip more a stage."""


_HELD = 1
"""The round of the catch-up for which the tables that the plan replaces are held."""
_LONG = timedelta(minutes=1)
"""A plan that took so long catches up once before."""
_FIRST_WAIT = timedelta(seconds=0.5)
_LONGEST_WAIT = timedelta(seconds=15)
"""Between two attempts to get the tables from whoever still evaluates there."""


class _StageFailedError(Exception):
    """A stage ended with an error that is the user's to mend."""


@workflow.defn
class PlanWorkflow(UnitsWorkflow):
    """Applies one plan; a child of its environment's workflow, with the id `plan/<environment>/<plan id>`."""

    _has_notifications = False

    @workflow.run
    async def run(self, plan: PlanInput) -> PlanOutcome:
        try:
            await self._apply(plan)
        except _StageFailedError as error:
            return await self._record(plan, "failed", str(error))
        except ActivityError as error:
            if is_cancelled_exception(error):
                await self._record_cancelled(plan)
                raise
            return await self._record(plan, "failed", str(error.cause or error))
        except asyncio.CancelledError:
            await self._record_cancelled(plan)
            raise
        return await self._record(plan, "success")

    async def _apply(self, plan: PlanInput) -> None:
        stages = plan.stages
        if stages is None:
            await self._record(plan, "in_progress")
            stages = await workflow.execute_activity_method(
                ExecutorActivities.build_stages,
                PlanRef(environment=plan.environment, plan_id=plan.plan_id),
                task_queue=ExecutorQueue.APPLY,
                **PLANNING,
            )
        self._has_notifications = stages.has_notifications
        if plan.stages is None and self._has_notifications:
            await self._notify(plan, "apply_start")
        if stages.error:
            raise _StageFailedError(stages.error)
        is_together = workflow.patched(_TOGETHER)
        ended: list[StageStatus] = []
        for stage in stages.stages[plan.next_stage :]:
            this = StageStatus(plan_id=plan.plan_id, index=stage.index, status="in_progress")
            resumed = plan.walk if stage.index == plan.next_stage else None
            if resumed is None:
                await _record_stages(*ended, this)
                ended = []
            error = await self._apply_stage(plan, stages, stage, resumed)
            if error:
                await _record_stages(this.model_copy(update={"status": "failed", "error": error}))
                raise _StageFailedError(error)
            ended = [this.model_copy(update={"status": "success"})]
            if not is_together:
                await _record_stages(*ended)
                ended = []
        await _record_stages(*ended)
        await workflow.execute_activity_method(
            ControlActivities.sync_schedules,
            EnvironmentRef(environment=plan.environment, plan_id=plan.plan_id),
            **RECORD,
        )

    async def _apply_stage(
        self, plan: PlanInput, stages: PlanStages, stage: StageSummary, resumed: Walk | None
    ) -> str | None:
        ref = StageRef(environment=plan.environment, plan_id=plan.plan_id, index=stage.index)
        match stage.kind:
            case StageKind.SINGLE:
                return await self._apply_single(stages, ref)
            case StageKind.BACKFILL:
                return await self._backfill(plan, stages, ref, resumed)
            case StageKind.PROMOTION:
                return await self._promote(plan, stages, ref, resumed)

    async def _apply_single(self, stages: PlanStages, stage: StageRef) -> str | None:
        result = await _apply_at(stages.gateway, stage)
        for gateway in result.elsewhere:
            if result.error:
                break
            result = await _apply_at(gateway, stage.model_copy(update={"gateway": gateway}))
        return result.error

    async def _backfill(self, plan: PlanInput, stages: PlanStages, stage: StageRef, resumed: Walk | None) -> str | None:
        walk = resumed
        if walk is None:
            graph = await workflow.execute_activity_method(
                ExecutorActivities.prepare_backfill,
                stage,
                task_queue=queue_of(ExecutorQueue.APPLY, stages.gateway),
                **PLANNING,
            )
            if graph.error:
                return graph.error
            walk = Walk(graph=graph)
        return await self._walk(plan, stages, stage, walk)

    async def _promote(self, plan: PlanInput, stages: PlanStages, stage: StageRef, resumed: Walk | None) -> str | None:
        """Promotes when the new tables are as far as the old ones, and nobody takes those any further.

        The tables are held for as short as can be: of a plan that took long most is caught up with before.
        """
        took_long = workflow.now() - workflow.info().workflow_start_time > _LONG
        rounds = range(plan.round, _HELD + 1) if resumed else range(0 if took_long else _HELD, _HELD + 1)
        for number in rounds:
            walk, resumed = resumed, None
            if walk is None:
                if number == _HELD:
                    await _hold_tables(stage)
                graph = await workflow.execute_activity_method(
                    ExecutorActivities.prepare_catch_up,
                    CatchUpRef(**stage.model_dump(), round=number),
                    task_queue=queue_of(ExecutorQueue.APPLY, stages.gateway),
                    **PLANNING,
                )
                if graph.error:
                    return graph.error
                if graph.nothing_to_do:
                    continue
                walk = Walk(graph=graph)
            if error := await self._walk(plan.model_copy(update={"round": number}), stages, stage, walk):
                return error
        return await self._apply_single(stages, stage)

    async def _walk(self, plan: PlanInput, stages: PlanStages, stage: StageRef, walk: Walk) -> str | None:
        walk = await self._evaluate(walk, plan.environment, ExecutorQueue.APPLY)
        if not walk.finished:
            workflow.continue_as_new(
                plan.model_copy(update={"stages": stages, "next_stage": stage.index, "walk": walk})
            )
        failed = walk.numbers(UnitState.FAILED)
        await workflow.execute_activity_method(
            ControlActivities.record_outcome,
            ExecutionRef(
                execution_id=walk.graph.execution_id,
                environment=plan.environment,
                failed=failed,
                skipped=walk.numbers(UnitState.SKIPPED),
                errors=walk.errors,
            ),
            **RECORD,
        )
        return _APPLICATION_FAILED if failed or walk.stopped else None

    async def _record(self, plan: PlanInput, status: str, error: str | None = None) -> PlanOutcome:
        outcome = PlanOutcome(plan_id=plan.plan_id, environment=plan.environment, status=status, error=error)
        await workflow.execute_activity_method(
            ControlActivities.record_plan_status,
            outcome,
            **RECORD,
        )
        if self._has_notifications and (event := _EVENTS.get(status)):
            await self._notify(plan, event, error)
        return outcome

    async def _notify(self, plan: PlanInput, event: str, error: str | None = None) -> None:
        notice = PlanNotice(plan_id=plan.plan_id, environment=plan.environment, event=event, error=error)
        await give_notice(ExecutorActivities.notify_plan, notice, ExecutorQueue.APPLY)

    async def _record_cancelled(self, plan: PlanInput) -> None:
        # Shielded, or the cancellation that is being recorded would cancel its own record.
        await asyncio.shield(self._record(plan, "aborted", "The plan was cancelled while it was being applied."))


async def _apply_at(gateway: str | None, stage: StageRef) -> StageResult:
    return await workflow.execute_activity_method(
        ExecutorActivities.apply_stage,
        stage,
        task_queue=queue_of(ExecutorQueue.APPLY, gateway),
        **PLANNING,
    )


async def _hold_tables(stage: StageRef) -> None:
    wait = _FIRST_WAIT
    while not (await workflow.execute_activity_method(ControlActivities.hold_tables, stage, **RECORD)).is_held:
        await workflow.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT)


async def _record_stages(*statuses: StageStatus) -> None:
    await asyncio.gather(
        *(
            workflow.execute_activity_method(ControlActivities.record_stage_status, status, **RECORD)
            for status in statuses
        )
    )
