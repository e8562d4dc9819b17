"""`tcloud worker` and `tcloud executor`."""

import asyncio
import gc
import json
import signal
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

import click
from dotenv import dotenv_values
from pydantic import ValidationError

from tcloud.output import Format, output_option, print_table
from tcloud.tracing import start_tracing
from tcloud.wire.executors import ExecutorKind
from telemetry.logs import configure_logging, secrets_of
from workers.settings import ExecutorSettings, WorkerSettings

__all__ = ["executor", "worker"]

Settings = TypeVar("Settings", bound=WorkerSettings)


@click.group(invoke_without_command=True)
@click.option("--check", is_flag=True, help="Check server and Temporal, then stop.")
@click.pass_context
def worker(ctx: click.Context, check: bool) -> None:
    """Serve the control queue: workflows, records and schedules; set up by TCLOUD_… variables."""
    if ctx.invoked_subcommand is not None:
        return
    from workers.control import check_control, serve_control

    settings = _settings(WorkerSettings)
    if check:
        _run(lambda _: _print_lines(check_control(settings)))
    else:
        _run(lambda stop: serve_control(settings, stop))


@worker.command()
def promote() -> None:
    """Make this installation's version the one that new workflows start with; a worker of it has to be running."""
    from workers.connections import temporal_of
    from workers.versions import make_current

    settings = _settings(WorkerSettings)

    async def make() -> list[str]:
        build_id = await make_current(settings, await temporal_of(settings, "worker-promote"))
        return [f"version {build_id} of deployment {settings.worker_deployment} is current"]

    _run(lambda _: _print_lines(make()))


@worker.command()
@output_option
def versions(output: Format) -> None:
    """List the versions of control workers, and which one is current."""
    from workers.connections import temporal_of
    from workers.versions import known_versions

    settings = _settings(WorkerSettings)
    found: list[tuple[str, str]] = []

    async def find() -> None:
        found.extend(await known_versions(settings, await temporal_of(settings, "worker-versions")))

    _run(lambda _: find())
    if output is Format.TABLE:
        print_table(("version", "status"), [list(each) for each in found])
    else:
        listed = [{"version": build_id, "status": status} for build_id, status in found]
        click.echo(json.dumps(listed, indent=2))


@click.group()
def executor() -> None:
    """Evaluate models and apply plans, beside the warehouse."""


@executor.command()
@click.option("--once", is_flag=True, help="Stop after a while without work.")
@click.option("--check", is_flag=True, help="Check server, Temporal and gateways, then stop.")
def run(once: bool, check: bool) -> None:
    """Evaluate what is due: serve the queue `run`."""
    _execute(ExecutorKind.RUN, once=once, check=check)


@executor.command()
@click.option("--once", is_flag=True, help="Stop after a while without work.")
@click.option("--check", is_flag=True, help="Check server, Temporal and gateways, then stop.")
def apply(once: bool, check: bool) -> None:
    """Apply plans: serve the queue `apply`."""
    _execute(ExecutorKind.APPLY, once=once, check=check)


def _execute(kind: ExecutorKind, *, once: bool, check: bool) -> None:
    from workers.executor import check_executor, serve_executor

    settings = _settings(ExecutorSettings)
    if check:
        _run(lambda _: _print_lines(check_executor(kind, settings)))
    else:
        _run(lambda stop: serve_executor(kind, settings, stop, once=once))


async def _print_lines(lines: Coroutine[Any, Any, list[str]]) -> None:
    for line in await lines:
        click.echo(line)


def _settings(kind: type[Settings]) -> Settings:
    try:
        settings = kind()
        _ = settings.credentials
    except ValidationError as error:
        first = error.errors()[0]
        name = "TCLOUD_" + "_".join(str(part).upper() for part in first["loc"])
        reason = "it is not set" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        raise click.UsageError(f"{name}: {reason}.") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    configure_logging(json=settings.log_json, secrets=[*settings.secrets, *secrets_of(), *_in_env_file(settings)])
    return settings


def _in_env_file(settings: WorkerSettings) -> Collection[str]:
    path = settings.env_file if isinstance(settings, ExecutorSettings) else None
    if path is None or not path.is_file():
        return []
    return secrets_of({name: value for name, value in dotenv_values(path).items() if value is not None})


def _run(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    from workers.connections import CannotStartError, NotAllowedError, NotReachableError, WrongSettingsError

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # What is imported by now lives as long as the process: every full collection would walk through it again.
        gc.collect()
        gc.freeze()
        with start_tracing(_service()):
            await serve(stop)

    try:
        asyncio.run(main())
    except WrongSettingsError as error:
        raise _WrongSettings(str(error)) from error
    except NotAllowedError as error:
        raise _NotAllowed(str(error)) from error
    except NotReachableError as error:
        raise _NotReachable(str(error)) from error
    except CannotStartError as error:
        raise _NotStarted(str(error)) from error


def _service() -> str:
    """What this process is called in traces: `tempomesh-worker`, `tempomesh-executor-run`, …."""
    return click.get_current_context().command_path.replace("tcloud", "tempomesh", 1).replace(" ", "-")


class _NotStarted(click.ClickException):
    exit_code = 1


class _WrongSettings(click.ClickException):
    exit_code = 2


class _NotAllowed(click.ClickException):
    exit_code = 3


class _NotReachable(click.ClickException):
    exit_code = 4
