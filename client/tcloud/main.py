"""The command `tcloud`.

Commands are imported when they are called: `tcloud --help` has to be fast. Other packages add commands by entry
points of the group `tcloud.commands`: their names come from the packages' metadata.
"""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from tcloud.errors import Detached, TcloudError

__all__ = ["cli", "main", "run"]

_OWN_COMMANDS = {
    "sqlmesh": ("tcloud.commands.sqlmesh:sqlmesh", "SQLMesh's own command line, with the cloud scheduler."),
    "sqlmesh_cicd": ("tcloud.commands.sqlmesh:sqlmesh_cicd", "SQLMesh's CI/CD bot, with the cloud scheduler."),
    "plans": ("tcloud.commands.plans:plans", "Plans: list, show, watch and cancel them."),
    "runs": ("tcloud.commands.runs:runs", "Runs: list, show, start, watch and cancel them, read their logs."),
    "models": ("tcloud.commands.models:models", "Models: what was evaluated, over all runs and plans."),
    "environments": ("tcloud.commands.environments:environments", "Environments: when they run next, pause, resume."),
    "pauses": ("tcloud.commands.pauses:pauses", "Pauses: which environments and models are paused, and why."),
    "schedules": ("tcloud.commands.schedules:schedules", "Schedules: which models run at which cron."),
    "executors": ("tcloud.commands.executors:executors", "Executors and what they serve."),
    "auth": ("tcloud.commands.auth:auth", "Sign in at the server, and out again."),
    "clients": ("tcloud.commands.identities:clients", "Services that may sign in: CI, executors, tools."),
    "accounts": ("tcloud.commands.identities:accounts", "People who may sign in."),
    "grants": ("tcloud.commands.grants:grants", "Grants: who may do what, and where."),
    "connections": ("tcloud.commands.connections:connections", "Connections of gateways: add, list, test, delete."),
    "audit": ("tcloud.commands.audit:audit", "The audit log: who did what."),
    "project": ("tcloud.commands.project:project", "Projects that this machine knows by name."),
}
_ENTRY_POINTS = "tcloud.commands"
_INTERRUPTED = 130


class _Commands(click.Group):
    """Finds commands by name, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return [*_OWN_COMMANDS, *sorted(_added())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name in _OWN_COMMANDS:
            module, _, name = _OWN_COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        entry_point = _added().get(cmd_name)
        return _load(entry_point) if entry_point else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's signature)
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _OWN_COMMANDS.items()])
        added = _added()
        if added:
            with formatter.section("Commands of other packages"):
                formatter.write_dl([(name, f"See `tcloud {name} --help`.") for name in sorted(added)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--project", metavar="NAME", help="A project of tcloud.yaml, in place of the default one.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="tempomesh-client", message="%(version)s")
@click.pass_context
def cli(ctx: click.Context, project: str | None, debug: bool) -> None:
    """Plan, run and watch SQLMesh projects whose work is done by executors near the warehouse.

    Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 not allowed, 4 not reachable.
    """
    ctx.meta["tcloud.project"] = project
    ctx.meta["tcloud.debug"] = debug


def main() -> None:
    """Entry point of the program."""
    code = run(sys.argv[1:])
    # What is left goes with the process: to look through a large project once more would take most of a second.
    gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and shows its error, if there is one, as one line on stderr.

    Returns:
        The exit code.
    """
    try:
        with _traced(arguments):
            result: Any = cli.main(list(arguments), prog_name="tcloud", standalone_mode=False)
    except click.Abort as abort:
        if not isinstance(abort.__cause__, Detached):
            click.echo("Aborted!", err=True)
        return _INTERRUPTED
    except Exception as error:
        if _is_debug(arguments):
            traceback.print_exc()
        return _show(error)
    return result if isinstance(result, int) else 0


def _traced(arguments: Sequence[str]) -> AbstractContextManager[None]:
    """A span of the whole command, if traces are asked for; processes that serve have their own."""
    command = next((argument for argument in arguments if argument in _OWN_COMMANDS), None)
    if command is None or not any(name.startswith("OTEL_EXPORTER_OTLP") for name in os.environ):
        return nullcontext()
    from tcloud.tracing import command_span

    return command_span(command)


def _show(error: Exception) -> int:
    match error:
        case click.ClickException():
            error.show()
            return error.exit_code
        case TcloudError():
            click.echo(f"Error: {error}", err=True)
            return error.exit_code
        case BrokenPipeError():
            # Whoever read our output has stopped reading.
            return 1
        case _:
            reason = " ".join(str(error).split())
            click.echo(f"Error: {type(error).__name__}: {reason} (`tcloud --debug …` shows where)", err=True)
            return 1


def _is_debug(arguments: Sequence[str]) -> bool:
    for argument in arguments:
        if argument == "--debug":
            return True
        if argument in _OWN_COMMANDS:
            return False
    return False


def _added() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=_ENTRY_POINTS)}


def _load(entry_point: EntryPoint) -> click.Command:
    try:
        command: click.Command = entry_point.load()
    except (ImportError, AttributeError) as error:
        package = entry_point.dist.name if entry_point.dist else entry_point.module
        raise TcloudError(f"`tcloud {entry_point.name}` of {package} cannot be loaded: {error}.") from error
    return command
