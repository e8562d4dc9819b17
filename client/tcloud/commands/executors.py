"""`tcloud executors`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, output_option, show_many

__all__ = ["executors"]

_FIELDS = ("identity", "kind", "host", "version", "status", "last_seen_at", "python_environments")


@click.group()
def executors() -> None:
    """Executors and what they serve."""


@executors.command("list")
@output_option
def list_executors(output: Format) -> None:
    """List the executors that were seen lately."""
    with project_api() as api:
        show_many(api.executors(), _FIELDS, _FIELDS, output)
