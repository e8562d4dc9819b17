"""`tcloud environments`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, as_json, output_option, show, show_many

__all__ = ["environments"]

_FIELDS = ("name", "status", "plan_id", "models", "paused", "next_run_at")


@click.group()
def environments() -> None:
    """Environments and when they run next."""


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
        show(as_json(api.environment(name), _FIELDS), output)
