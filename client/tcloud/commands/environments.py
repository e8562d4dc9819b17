"""`tcloud environments`."""

import click

from tcloud.commands.access import project_api
from tcloud.commands.pausing import End, catch_up_option, reason_option, say_paused, say_resumed, until_option
from tcloud.commands.python import python
from tcloud.output import Format, as_json, output_option, show, show_many
from tcloud.wire.pausing import PauseRequest

__all__ = ["environments"]

_FIELDS = ("name", "status", "plan_id", "models", "paused", "scheduled", "next_run_at")
_ALL_FIELDS = (*_FIELDS, "scheduled_by", "scheduled_at", "pauses")


@click.group()
def environments() -> None:
    """Environments: whether they are scheduled and when they run next; pause and resume them."""


@environments.command("list")
@output_option
def list_environments(output: Format) -> None:
    """List the project's environments."""
    with project_api() as api:
        show_many(api.environments(), _FIELDS, _FIELDS, output)


@environments.command("show")
@click.argument("name")
@output_option
def show_environment(name: str, output: Format) -> None:
    """Show one environment."""
    with project_api() as api:
        show(as_json(api.environment(name), _ALL_FIELDS), output)


@environments.command("schedule")
@click.argument("name")
@output_option
def schedule_environment(name: str, output: Format) -> None:
    """Let an environment's models run by themselves, whenever their crons say so."""
    with project_api() as api:
        show(as_json(api.schedule_environment(name), _ALL_FIELDS), output)


@environments.command("unschedule")
@click.argument("name")
@output_option
def unschedule_environment(name: str, output: Format) -> None:
    """Let an environment's models run only when somebody starts a run."""
    with project_api() as api:
        show(as_json(api.unschedule_environment(name), _ALL_FIELDS), output)


@environments.command("pause")
@click.argument("name")
@reason_option
@until_option
@click.option("--now", is_flag=True, help="Cancel what is in flight, too; it finishes otherwise.")
@output_option
def pause_environment(name: str, reason: str, end: End, now: bool, output: Format) -> None:
    """Start no run in an environment, and nothing new in those under way. Plans take no notice."""
    with project_api() as api:
        request = PauseRequest.model_validate({"reason": reason, "now": now, **end})
        answer = api.pause_environment(name, request)
    say_paused(answer)
    show(as_json(answer.environment, _ALL_FIELDS), output)


@environments.command("resume")
@click.argument("name")
@catch_up_option
@output_option
def resume_environment(name: str, catch_up: bool, output: Format) -> None:
    """End the pause of an environment, and start a run of what is due."""
    with project_api() as api:
        answer = api.resume_environment(name, catch_up=catch_up)
    say_resumed(answer)
    show(as_json(answer.environment, _ALL_FIELDS), output)


environments.add_command(python)
