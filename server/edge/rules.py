"""What an executor may ask of Temporal: what a worker of activities calls, in its namespace, on its own queues.

The method of a gRPC call is in its path; the namespace and the queue are only in its body. Temporal's authorizer looks
at the namespace, and at no queue.
"""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import DecodeError, Message
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    GetSystemInfoRequest,
    PollActivityTaskQueueRequest,
    RecordActivityTaskHeartbeatRequest,
    RespondActivityTaskCanceledRequest,
    RespondActivityTaskCompletedRequest,
    RespondActivityTaskFailedRequest,
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
    return _own_namespace(request, bearer) or _own_queue(request.task_queue, bearer)


def _own_queue(queue: TaskQueue, bearer: EdgePass) -> str | None:
    own = bearer.kind.value
    is_own = queue.name == own or queue.name.startswith(f"{own}/")
    if not is_own or queue.normal_name or queue.kind not in _KINDS:
        return f"This token is not good for the task queue '{queue.name}'."
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
    ]
)
"""By path: the request's type, and what has to be true of one."""
