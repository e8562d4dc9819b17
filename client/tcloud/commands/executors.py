"""`tcloud executors`."""

import click

from tcloud.commands.access import project_api
from tcloud.errors import NotFoundError
from tcloud.output import Format, as_json, output_option, show, show_many

__all__ = ["executors"]

_FIELDS = ("identity", "kind", "host", "version", "status", "last_seen_at", "python_environments")
_ALL_FIELDS = (*_FIELDS, "sqlmesh_version", "package_index_error", "pythons")


@click.group()
def executors() -> None:
    """Executors and what they serve."""


@executors.command("list")
@output_option
def list_executors(output: Format) -> None:
    """List the executors that were seen lately."""
    with project_api() as api:
        show_many(api.executors(), _FIELDS, _FIELDS, output)


@executors.command("show")
@click.argument("identity")
@output_option
def show_executor(identity: str, output: Format) -> None:
    """Show one executor: its Python environments, their sizes, and the runner processes in them."""
    with project_api() as api:
        found = next((executor for executor in api.executors() if executor.identity == identity), None)
    if found is None:
        raise NotFoundError(f"There is no executor '{identity}': see `tcloud executors list`.")
    show(as_json(found, _ALL_FIELDS), output)
