"""What an executor that keeps texts at home tells of its work: that it was done, and how it ended.

The text of a query, a log, a message of a database and a value in it are for whoever may read the executor's own log.
"""

from collections.abc import Iterable
from typing import Any

from envmanager.errors import RunnerCrashedError, TaskFailedError
from tcloud.wire.executions import ConsoleEvent, FinishUnit

__all__ = ["KEPT", "NO_ROWS", "discreet_crash", "discreet_events", "discreet_failure", "discreet_finish"]

KEPT = "the rest is kept at the executor"

NO_ROWS = (
    "The executor of this gateway keeps texts and rows at home (TCLOUD_EXECUTOR_KEEP_HOME): "
    "ask the warehouse from where it is."
)

_TOLD = frozenset(
    f"{step}_{what}_progress"
    for step in ("start", "update", "stop")
    for what in ("evaluation", "snapshot_evaluation", "creation", "promotion", "snapshot_migration", "signal")
) | {"log_skipped_models", "log_models_updated_during_restatement"}
"""Events of names, counts and times."""

_FAILED_MODELS = "log_failed_models"


def discreet_finish(finish: FinishUnit) -> FinishUnit:
    """The end of a unit without its texts."""
    cause = _without_text(finish.cause)
    told = None if finish.error_message is None else f"{(cause or {}).get('class', 'It failed')}: {KEPT}."
    return finish.model_copy(
        update={
            "error_message": told,
            "cause": cause,
            "log": f"{KEPT.capitalize()}." if finish.log else finish.log,
            "events": discreet_events(finish.events),
        }
    )


def discreet_events(events: Iterable[ConsoleEvent]) -> list[ConsoleEvent]:
    """The events that hold names, counts and times; of models that failed, which."""
    told = []
    for event in events:
        if event.type in _TOLD:
            told.append(event)
        elif event.type == _FAILED_MODELS:
            failures = [_failure(failure) for failure in event.payload["failures"]]
            told.append(event.model_copy(update={"payload": {"failures": failures}}))
    return told


def discreet_failure(error: TaskFailedError) -> TaskFailedError:
    """The error of a task, by the name of its class."""
    return TaskFailedError(
        f"{error.error_type}: {KEPT}.",
        error.error_type,
        retryable=error.retryable,
        cause=_without_text(error.cause) or {},
    )


def discreet_crash(error: RunnerCrashedError) -> RunnerCrashedError:
    """The end of a process, without what it printed."""
    return RunnerCrashedError(error.reason, "")


def _failure(failure: dict[str, Any]) -> dict[str, Any]:
    named = {name: failure.get(name) for name in ("kind", "name", "interval", "batch_index")}
    return {**named, "cause": _without_text(failure.get("cause")), "message": f"{KEPT.capitalize()}."}


def _without_text(cause: dict[str, Any] | None) -> dict[str, Any] | None:
    return {"class": cause["class"], "message": f"{KEPT.capitalize()}."} if cause and "class" in cause else None
