"""What the commands share that pause and resume."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from tcloud.wire.pauses import Pause
from tcloud.wire.pausing import PauseAnswer, ResumeAnswer

__all__ = ["PAUSE_FIELDS", "End", "catch_up_option", "reason_option", "say_paused", "say_resumed", "until_option"]

PAUSE_FIELDS = ("pause_id", "environment", "model", "models", "reason", "created_by", "created_at", "until")
_LONGEST_REASON = 500
_LASTS = re.compile(r"(?:(?P<days>\d+)d)?(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m)?(?:(?P<seconds>\d+)s)?\Z")
Command = TypeVar("Command", bound=Callable[..., Any])

End = dict[str, datetime | timedelta | None]
"""The fields of a request that say when a pause ends by itself."""


def reason_option(command: Command) -> Command:
    """Gives a command `--reason`."""
    option = click.option("--reason", required=True, callback=_reason, help="Why, for everybody who meets it.")
    decorated: Command = option(command)
    return decorated


def until_option(command: Command) -> Command:
    """Gives a command `--until`, as the parameter `end`."""
    option = click.option(
        "--until",
        "end",
        metavar="TIME",
        callback=_end,
        help="Resume by itself then: after a time (30m, 2h, 1d) or at one (ISO 8601; UTC unless it says otherwise).",
    )
    decorated: Command = option(command)
    return decorated


def catch_up_option(command: Command) -> Command:
    """Gives a command `--catch-up/--no-catch-up`."""
    option = click.option(
        "--catch-up/--no-catch-up",
        default=True,
        show_default=True,
        help="Start a run of what is due now, or leave it to the next tick.",
    )
    decorated: Command = option(command)
    return decorated


def say_paused(answer: PauseAnswer) -> None:
    """Says on stderr what came of it, where the record does not."""
    pause = answer.pause
    if answer.outcome == "already_paused":
        click.echo(f"{_what(pause)} was paused already by {pause.created_by}: {pause.reason}", err=True)
    elif answer.outcome == "changed":
        click.echo(f"{_what(pause)} was paused already; reason and end are now those given.", err=True)
    for run_id in answer.cancelled_runs:
        click.echo(f"Run '{run_id}' was cancelled.", err=True)


def say_resumed(answer: ResumeAnswer) -> None:
    """Says on stderr who evaluates what is due."""
    if answer.run_id is not None:
        click.echo(f"Run '{answer.run_id}' catches up: watch it with `tcloud runs attach {answer.run_id}`.", err=True)
    else:
        click.echo(f"No run was started. {answer.no_run or ''}".rstrip(), err=True)


def _what(pause: Pause) -> str:
    environment = f"Environment '{pause.environment}'"
    return environment if pause.model is None else f"'{pause.model}' of {environment[0].lower()}{environment[1:]}"


def _reason(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.strip() or len(value) > _LONGEST_REASON:
        raise click.BadParameter(f"say why, in no more than {_LONGEST_REASON} characters.")
    return value


def _end(_context: click.Context, _parameter: click.Parameter, value: str | None) -> End:
    if value is None:
        return {}
    lasts = _LASTS.match(value.strip())
    try:
        if lasts and any(lasts.groupdict().values()):
            return {"lasts": timedelta(**{unit: int(count) for unit, count in lasts.groupdict().items() if count})}
        moment = datetime.fromisoformat(value)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f"'{value}' is no time, as are '2h', '1d12h' and '2026-03-01 09:00'.") from error
    return {"until": moment if moment.tzinfo else moment.replace(tzinfo=UTC)}
