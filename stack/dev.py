"""`tcloud dev`: the stack in the foreground, for as long as it is wanted."""

import asyncio
from datetime import timedelta
from pathlib import Path

import click

from stack.data_dir import DataDir
from stack.embedded import EmbeddedStack, Ports
from stack.errors import ChildFailedError, StackError
from stack.gateways import project_variables
from stack.settings import load_temporal_settings
from stack.supervisor import run_until_signal

__all__ = ["PlainReporter", "run_dev"]


class PlainReporter:
    """One line for each thing that happens."""

    def starting(self, name: str) -> None:
        """Says nothing: the next line follows soon."""

    def serving(self, name: str, took: timedelta) -> None:
        """A process serves."""
        click.echo(f"{name:<15} serves after {took.total_seconds():.1f} s")

    def problem(self, message: str) -> None:
        """Something that a person may want to look at."""
        click.secho(message, fg="yellow", err=True)

    def stopping(self, name: str) -> None:
        """A process is asked to stop."""
        click.echo(f"{name:<15} stops")


def run_dev(
    data_dir: Path,
    port: int,
    temporal_port: int | None,
    temporal_ui_port: int | None,
    project: Path | None,
    *,
    log_json: bool = False,
) -> int:
    """Runs the stack until SIGINT or SIGTERM; returns the exit code."""
    try:
        settings = load_temporal_settings()
        listen = settings.listen
        ports = Ports(port, temporal_port or listen.port, temporal_ui_port or listen.ui_port)
        variables = project_variables(project) if project else None
        data = DataDir(data_dir)
        with data.locked():
            stack = EmbeddedStack(
                data, ports, settings, PlainReporter(), gateway_variables=variables, log_json=log_json
            )
            run_until_signal(_serve(stack, variables), stack.supervisor)
    except StackError as error:
        show_error(error)
        return error.exit_code
    return 0


def show_error(error: StackError) -> None:
    """One line for a person, and what the process itself said last."""
    if isinstance(error, ChildFailedError):
        for line in error.tail:
            click.echo(f"  {line}", err=True)
    click.secho(f"Error: {error}", fg="red", err=True)


async def _serve(stack: EmbeddedStack, variables: dict[str, str] | None) -> None:
    async with stack:
        await stack.start()
        click.echo(f"server          {stack.addresses.server}")
        click.echo(f"Temporal        {stack.addresses.temporal}, Web UI {stack.addresses.temporal_ui}")
        if variables is None:
            click.echo(f"warehouse       {stack.warehouse_dsn}")
        click.echo(f"logs            {stack.data.logs}")
        click.echo(f"to use it       set -a; . {stack.data.client_env}; set +a; tcloud sqlmesh plan")
        click.echo("ready")
        await asyncio.Event().wait()
