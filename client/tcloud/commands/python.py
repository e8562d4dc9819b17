"""`tcloud environments python`."""

import click

from tcloud.commands.access import project_api
from tcloud.output import Format, as_json, output_option, show

__all__ = ["python"]

_FIELDS = (
    *("environment", "plan_id", "key", "python_version", "sqlmesh_version", "platform"),
    *("executors", "requirements", "packages"),
)


@click.group()
def python() -> None:
    """The Python environments that the models of environments run in."""


@python.command("show")
@click.argument("name")
@output_option
def show_python(name: str, output: Format) -> None:
    """Show what an environment is pinned to, and which models ask for it."""
    with project_api() as api:
        found = api.python_of_environment(name)
    if found.key is None and output is Format.TABLE:
        click.echo(
            f"Environment '{name}' asks for no Python packages: its models run in the executors' own interpreter."
        )
        return
    show(as_json(found, _FIELDS), output)
