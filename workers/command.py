"""`tcloud worker` and `tcloud executor`."""

import asyncio
import gc
import signal
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

import click
from dotenv import dotenv_values
from pydantic import ValidationError

from tcloud.wire.executors import ExecutorKind
from telemetry.logs import configure_logging, secrets_of
from workers.settings import ExecutorSettings, WorkerSettings

__all__ = ["executor", "worker"]

Settings = TypeVar("Settings", bound=WorkerSettings)


@click.command()
def worker() -> None:
    """Serve the control queue: workflows, records and schedules; set up by TCLOUD_… variables."""
    from workers.control import serve_control

    settings = _settings(WorkerSettings)
    _run(lambda stop: serve_control(settings, stop))


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


class _NotStarted(click.ClickException):
    exit_code = 1


class _WrongSettings(click.ClickException):
    exit_code = 2


class _NotAllowed(click.ClickException):
    exit_code = 3


class _NotReachable(click.ClickException):
    exit_code = 4
