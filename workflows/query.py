"""Has an executor answer a question to its warehouse, or do the janitor's work."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from workflows.interfaces import ControlActivities, ExecutorActivities, ExecutorQueue, queue_of
    from workflows.payloads import QueryInput, QueryOutcome, StageResult
    from workflows.policies import PLANNING, QUERY, RECORD

__all__ = ["QueryWorkflow"]


@workflow.defn
class QueryWorkflow:
    """One question, with the workflow id `query/<query id>`; or housekeeping, one at a time, with the id `janitor`.

    Housekeeping waits until no plan is being applied, and may be repeated. A question is put once: what somebody typed
    may change the warehouse.
    """

    @workflow.run
    async def run(self, query: QueryInput) -> QueryOutcome:
        try:
            error = await self._answer(query)
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                await self._record_cancelled(query)
                raise
            error = str(failure.cause or failure)
        except asyncio.CancelledError:
            await self._record_cancelled(query)
            raise
        return await self._record(query, "failed" if error else "success", error)

    async def _answer(self, query: QueryInput) -> str | None:
        if query.is_housekeeping:
            await workflow.execute_activity_method(ControlActivities.begin_query, query, **RECORD)
        result = await self._answer_at(query, None)
        if result.elsewhere:
            result = await self._answer_at(query, result.elsewhere[0])
        return result.error

    async def _answer_at(self, query: QueryInput, gateway: str | None) -> StageResult:
        return await workflow.execute_activity_method(
            ExecutorActivities.answer_query,
            query,
            task_queue=queue_of(ExecutorQueue.APPLY, gateway),
            **(PLANNING if query.is_housekeeping else QUERY),
        )

    async def _record(self, query: QueryInput, status: str, error: str | None = None) -> QueryOutcome:
        outcome = QueryOutcome(query_id=query.query_id, status=status, error=error)
        await workflow.execute_activity_method(ControlActivities.record_query_status, outcome, **RECORD)
        return outcome

    async def _record_cancelled(self, query: QueryInput) -> None:
        # Shielded, or the cancellation that is being recorded would cancel its own record.
        await asyncio.shield(self._record(query, "aborted", "It was cancelled."))
