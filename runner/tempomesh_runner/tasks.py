"""The tasks of a runner process, by name."""

import sys
import typing as t
from collections.abc import Callable

from sqlmesh.core.notification_target import NotificationEvent
from sqlmesh.utils.concurrency import NodeExecutionFailedError
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner import plans, queries, requirements, scheduling
from tempomesh_runner.causes import encode_cause, is_retryable, message_of
from tempomesh_runner.connection_tests import test_connection
from tempomesh_runner.console import Event
from tempomesh_runner.crons import remember_crons
from tempomesh_runner.evaluation import UnitEvaluator
from tempomesh_runner.integrity import Integrity
from tempomesh_runner.process_context import EnvironmentUpdatingError, ProcessContext
from tempomesh_runner.state import Transport

__all__ = ["Worker", "describe_error"]


_TOLD = ("error", "log", "cause", "events")
"""What of an evaluation's result people read."""

Told = t.TypeVar("Told")


class Worker:
    """Executes tasks, one at a time, and keeps what they share.

    Args:
        transport: Carries state calls.
        emit: Takes console events.
    """

    def __init__(self, transport: Transport, emit: Callable[[Event], None]):
        remember_crons()
        self._context = ProcessContext(transport, emit)
        self._units = UnitEvaluator(self._context)
        self._integrity: Integrity | None = None
        self._has_run_code = False

    @property
    def is_spoilt(self) -> bool:
        """Whether the code of a model has left behind what the next one would meet; says on stderr what it is."""
        if self._integrity is None or not self._has_run_code:
            return False
        changed = self._integrity.changed()
        if changed:
            print(f"changed by a model: {', '.join(changed)}", file=sys.stderr)  # noqa: T201 (its log)
        return bool(changed)

    def use_connections(self, managed: dict[str, dict[str, t.Any]]) -> None:
        """Takes the connections of the project's vault, by gateway; before the first task."""
        self._context.managed = managed

    def hide(self, told: Told) -> Told:
        """What is told without the secrets of connections."""
        return self._context.hide(told)

    def cancel_queries(self) -> None:
        """Cancels what the current task has running in its warehouses; to be called from another thread."""
        # Gateways that were never used have nothing running, and are not to be made now.
        if gateways := vars(self._context).get("gateways"):
            gateways.cancellation.cancel()

    def run(self, task: str, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        """Executes a task and returns its JSON result; whatever it raises is the task's failure."""
        if self._integrity is None:
            self._integrity = Integrity()
        self._has_run_code = True
        if task == "ping":
            return {}
        if task == "notify":
            self._context.notifications.notify(NotificationEvent(arguments["event"]), **arguments["details"])
            return {}
        if task == "test_connection":
            return test_connection(**arguments, say=self._context.console.log_status_update)
        with self._context.gateways.turn(self._context.console.log_status_update):
            match task:
                case "describe_gateways":
                    found = self._context.gateways.describe()
                    return {
                        "gateways": found["gateways"],
                        "unusable": self.hide(found["unusable"]),
                        "notifies_of": self._context.notifications.subjects,
                    }
                case "who_asks":
                    return requirements.who_asks(self._context, **arguments)
                case "build_stages":
                    return plans.build_stages(self._context, **arguments)
                case "apply_stage":
                    return plans.apply_stage(self._context, **arguments)
                case "prepare_backfill":
                    return plans.prepare_backfill(self._context, **arguments)
                case "prepare_catch_up":
                    return plans.prepare_catch_up(self._context, **arguments)
                case "read_environment":
                    return scheduling.read_environment(self._context, **arguments)
                case "prepare_run":
                    return scheduling.prepare_run(self._context, **arguments)
                case "run_statements":
                    return plans.run_statements(self._context, **arguments)
                case "answer_query":
                    return queries.answer_query(self._context, **arguments)
                case "evaluate_unit":
                    evaluated = self._units.evaluate(**arguments)
                    self._has_run_code = evaluated.pop("has_code", False)
                    # Failures of models are results, and a driver's words are in them.
                    return {**evaluated, **self.hide({name: evaluated[name] for name in _TOLD if name in evaluated})}
        raise SQLMeshError(f"This runner has no task '{task}'.")


def describe_error(error: BaseException) -> dict[str, t.Any]:
    """What the executor is told of a task that failed."""
    return {
        "message": _message(error),
        "error_type": type(error).__name__,
        "retryable": isinstance(error, EnvironmentUpdatingError) or is_retryable(error),
        "cause": encode_cause(error),
    }


def _message(error: BaseException) -> str:
    text = message_of(error)
    # It names only the model; the reason is in a log, and here the log is on another machine than the reader.
    return f"{text}: {error.__cause__}" if isinstance(error, NodeExecutionFailedError) and error.__cause__ else text
