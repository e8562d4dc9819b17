"""The steps of `tcloud quickstart`: start, apply, see the schedules, wait for the first scheduled run, see its rows."""

import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import psycopg2

from stack.children import clean_environment
from stack.embedded import EmbeddedStack
from stack.errors import ChildFailedError
from stack.guard import MARK
from stack.processes import tcloud_command
from stack.screen import Screen
from tcloud.api.client import Api
from tcloud.wire.environments import Schedule
from tcloud.wire.runs import Run, RunTrigger
from tcloud.wire.statuses import Status

__all__ = ["Tour"]

EXAMPLE = "bikes"
ENVIRONMENT = "prod"
SHOWN_QUERY = "SELECT station_id, name, bikes, free_docks, shown_at FROM bikes.availability ORDER BY station_id LIMIT 5"
POLL_SECONDS = 0.25
WAIT_FOR_SCHEDULES = timedelta(seconds=30)
WAIT_FOR_RUN = timedelta(seconds=150)
"""The minute, and what the first run may take on a slow machine."""


class Tour:
    """Goes once through the main job; everything that it shows came out of the real parts."""

    def __init__(self, stack: EmbeddedStack, screen: Screen) -> None:
        self._stack = stack
        self._screen = screen
        self._project = stack.data.root / EXAMPLE
        self._api = Api(stack.addresses.project, stack.client_environment["TCLOUD_CLIENT_SECRET"])

    async def run(self, *, keep: bool) -> None:
        """All the steps, and then the stop, unless everything is to be kept until a signal comes.

        Raises:
            StackError: if a step fails.
        """
        with self._api:
            await self._go(keep=keep)

    async def _go(self, *, keep: bool) -> None:
        screen = self._screen
        async with screen.moving(), self._stack as stack:
            screen.headline("Starting Temporal, PostgreSQL, the server, the worker and two executors")
            with screen.activity("Starting"):
                await stack.start()
            started = datetime.now(UTC)
            await self._apply()
            await self._show_schedules()
            await self._show_first_run(started)
            await self._show_rows()
            self._say_what_next(is_kept=keep)
            if keep:
                with screen.activity("Everything stays up until Ctrl-C"):
                    await asyncio.Event().wait()

    async def _apply(self) -> None:
        if not self._project.exists():
            shutil.copytree(_find_example(), self._project)
        arguments = ["sqlmesh", "-p", str(self._project), "plan", ENVIRONMENT, "--auto-apply", "--no-prompts"]
        self._screen.headline(f"$ tcloud {shlex.join(arguments)}")
        with self._screen.activity("Planning, and applying through Temporal"):
            code = await self._run_tcloud(arguments)
        if code:
            log = self._stack.data.log("executor-apply")
            raise ChildFailedError(f"The plan was not applied: tcloud ended with exit code {code}; see {log}.", log)

    async def _run_tcloud(self, arguments: list[str]) -> int:
        """Runs `tcloud` as its user would, shows what it prints, and returns its exit code."""
        process = await asyncio.create_subprocess_exec(
            *tcloud_command(),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                **clean_environment(),
                **self._stack.client_environment,
                "TCLOUD_HOME": str(self._stack.data.client_home),
                "COLUMNS": str(self._screen.width),
                "PYTHONUNBUFFERED": "1",
                MARK: self._stack.supervisor.mark,
            },
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 (it was given a pipe)
        try:
            async for line in process.stdout:
                self._screen.output(line.decode(errors="replace").rstrip())
            return await process.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _show_schedules(self) -> None:
        self._screen.headline("Each cron is a Temporal schedule now")
        with self._screen.activity("Reading the schedules"):
            async with self._deadline(WAIT_FOR_SCHEDULES, "No schedule was created", "worker"):
                self._screen.schedules(await self._schedules())

    async def _schedules(self) -> list[Schedule]:
        while True:
            if schedules := await asyncio.to_thread(self._api.schedules):
                return schedules
            await asyncio.sleep(POLL_SECONDS)

    async def _show_first_run(self, since: datetime) -> None:
        self._screen.headline("The first scheduled run")
        with self._screen.activity("Waiting for the minute") as activity:
            async with self._deadline(WAIT_FOR_RUN, "No scheduled run has finished", "executor-run"):
                while not (run := await self._finished_run(since)):
                    left = 60 - datetime.now(UTC).second
                    activity.text = f"Waiting for the minute, {left} s to go"
                    await asyncio.sleep(POLL_SECONDS)
        self._screen.line(f"{run.run_id}: {run.status.value}")
        self._screen.evaluations(run.evaluations or [])
        if run.status is not Status.SUCCESS:
            log = self._stack.data.log("executor-run")
            raise ChildFailedError(f"The run {run.run_id} ended as {run.status.value}: {run.error_message}", log)

    async def _finished_run(self, since: datetime) -> Run | None:
        for run in await asyncio.to_thread(self._api.runs, ENVIRONMENT, 20):
            if run.trigger is RunTrigger.SCHEDULE and run.start_at >= since and run.status.is_final:
                return await asyncio.to_thread(self._api.run, run.run_id)
        return None

    async def _show_rows(self) -> None:
        self._screen.headline(f"warehouse=> {SHOWN_QUERY};")

        def query() -> tuple[list[str], list[tuple[object, ...]]]:
            with closing(psycopg2.connect(self._stack.warehouse_dsn)) as connection, connection.cursor() as cursor:
                cursor.execute(SHOWN_QUERY)
                return [column.name for column in cursor.description or ()], cursor.fetchall()

        columns, rows = await asyncio.to_thread(query)
        self._screen.rows(columns, rows)

    def _say_what_next(self, *, is_kept: bool) -> None:
        stack, say = self._stack, self._screen.line
        self._screen.headline("What next")
        if is_kept:
            say(f"Temporal's Web UI   {stack.addresses.temporal_ui}/namespaces/{stack.addresses.namespace}/workflows")
            say(f"In another terminal set -a; . {stack.data.client_env}; set +a")
            say("                    tcloud runs list")
            say(f"                    tcloud sqlmesh -p {self._project} plan dev")
        else:
            say(f"Temporal's Web UI   {stack.addresses.temporal_ui} (while the stack is up: tcloud quickstart --keep)")
            say("Your own project    tcloud dev, and `scheduler: {type: cloud}` in its config.yaml")
            say("                    docs/quickstart.md has the rest")

    @asynccontextmanager
    async def _deadline(self, limit: timedelta, what: str, process: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(limit.total_seconds()):
                yield
        except TimeoutError as error:
            log = self._stack.data.log(process)
            raise ChildFailedError(f"{what} in {limit.total_seconds():.0f} s; see {log}.", log) from error


def _find_example() -> Path:
    checkout = Path(__file__).resolve().parent.parent / "examples" / EXAMPLE
    return checkout if checkout.is_dir() else Path(str(files("stack") / "examples" / EXAMPLE))
