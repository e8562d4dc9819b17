"""What an executor may ask of Temporal: what a worker of activities calls, in its namespace, on its own queues.

The method of a gRPC call is in its path; the namespace and the queue are only in its body. Temporal's authorizer looks
at the namespace, and at no queue.
"""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError, Message
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    PollActivityTaskQueueRequest,
    RecordActivityTaskHeartbeatRequest,
    RecordWorkerHeartbeatRequest,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
    ShutdownWorkerRequest,
)

from server.temporal_tokens import EdgePass

__all__ = ["ALLOWED", "refusal"]

_SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
_KINDS = (TaskQueueKind.TASK_QUEUE_KIND_UNSPECIFIED, TaskQueueKind.TASK_QUEUE_KIND_NORMAL)

_Check = Callable[[Any, EdgePass], str | None]


def refusal(method: str, body: bytes, bearer: EdgePass) -> str | None:
    """Why a call is refused; None if it is not.

    Args:
        method: The call's path.
        body: The request as it came.
        bearer: Whose call it is.
    """
    if method not in ALLOWED:
        return f"An executor's token is not good for {method.rpartition('/')[2] or method}."
    kind, check = ALLOWED[method]
    try:
        request = kind.FromString(body)
    except DecodeError:
        return f"This is no {kind.DESCRIPTOR.name}."
    return check(request, bearer)


def _anyone(_request: GetSystemInfoRequest, _bearer: EdgePass) -> str | None:
    return None


def _own_namespace(request: Any, bearer: EdgePass) -> str | None:
    if request.namespace != bearer.project.namespace:
        return f"This token is not good for the namespace '{request.namespace}'."
    return None


def _own_description(request: DescribeNamespaceRequest, bearer: EdgePass) -> str | None:
    if request.id:
        return "A namespace is described by its name."
    return _own_namespace(request, bearer)


def _own_poll(request: PollActivityTaskQueueRequest, bearer: EdgePass) -> str | None:
    queue = request.task_queue
    if queue.normal_name or queue.kind not in _KINDS:
        return "This token is good for no sticky task queue."
    return _own_namespace(request, bearer) or _own_queue(queue.name, bearer)


def _own_report(request: RecordWorkerHeartbeatRequest, bearer: EdgePass) -> str | None:
    refusals = (_own_queue(heartbeat.task_queue, bearer) for heartbeat in request.worker_heartbeat)
    return _own_namespace(request, bearer) or next(filter(None, refusals), None)


def _own_shutdown(request: ShutdownWorkerRequest, bearer: EdgePass) -> str | None:
    if request.sticky_task_queue:
        return "This token is good for no sticky task queue."
    named = {request.task_queue, request.worker_heartbeat.task_queue} - {""}
    return _own_namespace(request, bearer) or next(filter(None, (_own_queue(name, bearer) for name in named)), None)


def _own_queue(name: str, bearer: EdgePass) -> str | None:
    own = bearer.kind.value
    if name != own and not name.startswith(f"{own}/"):
        return f"This token is not good for the task queue '{name}'."
    return None


def _table(rules: Iterable[tuple[type[Message], _Check]]) -> dict[str, tuple[type[Message], _Check]]:
    return {_SERVICE + kind.DESCRIPTOR.name.removesuffix("Request"): (kind, check) for kind, check in rules}


ALLOWED = _table(
    [
        (GetSystemInfoRequest, _anyone),
        (DescribeNamespaceRequest, _own_description),
        (PollActivityTaskQueueRequest, _own_poll),
        # A task is named by a token that only its poller has, and that Temporal takes in its own namespace only.
        (RespondActivityTaskCompletedRequest, _own_namespace),
        (RespondActivityTaskFailedRequest, _own_namespace),
        (RespondActivityTaskCanceledRequest, _own_namespace),
        (RecordActivityTaskHeartbeatRequest, _own_namespace),
        (RecordWorkerHeartbeatRequest, _own_report),
        (ShutdownWorkerRequest, _own_shutdown),
    ]
)
"""By path: the request's type, and what has to be true of one."""
