"""`tcloud environments`."""

import click

from tcloud.commands.access import project_api
from tcloud.commands.python import python
from tcloud.output import Format, as_json, output_option, show, show_many

__all__ = ["environments"]

_FIELDS = ("name", "status", "plan_id", "models", "paused", "scheduled", "next_run_at")
_ALL_FIELDS = (*_FIELDS, "scheduled_by", "scheduled_at")


@click.group()
def environments() -> None:
    """Environments, whether they are scheduled, and when they run next."""


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


environments.add_command(python)
