"""`tcloud schedules`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, output_option, show_many

__all__ = ["schedules"]

_FIELDS = ("schedule_id", "environment", "cron", "timezone", "models", "next_run_at", "paused", "error_message")


@click.group()
def schedules() -> None:
    """Schedules: which models run at which cron."""


@schedules.command("list")
@output_option
def list_schedules(output: Format) -> None:
    """List the schedules that Temporal keeps for the project's environments."""
    with project_api() as api:
        show_many(api.schedules(), _FIELDS, _FIELDS, output)
