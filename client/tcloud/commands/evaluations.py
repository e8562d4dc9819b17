"""How evaluations are listed, be they of a plan, of a run, or of a model."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from tcloud.errors import NotFoundError
from tcloud.output import Format, as_json, cell, print_table
from tcloud.wire.runs import Evaluation
from tcloud.wire.statuses import Status

__all__ = [
    "EVALUATION_FIELDS",
    "duration",
    "evaluation_table",
    "interval_of",
    "log_options",
    "readable_model",
    "show_logs",
    "summary_of",
    "worst_first",
]

EVALUATION_FIELDS = (
    "evaluation_id",
    "model",
    "interval_start",
    "interval_end",
    "batch_index",
    "status",
    "attempt",
    "executor",
    "start_at",
    "end_at",
    "error_message",
    "audits",
)

_LOG_FIELDS = ("evaluation_id", "model", "interval_start", "interval_end", "status", "attempt", "error_message", "log")
_WORST_FIRST = (
    Status.FAILED,
    Status.ABORTED,
    Status.PREEMPTED,
    Status.SKIPPED,
    Status.IN_PROGRESS,
    Status.SCHEDULED,
    Status.SUCCESS,
)
_REASON_CHARACTERS = 300
Command = TypeVar("Command", bound=Callable[..., Any])
_MINUTE, _HOUR = 60, 3600


def worst_first(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations with those first that want to be looked at; otherwise as they were."""
    return sorted(evaluations, key=lambda evaluation: _WORST_FIRST.index(evaluation.status))


def summary_of(evaluations: Sequence[Evaluation]) -> str:
    """How many of each status: `2 failed, 5 skipped, 193 success`."""
    count = Counter(evaluation.status for evaluation in evaluations)
    return ", ".join(f"{count[status]} {status}" for status in _WORST_FIRST if count[status]) or "none"


def evaluation_table(evaluations: Sequence[Evaluation], *, with_owner: bool = False) -> None:
    """Prints one line for each evaluation: what, how it ended, when, how long it took, and why it did not succeed.

    Args:
        evaluations: What to print, in this order.
        with_owner: Whether to say which environment and which run or plan it belongs to, in place of the model.
    """
    columns: dict[str, Callable[[Evaluation], object]] = {"status": lambda evaluation: evaluation.status}
    if with_owner:
        columns |= {
            "environment": lambda evaluation: evaluation.environment,
            "run or plan": lambda evaluation: evaluation.run_id or evaluation.plan_id,
        }
    else:
        columns["model"] = readable_model
    columns |= {
        "interval": interval_of,
        "attempt": lambda evaluation: evaluation.attempt,
        "start_at": lambda evaluation: evaluation.start_at,
        "took": duration,
        "executor": lambda evaluation: evaluation.executor,
        "reason": _reason,
    }
    print_table(tuple(columns), [[cell(of(evaluation)) for of in columns.values()] for evaluation in evaluations])


def readable_model(evaluation: Evaluation) -> str:
    """A model's name without quotes."""
    return evaluation.model.replace('"', "")


def interval_of(evaluation: Evaluation) -> str | None:
    """What was evaluated, from and up to; only dates where the times are midnights."""
    if evaluation.interval_start is None or evaluation.interval_end is None:
        return None
    ends = [moment.astimezone(UTC) for moment in (evaluation.interval_start, evaluation.interval_end)]
    is_days = all((moment.hour, moment.minute, moment.second) == (0, 0, 0) for moment in ends)
    return " to ".join(f"{moment:%Y-%m-%d}" if is_days else f"{moment:%Y-%m-%d %H:%M:%S}" for moment in ends)


def duration(evaluation: Evaluation) -> str | None:
    """How long an evaluation took, or has taken up to now."""
    if evaluation.start_at is None:
        return None
    seconds = ((evaluation.end_at or datetime.now(UTC)) - evaluation.start_at).total_seconds()
    if seconds < _MINUTE:
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(int(seconds), _MINUTE)
    return f"{minutes}m {rest:02d}s" if seconds < _HOUR else f"{minutes // _MINUTE}h {minutes % _MINUTE:02d}m"


def log_options(command: Command) -> Command:
    """Gives a command the options that choose among the logs of a run or plan: `model`, `evaluation_id`."""
    command = click.option("--evaluation", "evaluation_id", metavar="ID", help="Only this evaluation.")(command)
    return click.option("--model", metavar="NAME", help="Only evaluations of this model.")(command)


def show_logs(
    found: Sequence[Evaluation], model: str | None, evaluation_id: str | None, owner: str, see: str, output: Format
) -> None:
    """Prints what evaluations logged, each below a line that says which it is.

    Args:
        found: Evaluations of a run or plan, with `model` those of one model.
        model: The model that was asked for.
        evaluation_id: The only evaluation to be printed.
        owner: The run or plan, for a person.
        see: The command that shows it.
        output: How to print.

    Raises:
        NotFoundError: If nothing is what was asked for.
    """
    if evaluation_id is not None:
        found = [evaluation for evaluation in found if evaluation.evaluation_id == evaluation_id]
        if not found:
            raise NotFoundError(f"{owner} has no such evaluation '{evaluation_id}': see `{see}`.")
    if model is not None and not found:
        raise NotFoundError(f"{owner} has no evaluation of model '{model}': see `{see}`.")
    if output is Format.JSON:
        click.echo(json.dumps([as_json(evaluation, _LOG_FIELDS) for evaluation in found], indent=2))
        return
    for evaluation in found:
        _print_log(evaluation)
    if not any(evaluation.log and evaluation.log.strip() for evaluation in found):
        click.echo("Nothing was logged.", err=True)


def _print_log(evaluation: Evaluation) -> None:
    head = [readable_model(evaluation), interval_of(evaluation), evaluation.status.value, duration(evaluation)]
    click.echo(f"== {'  '.join(part for part in head if part)}  {evaluation.evaluation_id}")
    if evaluation.error_message:
        click.echo(evaluation.error_message.rstrip())
    if evaluation.log and evaluation.log.strip():
        click.echo(evaluation.log.rstrip())


def _reason(evaluation: Evaluation) -> str | None:
    if evaluation.error_message:
        text = " ".join(evaluation.error_message.split())
        return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]}…"
    failed = [audit.name for audit in evaluation.audits if audit.status is Status.FAILED]
    return f"Failed audits, not blocking: {', '.join(failed)}." if failed else None
