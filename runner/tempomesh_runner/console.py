"""SQLMesh's console over a wire: an executor relays the calls, a terminal repeats them.

`RelayConsole` turns every call that a plan's application or a run makes into an event, `replay` is the inverse.
Snapshots travel as name and identifier: whoever watches has them, or reads them from state.
"""

import inspect
import threading
import typing as t
from collections.abc import Callable, Iterable

from sqlmesh.core.console import Console, NoopConsole
from sqlmesh.core.scheduler import CreateNode, EvaluateNode
from sqlmesh.core.schema_diff import TableAlterOperation
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.utils.concurrency import NodeExecutionFailedError
from sqlmesh.utils.errors import format_additive_change_msg, format_destructive_change_msg

from tempomesh_runner.causes import decode_cause, encode_cause
from tempomesh_runner.console_values import decode, encode

__all__ = [
    "RELAYED",
    "Event",
    "RelayConsole",
    "Resolver",
    "failed_models_event",
    "replay",
    "skipped_models_event",
    "stop_evaluation_event",
]

Event = dict[str, t.Any]
"""`{"type": the method's name, "payload": its arguments as JSON}`."""

Resolver = Callable[[str, str], Snapshot]
"""Finds a snapshot by name and identifier."""

RELAYED = (
    "start_evaluation_progress",
    "start_snapshot_evaluation_progress",
    "update_snapshot_evaluation_progress",
    "stop_evaluation_progress",
    "start_creation_progress",
    "update_creation_progress",
    "stop_creation_progress",
    "start_promotion_progress",
    "update_promotion_progress",
    "stop_promotion_progress",
    "start_snapshot_migration_progress",
    "update_snapshot_migration_progress",
    "stop_snapshot_migration_progress",
    "log_migration_status",
    "start_signal_progress",
    "update_signal_progress",
    "stop_signal_progress",
    "update_cleanup_progress",
    "log_status_update",
    "log_error",
    "log_warning",
    "log_success",
    "log_skipped_models",
    "log_models_updated_during_restatement",
)
"""Methods whose arguments travel as they are; failed models and schema changes travel in forms of their own."""

_FAILED_MODELS = "log_failed_models"
_NODES: dict[str, Callable[[t.Any], t.Any]] = {
    "create": lambda failure: CreateNode(snapshot_name=failure["name"]),
    "evaluate": lambda failure: EvaluateNode(
        snapshot_name=failure["name"], interval=tuple(failure["interval"]), batch_index=failure["batch_index"]
    ),
}


class RelayConsole(NoopConsole):
    """A console that passes on what it is told.

    Args:
        emit: Takes each event; called from whichever thread SQLMesh is in, one call at a time.
    """

    def __init__(self, emit: Callable[[Event], None]):
        self._emit = emit
        self._lock = threading.Lock()

    def log_failed_models(self, errors: list[NodeExecutionFailedError[t.Any]]) -> None:
        self.relay(failed_models_event(_failure(error) for error in errors))

    def log_destructive_change(
        self, snapshot_name: str, alter_operations: list[TableAlterOperation], dialect: str, error: bool = True
    ) -> None:
        message = format_destructive_change_msg(snapshot_name, alter_operations, dialect, error=error)
        (self.log_error if error else self.log_warning)(message)

    def log_additive_change(
        self, snapshot_name: str, alter_operations: list[TableAlterOperation], dialect: str, error: bool = True
    ) -> None:
        message = format_additive_change_msg(snapshot_name, alter_operations, dialect, error=error)
        (self.log_error if error else self.log_warning)(message)

    def relay(self, event: Event) -> None:
        """Passes an event on."""
        with self._lock:
            self._emit(event)


def replay(event: Event, console: Console, resolve: Resolver) -> None:
    """Repeats a relayed call on a console; events of a type that this version does not know are passed over.

    Args:
        event: The event.
        console: The console that a person looks at.
        resolve: Finds the snapshots that the event names.
    """
    payload = event["payload"]
    if event["type"] == _FAILED_MODELS:
        console.log_failed_models([_failed_node(failure) for failure in payload["failures"]])
    elif event["type"] in RELAYED:
        arguments = {name: decode(value, resolve) for name, value in payload.items()}
        getattr(console, event["type"])(**arguments)


def stop_evaluation_event(*, success: bool) -> Event:
    """What the scheduler says when nothing is left to evaluate."""
    return {"type": "stop_evaluation_progress", "payload": {"success": success}}


def skipped_models_event(names: Iterable[str]) -> Event:
    """What the scheduler says of snapshots that it skipped."""
    return {"type": "log_skipped_models", "payload": {"snapshot_names": encode(set(names))}}


def failed_models_event(failures: Iterable[Event]) -> Event:
    """What the scheduler says of units that failed.

    Args:
        failures: Each with `kind` (evaluate, audit, create), `name`, `interval`, `batch_index`, and `cause` as
            `encode_cause` made it, or else a `message`.
    """
    return {"type": _FAILED_MODELS, "payload": {"failures": list(failures)}}


def _failure(error: NodeExecutionFailedError[t.Any]) -> Event:
    node = error.node
    name = getattr(node, "snapshot_name", None) or getattr(node, "name", str(node))
    evaluated = isinstance(node, EvaluateNode)
    return {
        "kind": "evaluate" if evaluated else "create",
        "name": name,
        "interval": list(node.interval) if evaluated else None,
        "batch_index": node.batch_index if evaluated else None,
        "cause": encode_cause(error.__cause__ or error),
    }


def _failed_node(failure: Event) -> NodeExecutionFailedError[t.Any]:
    kind = "create" if failure["kind"] == "create" else "evaluate"
    error: NodeExecutionFailedError[t.Any] = NodeExecutionFailedError(_NODES[kind](failure))
    error.__cause__ = decode_cause(failure.get("cause"), failure.get("message"))
    return error


def _relayed(method: str) -> Callable[..., None]:
    signature = inspect.signature(getattr(Console, method))

    def relay(self: RelayConsole, *args: t.Any, **kwargs: t.Any) -> None:
        bound = signature.bind(self, *args, **kwargs).arguments
        payload = {name: encode(value) for name, value in bound.items() if name not in ("self", "args", "kwargs")}
        self.relay({"type": method, "payload": payload})

    relay.__name__ = method
    return relay


for _method in RELAYED:
    setattr(RelayConsole, _method, _relayed(_method))
