"""The edge of Temporal, attacked by real clients that have an executor's token, or none that counts."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest
from google.protobuf.message import Message
from joserfc import jwt
from joserfc.jwk import ECKey
from sqlalchemy import delete
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetSystemInfoRequest,
    ListNamespacesRequest,
    PollActivityTaskQueueRequest,
    PollActivityTaskQueueResponse,
    PollNexusTaskQueueRequest,
    PollWorkflowTaskQueueRequest,
    QueryWorkflowRequest,
    RecordActivityTaskHeartbeatRequest,
    RecordWorkerHeartbeatRequest,
    RespondActivityTaskCompletedByIdRequest,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
    ShutdownWorkerRequest,
    StartWorkflowExecutionRequest,
    TerminateWorkflowExecutionRequest,
)
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from server.projects import Project, Role
from server.schema import grants
from server.temporal_tokens import TemporalTokens
from stack.ports import free_ports
from tcloud.api.executor import ExecutorApi
from tcloud.wire.executors import Bootstrap, ExecutorKind
from tests.eventually import eventually_async
from tests.fixtures.databases import Database
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import RunningServer, serving
from workers import connections
from workers.connections import keep_signed_in

PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
_WITHOUT_A_RETRY = 12
_MANY_ROUTES = 40
SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Edge:
    """A server of two projects, with an edge."""

    server: RunningServer
    address: str
    mine: str
    theirs: str
    """Namespaces."""

    def token(self, queue: str = "apply", role: Role = Role.EXECUTOR, namespace: str | None = None) -> str:
        """What the server gives to an executor."""
        org, name = (namespace or self.mine).split(".")
        url = f"{self.server.url.rsplit('/', 2)[0]}/{org}/{name}/api/bootstrap"
        answer = httpx.get(
            url, params={"queue": queue}, headers={"Authorization": f"Bearer {role}-token"}, trust_env=False
        )
        told = Bootstrap.model_validate_json(answer.raise_for_status().content).temporal
        assert told is not None
        assert (told.address, told.tls) == (self.address, False)
        assert told.token is not None
        return told.token

    async def call(self, method: str, request: Message | bytes, token: str | None, **metadata: str) -> bytes:
        """One call with nothing of an SDK around it; fails with `AioRpcError`."""
        sent = dict(metadata)
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        async with grpc.aio.insecure_channel(self.address) as channel:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                method if method.startswith("/") else SERVICE + method
            )
            body = request if isinstance(request, bytes) else request.SerializeToString()
            return await ask(body, metadata=tuple(sent.items()), timeout=20)


@pytest.fixture
async def namespaces(temporal: TemporalServer) -> tuple[str, str]:
    """Of two projects."""
    return await temporal.fresh_namespace(), await temporal.fresh_namespace()


@pytest.fixture
def edge(database: Database, tmp_path: Path, temporal: TemporalServer, namespaces: tuple[str, str]) -> Iterator[Edge]:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    more = {
        "projects": list(namespaces),
        "edge_port": port,
        "temporal_public_address": address,
        "temporal_public_tls": False,
    }
    with serving(database.url, tmp_path, namespaces[0], temporal.address, **more) as server:
        yield Edge(server, address, *namespaces)


@activity.defn
async def greet(name: str) -> str:
    activity.heartbeat()
    if name == "nobody":
        raise ValueError("there is nobody")
    return f"hello {name}"


@workflow.defn(sandboxed=False)
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(
            greet,
            name,
            task_queue="apply",
            start_to_close_timeout=timedelta(seconds=15),
            retry_policy=RetryPolicy(maximum_attempts=1 if name == "nobody" else 0),
        )


async def refused(attempt: Awaitable[object]) -> grpc.StatusCode:
    """The status with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await attempt
    return caught.value.code()


async def denied(attempt: Awaitable[object]) -> bool:
    """Whether a call of the SDK is refused for lack of permission."""
    with pytest.raises(RPCError) as caught:
        await attempt
    return caught.value.status is RPCStatusCode.PERMISSION_DENIED


async def test_an_executor_works_through_the_edge_and_its_client_can_do_nothing_else(
    edge: Edge, temporal: TemporalServer
) -> None:
    inside = await Client.connect(temporal.address, namespace=edge.mine)
    outside = await Client.connect(edge.address, namespace=edge.mine, tls=False, api_key=edge.token())
    executor = Worker(outside, task_queue="apply", activities=[greet], max_concurrent_activities=2)
    async with Worker(inside, task_queue="control", workflows=[Greeting]), executor:
        handle = await inside.start_workflow(Greeting.run, "Ada", id="greeting", task_queue="control")
        assert await handle.result() == "hello Ada"
        with pytest.raises(WorkflowFailureError) as failed:
            await inside.execute_workflow(Greeting.run, "nobody", id="nobody", task_queue="control")
        assert isinstance(failed.value.cause, ActivityError)
        assert "there is nobody" in str(failed.value.cause.cause)

        theirs = outside.get_workflow_handle("greeting")
        start = outside.start_workflow(Greeting.run, "Eve", id="evil", task_queue="control")
        operators = outside.service_client.operator_service
        attempts: list[Awaitable[object]] = [
            start,
            theirs.signal("anything"),
            theirs.terminate(),
            theirs.cancel(),
            theirs.query("anything"),
            theirs.describe(),
            theirs.result(),
            outside.count_workflows(),
            outside.create_schedule("evil", _schedule()),
            outside.get_schedule_handle("maintenance").trigger(),
            operators.list_search_attributes(ListSearchAttributesRequest(namespace=edge.mine)),
            outside.service_client.check_health(),
        ]
        assert [await denied(attempt) for attempt in attempts] == [True] * len(attempts)
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_what_is_not_an_executors_is_refused_by_method_namespace_and_queue(
    edge: Edge, temporal: TemporalServer
) -> None:
    token, mine, theirs = edge.token(), edge.mine, edge.theirs
    poll = partial(_poll, namespace=mine)
    execution = WorkflowExecution(workflow_id="any")
    queue = TaskQueue(name="control")
    completed = RespondActivityTaskCompletedRequest(namespace=theirs, task_token=b"any")
    answer = {"temporal-namespace": mine}
    attempts: list[tuple[str, Message | bytes]] = [
        ("StartWorkflowExecution", StartWorkflowExecutionRequest(namespace=mine, workflow_id="evil", task_queue=queue)),
        ("PollWorkflowTaskQueue", PollWorkflowTaskQueueRequest(namespace=mine, task_queue=queue)),
        ("PollWorkflowTaskQueue", PollWorkflowTaskQueueRequest(namespace=mine, task_queue=TaskQueue(name="apply"))),
        ("PollNexusTaskQueue", PollNexusTaskQueueRequest(namespace=mine, task_queue=TaskQueue(name="apply"))),
        ("QueryWorkflow", QueryWorkflowRequest(namespace=mine, execution=execution)),
        ("TerminateWorkflowExecution", TerminateWorkflowExecutionRequest(namespace=mine, workflow_execution=execution)),
        ("DescribeTaskQueue", DescribeTaskQueueRequest(namespace=mine, task_queue=TaskQueue(name="apply"))),
        ("RespondActivityTaskCompletedById", RespondActivityTaskCompletedByIdRequest(namespace=mine)),
        ("ListNamespaces", ListNamespacesRequest()),
        # Polls of queues that are not its own.
        *(("PollActivityTaskQueue", poll(name)) for name in ("control", "run", "run/warehouse", "applying", "", "x")),
        ("PollActivityTaskQueue", poll("apply", kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name="control")),
        ("PollActivityTaskQueue", poll("apply", kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY)),
        # The queue twice: the last one counts, for us as for Temporal.
        ("PollActivityTaskQueue", poll("apply").SerializeToString() + poll("control").SerializeToString()),
        # Another project, in the body; what the header says is no matter.
        ("PollActivityTaskQueue", _poll("apply", namespace=theirs)),
        ("DescribeNamespace", DescribeNamespaceRequest(namespace=theirs)),
        ("DescribeNamespace", DescribeNamespaceRequest(namespace=mine, id="an-id")),
        ("RespondActivityTaskCompleted", completed),
        ("RespondActivityTaskFailed", RespondActivityTaskFailedRequest(namespace=theirs, task_token=b"any")),
        ("RecordActivityTaskHeartbeat", RecordActivityTaskHeartbeatRequest(namespace=theirs, task_token=b"any")),
        ("RecordWorkerHeartbeat", _report(theirs, "apply")),
        ("RecordWorkerHeartbeat", _report(mine, "apply", "control")),
        ("ShutdownWorker", ShutdownWorkerRequest(namespace=theirs, task_queue="apply")),
        ("ShutdownWorker", ShutdownWorkerRequest(namespace=mine, task_queue="control")),
        ("ShutdownWorker", ShutdownWorkerRequest(namespace=mine, sticky_task_queue="apply")),
        ("PollActivityTaskQueue", b"\xff\xff"),
        ("/temporal.api.operatorservice.v1.OperatorService/ListNexusEndpoints", b""),
        ("/temporal.api.operatorservice.v1.OperatorService/DeleteNamespace", b""),
        ("/temporal.server.api.adminservice.v1.AdminService/DescribeCluster", b""),
        ("/temporal.server.api.historyservice.v1.HistoryService/GetShard", b""),
        ("/grpc.health.v1.Health/Check", b""),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b""),
        ("/temporal.api.workflowservice.v1.WorkflowService/", b""),
        ("/temporal.api.workflowservice.v1.workflowservice/PollActivityTaskQueue", poll("apply")),
    ]
    for method, request in attempts:
        assert await refused(edge.call(method, request, token, **answer)) is PERMISSION_DENIED, (method, request)

    other_kind = edge.token("run")
    assert await refused(edge.call("PollActivityTaskQueue", poll("apply"), other_kind)) is PERMISSION_DENIED
    assert await refused(edge.call("PollActivityTaskQueue", poll("apply"), edge.token(namespace=theirs))) is (
        PERMISSION_DENIED
    )
    assert await edge.call("DescribeNamespace", DescribeNamespaceRequest(namespace=mine), token)
    assert await edge.call("RecordWorkerHeartbeat", _report(mine, "apply", "apply/warehouse"), token) == b""
    assert await edge.call("ShutdownWorker", ShutdownWorkerRequest(namespace=mine, task_queue="apply"), token) == b""


async def test_without_an_executors_token_nothing_is_answered(edge: Edge) -> None:
    namespace = Project.parse(edge.mine)
    tokens: TemporalTokens = edge.server.app.state.temporal_tokens
    expired = TemporalTokens(edge.server.app.state.sign_in.issuer.keys, timedelta(seconds=-1))
    nobody_here = tokens.for_edge(Project("nobody", "here"), "executor", ExecutorKind.APPLY)
    own = tokens.for_edge(namespace, "executor", ExecutorKind.APPLY)
    head, claims, signature = own.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    elsewhere = jwt.encode({"alg": "ES256", "typ": "JWT"}, said, ECKey.generate_key("P-256"))
    others = [
        None,
        "",
        "anything",
        "executor-token",
        "viewer-token",
        "admin-token",
        elsewhere,
        expired.for_edge(namespace, "executor", ExecutorKind.APPLY),
        tokens.for_frontend([namespace], "executor"),
        nobody_here,
        tokens.for_edge(namespace, "viewer", ExecutorKind.APPLY),
        tokens.for_edge(namespace, "nobody", ExecutorKind.APPLY),
        f"{head}.{claims}.",
        f"{_part({'alg': 'none'})}.{claims}.",
        f"{_part({'alg': 'HS256'})}.{claims}.{signature}",
    ]
    for token in others:
        for method in ("GetSystemInfo", "PollActivityTaskQueue", "StartWorkflowExecution"):
            status = await refused(edge.call(method, _poll("apply", namespace=edge.mine), token))
            assert status is grpc.StatusCode.UNAUTHENTICATED, (method, token)
    assert await edge.call("GetSystemInfo", GetSystemInfoRequest(), own)


async def test_a_task_is_answered_in_its_own_namespace_only(edge: Edge, temporal: TemporalServer) -> None:
    inside = await Client.connect(temporal.address, namespace=edge.mine)
    async with Worker(inside, task_queue="control", workflows=[Greeting]):
        handle = await inside.start_workflow(Greeting.run, "Ada", id=f"greeting-{uuid4().hex}", task_queue="control")
        token = edge.token()
        polled = await edge.call("PollActivityTaskQueue", _poll("apply", namespace=edge.mine), token)
        task = PollActivityTaskQueueResponse.FromString(polled)
        assert task.activity_type.name == "greet"
        stolen = RespondActivityTaskCompletedRequest(namespace=edge.theirs, task_token=task.task_token)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.call("RespondActivityTaskCompleted", stolen, edge.token(namespace=edge.theirs))
        # That is Temporal's own word.
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "different namespace" in (caught.value.details() or "")
        own = RespondActivityTaskCompletedRequest(namespace=edge.mine, task_token=task.task_token)
        own.result.payloads.add(metadata={"encoding": b"json/plain"}, data=b'"by hand"')
        await edge.call("RespondActivityTaskCompleted", own, token)
        assert await handle.result() == "by hand"
        # What Temporal refuses is told as it tells it, with all that it says of it.
        with pytest.raises(grpc.aio.AioRpcError) as again:
            await edge.call("RespondActivityTaskCompleted", own, token)
        assert again.value.code() is grpc.StatusCode.NOT_FOUND
        assert [key for key, _ in again.value.trailing_metadata()] == ["grpc-status-details-bin"]


async def test_a_worker_goes_on_with_fresh_tokens(
    edge: Edge, temporal: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_RENEW_SECONDS", 0.3)
    tokens: TemporalTokens = edge.server.app.state.temporal_tokens
    tokens.lifetime = timedelta(seconds=2)
    inside = await Client.connect(temporal.address, namespace=edge.mine)
    first = edge.token()
    outside = await Client.connect(edge.address, namespace=edge.mine, tls=False, api_key=first)
    async with ExecutorApi(edge.server.url, "executor-token") as api:
        renewing = asyncio.create_task(keep_signed_in(outside, partial(api.bootstrap, ExecutorKind.APPLY)))
        async with (
            Worker(inside, task_queue="control", workflows=[Greeting]),
            Worker(outside, task_queue="apply", activities=[greet]),
        ):

            async def is_expired() -> bool:
                return await tokens.read_edge(first) is None

            await eventually_async(is_expired)
            ended = await inside.execute_workflow(Greeting.run, "Ada", id="greeting", task_queue="control")
            assert ended == "hello Ada"
        renewing.cancel()


async def test_whoever_hangs_up_polls_no_more(edge: Edge, temporal: TemporalServer) -> None:
    poll = asyncio.create_task(edge.call("PollActivityTaskQueue", _poll("apply", namespace=edge.mine), edge.token()))
    inside = await Client.connect(temporal.address, namespace=edge.mine)
    async with Worker(inside, task_queue="control", workflows=[Greeting]):
        await asyncio.sleep(0.5)
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        handle = await inside.start_workflow(Greeting.run, "Ada", id=f"greeting-{uuid4().hex}", task_queue="control")
        # A poll that went on behind the caller's back would take the task, and lose it.
        async with Worker(inside, task_queue="apply", activities=[greet]):
            assert await handle.result() == "hello Ada"
            assert (await handle.describe()).history_length < _WITHOUT_A_RETRY


async def test_who_is_granted_nothing_in_a_project_gets_nowhere_there(edge: Edge) -> None:
    with edge.server.database.engine.begin() as connection:
        connection.execute(delete(grants).where(grants.c.project == edge.theirs))
    tokens: TemporalTokens = edge.server.app.state.temporal_tokens
    token = tokens.for_edge(Project.parse(edge.theirs), "executor", ExecutorKind.APPLY)
    assert await refused(edge.call("PollActivityTaskQueue", _poll("apply", namespace=edge.theirs), token)) is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    org, name = edge.theirs.split(".")
    root = edge.server.url.removesuffix("/sqlmesh/" + edge.mine.replace(".", "/"))
    routes = [
        (method, path.replace("{org}", org).replace("{project}", name).replace("{workflow_run_id}", str(uuid4())))
        for path, methods in edge.server.app.openapi()["paths"].items()
        for method in methods
        if path.startswith("/sqlmesh/{org}/{project}/")
    ]
    assert len(routes) > _MANY_ROUTES
    async with httpx.AsyncClient(base_url=root, trust_env=False, timeout=60) as http:
        for role in (Role.ADMIN, Role.EXECUTOR, Role.WORKER):
            bearer = {"Authorization": f"Bearer {role}-token"}
            answers = [await http.request(method, path, headers=bearer) for method, path in routes]
            assert {answer.status_code for answer in answers} == {403}, role


async def test_a_request_that_is_too_large_is_refused(edge: Edge) -> None:
    large = RespondActivityTaskCompletedRequest(namespace=edge.mine, task_token=b"x" * 5_000_000)
    assert await refused(edge.call("RespondActivityTaskCompleted", large, edge.token())) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )


def _poll(
    name: str,
    *,
    namespace: str,
    kind: TaskQueueKind.ValueType = TaskQueueKind.TASK_QUEUE_KIND_NORMAL,
    normal_name: str = "",
) -> PollActivityTaskQueueRequest:
    queue = TaskQueue(name=name, kind=kind, normal_name=normal_name)
    return PollActivityTaskQueueRequest(namespace=namespace, task_queue=queue, identity="attacker")


def _report(namespace: str, *queues: str) -> RecordWorkerHeartbeatRequest:
    heartbeats = [WorkerHeartbeat(worker_instance_key="any", task_queue=queue) for queue in queues]
    return RecordWorkerHeartbeatRequest(namespace=namespace, worker_heartbeat=heartbeats)


def _schedule() -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow("Greeting", "Eve", id="evil", task_queue="control"), spec=ScheduleSpec()
    )


def _part(header: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
