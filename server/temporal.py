"""What the server asks of Temporal: to start and stop plans and runs, and how they stand."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    ScheduleOverlapPolicy,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from server.errors import ApiError
from server.projects import Project
from server.temporal_clients import TemporalClients
from tcloud.tracing import trace_headers
from tcloud.wire.executions import Execution, OwnerKind
from tcloud.wire.executors import ControlWorker
from tcloud.wire.queries import Query
from tcloud.wire.runs import Run, RunOptions
from workflows.attributes import ENVIRONMENT, KIND, RUN_ID, TRIGGER
from workflows.environment import EnvironmentWorkflow
from workflows.interfaces import CONTROL_QUEUE, JANITOR, MAINTENANCE, ExecutorQueue, queue_of
from workflows.payloads import EnvironmentState, PauseRef, QueryInput, ResumeRef, RunInput, UnitProgress
from workflows.plan_payloads import PlanRef
from workflows.query import QueryWorkflow
from workflows.run import RunWorkflow
from workflows.units import UnitsWorkflow

__all__ = ["KeptSchedule", "TemporalGateway"]

_log = structlog.get_logger(__name__)
_CALL_TIMEOUT = timedelta(seconds=5)
"""Of one call of Temporal's frontend; the SDK repeats a call that could not be made, for about ten seconds."""

_QUEUE_TIMEOUT = timedelta(seconds=2)
"""A place in a queue is worth a short wait: without a worker the plan is shown without it."""

_WORKER_TIMEOUT = timedelta(seconds=10)
"""How long a submission waits for the worker that puts the plan into its environment's queue."""

_LONG_POLL = timedelta(minutes=2)
"""A worker that waits for work asks again well within it."""

_MEMO_MODELS = 20
"""Selected models that a memo names: it travels with every listing of workflows."""


@dataclass(frozen=True)
class KeptSchedule:
    """A schedule of one environment, as Temporal keeps it."""

    schedule_id: str
    environment: str
    cron: str
    timezone: str
    paused: bool


class TemporalGateway(TemporalClients):
    """What the server asks of Temporal; every method raises `ApiError` 503 if it cannot be reached."""

    async def control_workers(self, project: Project) -> list[ControlWorker]:
        """The workers of the control queue that have asked Temporal for work within the time of a long poll."""
        client = await self.client(project)
        request = DescribeTaskQueueRequest(
            namespace=project.namespace,
            task_queue=TaskQueue(name=CONTROL_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        async with self.reached():
            described = await client.workflow_service.describe_task_queue(request, timeout=_CALL_TIMEOUT)
        seen = [
            ControlWorker(identity=poller.identity, last_seen_at=poller.last_access_time.ToDatetime(tzinfo=UTC))
            for poller in described.pollers
        ]
        return [worker for worker in seen if worker.last_seen_at > datetime.now(UTC) - _LONG_POLL]

    async def backlogs(self, project: Project, gateways: Iterable[str]) -> dict[str, tuple[int, float]]:
        """How much waits in each queue for somebody to do it, and how many seconds the oldest of it has waited.

        Args:
            project: Whose queues.
            gateways: The project's; each has queues of its own.
        """
        client = await self.client(project)
        found = {}
        async with self.reached():
            for queue, kind in _queues(gateways):
                request = DescribeTaskQueueRequest(
                    namespace=project.namespace,
                    task_queue=TaskQueue(name=queue),
                    task_queue_type=kind,
                    report_stats=True,
                )
                described = await client.workflow_service.describe_task_queue(request, timeout=_CALL_TIMEOUT)
                age = described.stats.approximate_backlog_age.ToTimedelta().total_seconds()
                found[queue] = described.stats.approximate_backlog_count, max(age, 0.0)
        return found

    async def submit_plan(self, project: Project, environment: str, plan_id: str) -> int | None:
        """Puts a plan into its environment's queue and returns its place; repeating it is harmless.

        None if Temporal has taken the plan but no worker has: it gets its place as soon as there is a worker.
        """
        client = await self.client(project)
        start = WithStartWorkflowOperation(
            EnvironmentWorkflow.run,
            EnvironmentState(environment=environment),
            id=_environment_id(environment),
            task_queue=CONTROL_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=_attributes("environment", environment),
        )
        async with self.reached():
            try:
                async with asyncio.timeout(_WORKER_TIMEOUT.total_seconds()):
                    return await client.execute_update_with_start_workflow(
                        EnvironmentWorkflow.submit_plan,
                        PlanRef(
                            environment=environment,
                            plan_id=plan_id,
                            traceparent=trace_headers().get("traceparent"),
                        ),
                        start_workflow_operation=start,
                        id=plan_id,
                    )
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
                # An update waits in Temporal for its worker, whether or not its sender still does.
                if not await _is_running(client, _environment_id(environment)):
                    raise
                _log.warning("no_worker", project=project.namespace, environment=environment, plan_id=plan_id)
                return None

    async def tell_environment(
        self, project: Project, environment: str, signal: str, body: PauseRef | ResumeRef
    ) -> None:
        """Signals an environment's workflow, and starts it where it does not run yet."""
        client = await self.client(project)
        async with self.reached():
            await client.start_workflow(
                EnvironmentWorkflow.run,
                EnvironmentState(environment=environment),
                id=_environment_id(environment),
                task_queue=CONTROL_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=_attributes("environment", environment),
                start_signal=signal,
                start_signal_args=[body],
                rpc_timeout=_CALL_TIMEOUT,
            )

    async def cancel_plan(self, project: Project, environment: str, plan_id: str) -> bool:
        """Takes a plan out of the queue, or cancels it if it is being applied; False if nobody knows of it."""
        handle = (await self.client(project)).get_workflow_handle_for(
            EnvironmentWorkflow.run, _environment_id(environment)
        )
        plan = PlanRef(environment=environment, plan_id=plan_id)
        return await self.unless_gone(handle.signal(EnvironmentWorkflow.cancel_plan, plan, rpc_timeout=_CALL_TIMEOUT))

    async def queue(self, project: Project, environment: str) -> list[str]:
        """The plans of an environment that are not done, the one being applied first; empty if nobody answers."""
        handle = (await self.client(project)).get_workflow_handle_for(
            EnvironmentWorkflow.run, _environment_id(environment)
        )
        try:
            state = await handle.query(EnvironmentWorkflow.state, rpc_timeout=_QUEUE_TIMEOUT)
        except RPCError:
            return []
        return state.queue

    async def start_run(self, project: Project, run: Run, options: RunOptions) -> None:
        """Starts a run by hand; repeating it is harmless.

        The Web UI shows who started it and with which options: its summary and its memo say so.
        """
        environment, run_id, by = run.environment, run.run_id, run.created_by or "nobody known"
        client = await self.client(project)
        async with self.reached():
            try:
                await client.start_workflow(
                    RunWorkflow.run,
                    RunInput(environment=environment, trigger="manual"),
                    id=_run_workflow_id(run_id),
                    task_queue=CONTROL_QUEUE,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    search_attributes=_attributes(
                        "run",
                        environment,
                        SearchAttributePair(RUN_ID, run_id),
                        SearchAttributePair(TRIGGER, "manual"),
                    ),
                    static_summary=f"Run of {environment}, started by {by}",
                    memo={"environment": environment, "created_by": by, "options": _options(options)},
                    rpc_timeout=_CALL_TIMEOUT,
                )
            except WorkflowAlreadyStartedError:
                return

    async def cancel_run(self, project: Project, run_id: str) -> bool:
        """Asks a run to stop; False if it is over already."""
        handle = (await self.client(project)).get_workflow_handle(_run_workflow_id(run_id))
        return await self.unless_gone(handle.cancel(rpc_timeout=_CALL_TIMEOUT))

    async def start_query(self, project: Project, query: Query) -> None:
        """Has a query answered; repeating it is harmless.

        Raises:
            ApiError: 409 if it is housekeeping, and there is some going on.
        """
        client = await self.client(project)
        async with self.reached():
            try:
                await client.start_workflow(
                    QueryWorkflow.run,
                    QueryInput(query_id=query.query_id, is_housekeeping=query.kind.is_housekeeping),
                    id=_query_workflow_id(query),
                    task_queue=CONTROL_QUEUE,
                    search_attributes=TypedSearchAttributes([SearchAttributePair(KIND, "query")]),
                    static_summary=f"{query.kind}, asked for by {query.created_by}",
                    rpc_timeout=_CALL_TIMEOUT,
                )
            except WorkflowAlreadyStartedError as error:
                if query.kind.is_housekeeping:
                    raise ApiError(
                        409, "TM-BUSY", "The janitor is at work already: try again when it has finished."
                    ) from error

    async def cancel_query(self, project: Project, query: Query) -> bool:
        """Asks a query to stop; False if it is over already."""
        handle = (await self.client(project)).get_workflow_handle(_query_workflow_id(query))
        return await self.unless_gone(handle.cancel(rpc_timeout=_CALL_TIMEOUT))

    async def is_housekeeping(self, project: Project) -> bool:
        """Whether the janitor's workflow goes on."""
        client = await self.client(project)
        async with self.reached():
            return await _is_running(client, JANITOR)

    async def is_over(self, project: Project, workflow_id: str, *, since: timedelta) -> bool:
        """Whether a workflow has been over for so long, or there is none of that id."""
        client = await self.client(project)
        async with self.reached():
            try:
                described = await client.get_workflow_handle(workflow_id).describe(rpc_timeout=_CALL_TIMEOUT)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return True
        return described.close_time is not None and described.close_time < datetime.now(UTC) - since

    async def tell_of_release(self, project: Project, run_id: str) -> None:
        """Tells a run that a physical table is free for which it waits; one that is over need not know."""
        handle = (await self.client(project)).get_workflow_handle(_run_workflow_id(run_id))
        await self.unless_gone(handle.signal(RunWorkflow.table_released, rpc_timeout=_CALL_TIMEOUT))

    async def tell_progress(
        self, project: Project, execution: Execution, workflow_run_id: str, progress: UnitProgress
    ) -> None:
        """Tells the plan or run of an execution how far one of its bundles has come; one that is over need not know.

        Args:
            project: Whose namespace it is.
            execution: The execution.
            workflow_run_id: Temporal's id of the very workflow that gave the bundle out: the next one numbers anew.
            progress: What the bundle says.
        """
        workflow_id = (
            _run_workflow_id(execution.owner_id)
            if execution.owner_kind is OwnerKind.RUN
            else _plan_workflow_id(execution.environment, execution.owner_id)
        )
        handle = (await self.client(project)).get_workflow_handle(workflow_id, run_id=workflow_run_id)
        await self.unless_gone(handle.signal(UnitsWorkflow.units_progress, progress, rpc_timeout=_CALL_TIMEOUT))

    async def schedules(self, project: Project) -> list[KeptSchedule]:
        """The schedules of all environments."""
        client = await self.client(project)
        found = []
        async with self.reached():
            async for listed in await client.list_schedules(rpc_timeout=_CALL_TIMEOUT):
                memo = await listed.memo()
                if "cron" in memo and "environment" in memo:
                    state = listed.schedule.state if listed.schedule is not None else None
                    found.append(_kept(listed.id, memo, paused=state is not None and state.paused))
        return found

    async def maintain(self, project: Project) -> None:
        """Has the schedules compared with what they should be now; if that cannot be, the next round does it."""
        with suppress(ApiError):
            client = await self.client(project)
            # Where no control worker has been yet, the first one makes the schedule, and a round.
            await self.unless_gone(
                client.get_schedule_handle(MAINTENANCE).trigger(
                    # A round that has begun may have asked before the decision was there.
                    overlap=ScheduleOverlapPolicy.BUFFER_ONE,
                    rpc_timeout=_CALL_TIMEOUT,
                )
            )


def _queues(gateways: Iterable[str]) -> Iterator[tuple[str, TaskQueueType.ValueType]]:
    """The queues, and what of them has to be taken up for work to go on."""
    yield CONTROL_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    for kind in ExecutorQueue:
        for gateway in (None, *gateways):
            yield queue_of(kind, gateway), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


async def _is_running(client: Client, workflow_id: str) -> bool:
    handle = client.get_workflow_handle(workflow_id)
    try:
        return (await handle.describe(rpc_timeout=_CALL_TIMEOUT)).status is WorkflowExecutionStatus.RUNNING
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False


def _kept(schedule_id: str, memo: Mapping[str, object], *, paused: bool) -> KeptSchedule:
    return KeptSchedule(
        schedule_id=schedule_id,
        environment=str(memo["environment"]),
        cron=str(memo["cron"]),
        timezone=str(memo.get("timezone") or "UTC"),
        paused=paused,
    )


def _options(options: RunOptions) -> dict[str, object]:
    """What was asked for, as a memo keeps it: small, whatever is selected."""
    asked = options.model_dump(exclude_defaults=True, exclude={"environment"})
    selected = asked.get("select_models")
    if selected is not None and len(selected) > _MEMO_MODELS:
        asked["select_models"] = [*selected[:_MEMO_MODELS], f"… {len(selected)} in all"]
    return asked


def _environment_id(environment: str) -> str:
    return f"environment/{environment}"


def _query_workflow_id(query: Query) -> str:
    return JANITOR if query.kind.is_housekeeping else f"query/{query.query_id}"


def _plan_workflow_id(environment: str, plan_id: str) -> str:
    return f"plan/{environment}/{plan_id}"


def _run_workflow_id(run_id: str) -> str:
    return f"run/{run_id}"


def _attributes(kind: str, environment: str, *more: SearchAttributePair[str]) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [SearchAttributePair(KIND, kind), SearchAttributePair(ENVIRONMENT, environment), *more]
    )
