"""What the server asks of Temporal: to start and stop plans and runs, and how they stand."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from fastapi.concurrency import run_in_threadpool
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
from temporalio.converter import PayloadCodec
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from server.errors import ApiError
from server.projects import Project
from server.settings import ServerSettings
from server.temporal_connection import TemporalConnection
from server.temporal_tokens import TemporalTokens
from tcloud.tracing import is_tracing, trace_headers
from tcloud.wire.executions import Execution, OwnerKind
from tcloud.wire.executors import ControlWorker
from tcloud.wire.queries import Query
from tcloud.wire.runs import Run, RunOptions
from telemetry.temporal_traces import temporal_interceptors
from workflows.attributes import ENVIRONMENT, KIND, RUN_ID, TRIGGER
from workflows.codec import data_converter
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

_SERVER = "server"
"""The server's own name in its tokens."""

_NO_ANSWER = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


@dataclass(frozen=True)
class KeptSchedule:
    """A schedule of one environment, as Temporal keeps it."""

    schedule_id: str
    environment: str
    cron: str
    timezone: str
    paused: bool


class TemporalGateway:
    """Temporal, one namespace for each project; connected when it is first needed.

    Args:
        settings: The keys of its payloads, and whether it takes the server's tokens.
        connection: Where Temporal is.
        projects: Whose namespaces are called.
        tokens: Who issues the server's tokens.

    Every method raises `ApiError` 503 if Temporal cannot be reached.
    """

    def __init__(
        self,
        settings: ServerSettings,
        connection: TemporalConnection,
        projects: Iterable[Project],
        tokens: TemporalTokens,
    ):
        self._connection = connection
        self._projects = tuple(projects)
        self._tokens = tokens if settings.temporal_tokens else None
        self._token = self._fresh_token()
        keys = {key_id: base64.b64decode(key.get_secret_value()) for key_id, key in settings.codec_keys.items()}
        self._converter = data_converter(keys)
        self._clients: dict[Project, Client] = {}
        self._lock = asyncio.Lock()

    @property
    def codec(self) -> PayloadCodec:
        """What encrypts and decrypts the payloads of every project."""
        assert self._converter.payload_codec is not None  # noqa: S101 - it was made with one
        return self._converter.payload_codec

    @property
    def token(self) -> str | None:
        """What the server shows to Temporal: an API key, or a token that it has signed itself; None if neither."""
        return self._connection.api_key or self._token

    async def client(self, project: Project) -> Client:
        """The client of a project's namespace."""
        async with self._lock:
            if project not in self._clients:
                async with self._reached():
                    self._clients[project] = await Client.connect(
                        self._connection.address,
                        namespace=project.namespace,
                        data_converter=self._converter,
                        tls=self._connection.tls,
                        api_key=self.token,
                        rpc_metadata=self._connection.metadata,
                        interceptors=temporal_interceptors(is_tracing=is_tracing()),
                    )
            return self._clients[project]

    async def keep_signed_in(self) -> None:
        """Shows Temporal a fresh token in good time, for as long as it is not cancelled."""
        while self._tokens is not None:
            await asyncio.sleep(self._tokens.lifetime.total_seconds() / 2)
            self._token = await run_in_threadpool(self._fresh_token)
            for client in self._clients.values():
                client.api_key = self.token

    async def is_healthy(self, project: Project) -> bool:
        """Whether the project's frontend answers now."""
        client = await self.client(project)
        async with self._reached():
            return await client.service_client.check_health(timeout=_QUEUE_TIMEOUT)

    async def control_workers(self, project: Project) -> list[ControlWorker]:
        """The workers of the control queue that have asked Temporal for work within the time of a long poll."""
        client = await self.client(project)
        request = DescribeTaskQueueRequest(
            namespace=project.namespace,
            task_queue=TaskQueue(name=CONTROL_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        async with self._reached():
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
            gateways: Names of gateways; each has queues of its own.
        """
        client = await self.client(project)
        found = {}
        async with self._reached():
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
        async with self._reached():
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
        async with self._reached():
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
        return await self._unless_gone(handle.signal(EnvironmentWorkflow.cancel_plan, plan, rpc_timeout=_CALL_TIMEOUT))

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
        async with self._reached():
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
        return await self._unless_gone(handle.cancel(rpc_timeout=_CALL_TIMEOUT))

    async def start_query(self, project: Project, query: Query) -> None:
        """Has a query answered; repeating it is harmless.

        Raises:
            ApiError: 409 if it is housekeeping, and there is some going on.
        """
        client = await self.client(project)
        async with self._reached():
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
        return await self._unless_gone(handle.cancel(rpc_timeout=_CALL_TIMEOUT))

    async def is_housekeeping(self, project: Project) -> bool:
        """Whether the janitor's workflow goes on."""
        client = await self.client(project)
        async with self._reached():
            return await _is_running(client, JANITOR)

    async def is_over(self, project: Project, workflow_id: str, *, since: timedelta) -> bool:
        """Whether a workflow has been over for so long, or there is none of that id."""
        client = await self.client(project)
        async with self._reached():
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
        await self._unless_gone(handle.signal(RunWorkflow.table_released, rpc_timeout=_CALL_TIMEOUT))

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
        await self._unless_gone(handle.signal(UnitsWorkflow.units_progress, progress, rpc_timeout=_CALL_TIMEOUT))

    async def schedules(self, project: Project) -> list[KeptSchedule]:
        """The schedules of all environments."""
        client = await self.client(project)
        found = []
        async with self._reached():
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
            await self._unless_gone(
                client.get_schedule_handle(MAINTENANCE).trigger(
                    # A round that has begun may have asked before the decision was there.
                    overlap=ScheduleOverlapPolicy.BUFFER_ONE,
                    rpc_timeout=_CALL_TIMEOUT,
                )
            )

    async def close(self) -> None:
        """Forgets the clients, so that their connections close before the loop does."""
        self._clients.clear()

    def _fresh_token(self) -> str | None:
        return self._tokens.for_frontend(self._projects, _SERVER) if self._tokens is not None else None

    async def _unless_gone(self, call: Awaitable[None]) -> bool:
        """Says something to a workflow or schedule; False if Temporal has none of that id, or it is over."""
        async with self._reached():
            try:
                await call
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
            return True

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[None]:
        try:
            yield
        except (RPCError, RuntimeError, TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            _log.warning("temporal_unreachable", address=self._connection.address, error=str(error))
            refused = isinstance(error, RPCError) and error.status not in _NO_ANSWER
            what = f"refused ({error})" if refused else "does not answer"
            raise ApiError(
                503,
                "TM-TEMPORAL",
                f"Temporal at {self._connection.address} {what}, so nothing was done: try again once it serves.",
            ) from error


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


def _queues(gateways: Iterable[str]) -> Iterator[tuple[str, TaskQueueType.ValueType]]:
    """The queues, and what of them has to be taken up for work to go on."""
    yield CONTROL_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    for gateway in (None, *gateways):
        for kind in ExecutorQueue:
            yield queue_of(kind, gateway), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
