"""What a large run costs: `uv run python -m benchmarks.size [--models 200 5000] [--days 6] [--executors]`.

Prints, for each number of models, the time per unit of one run in which every model has some days to catch up on,
what the largest processes took of memory, and what Temporal's limits say of it: the longest history and its largest
event. With `--executors` it measures instead how much faster a second executor makes evaluations that wait for the
warehouse.
"""

import argparse
import asyncio
import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.commands import PeakMemory, compile_installed, peak_memory
from benchmarks.projects import Shape, cloud_config, write_config, write_models
from benchmarks.servers import servers
from tcloud.wire.runs import RunOptions
from tcloud.wire.statuses import Status
from tests.fixtures.processes import run_executor
from tests.fixtures.stack import RunningStack

POLL_SECONDS = 0.5
SLEEPERS = 160
SLEEP_SECONDS = 1
SLOTS = 8
"""Evaluations at a time of one executor; the gateway allows twice as many."""

BATCHED = "INCREMENTAL_BY_TIME_RANGE (time_column day, batch_size 1)"
SLEEPER = "MODEL (name bench.s%03d, kind FULL);\n\nSELECT CAST(pg_sleep(%d) AS TEXT) AS slept\n"


@dataclass(frozen=True)
class Size:
    """What one run came to."""

    models: int
    units: int
    seconds: float
    memory: PeakMemory
    histories: int
    longest: int
    """Events of the longest history."""
    largest: int
    """Bytes of the largest event, payloads included."""


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.size", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[200, 5000], help="sizes (default: 200 5000)")
    parser.add_argument("--days", type=int, default=6, help="units of each model (default: 6)")
    parser.add_argument("--executors", action="store_true", help="one executor against two")
    arguments = parser.parse_args()
    compile_installed()
    console = Console(width=120)
    if arguments.executors:
        console.print(_executors_table(_with_executors(1), _with_executors(2)))
    else:
        console.print(_sizes_table([_sized(models, arguments.days) for models in arguments.models]))


def _sized(models: int, days: int) -> Size:
    today = datetime.now(UTC).date()
    start = today - timedelta(days=days + 1)
    with servers() as up:
        project = up.folder / "project"
        write_models(project, Shape.LAYERS, models, kind=BATCHED, start=start.isoformat(), day=True)
        write_config(project, cloud_config())
        _plan(up.stack, project, start + timedelta(days=1))
        with peak_memory(up.stack.process.pid) as memory:
            run_id, seconds, units = _run(up.stack, today - timedelta(days=1))
        histories = asyncio.run(_histories(up.stack, f"run/{run_id}"))
        return Size(models, units, seconds, memory, len(histories), *(max(n) for n in zip(*histories, strict=True)))


def _with_executors(count: int) -> float:
    os.environ["TCLOUD_EXECUTOR_CONCURRENCY"] = str(SLOTS)
    today = datetime.now(UTC).date()
    with servers(concurrent_tasks=2 * SLOTS) as up:
        project = up.folder / "project"
        (project / "models").mkdir(parents=True)
        for number in range(SLEEPERS):
            (project / "models" / f"s{number:03d}.sql").write_text(SLEEPER % (number, SLEEP_SECONDS))
        write_config(project, cloud_config())
        _plan(up.stack, project, today - timedelta(days=2))
        with run_executor(up.stack, up.folder / "second.log", {}) if count > 1 else nullcontext():
            _run(up.stack, today - timedelta(days=2))
            return _run(up.stack, today - timedelta(days=1))[1]


def _plan(stack: RunningStack, project: Path, at: date) -> None:
    options = ("plan", "prod", "--auto-apply", "--no-prompts")
    planned = stack.tcloud(
        *("sqlmesh", "-p", str(project), *options, "--execution-time", f"{at} 00:00:01"), timeout=1800
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr


def _run(stack: RunningStack, end: date) -> tuple[str, float, int]:
    with stack.api() as api:
        asked_at = time.time()
        run_id = api.start_run(RunOptions(environment="prod", end=end.isoformat())).run_id
        while (run := next(r for r in api.runs() if r.run_id == run_id)).end_at is None:
            time.sleep(POLL_SECONDS)
        evaluations = api.run_evaluations(run_id)
    units = sum(evaluation.status is Status.SUCCESS for evaluation in evaluations)
    assert run.status is Status.SUCCESS, run
    return run_id, run.end_at.timestamp() - asked_at, units


async def _histories(stack: RunningStack, workflow_id: str) -> list[tuple[int, int]]:
    client = await stack.temporal()
    found = []
    async for execution in client.list_workflows(f"WorkflowId = '{workflow_id}'"):
        handle = client.get_workflow_handle(workflow_id, run_id=execution.run_id)
        sizes = [event.ByteSize() async for event in handle.fetch_history_events()]
        found.append((len(sizes), max(sizes)))
    return found


def _sizes_table(sizes: list[Size]) -> Table:
    table = Table(title="one run, models in layers of 20")
    headings = ("models", "units", "time", "per unit", "ratio", "worker", "server", "histories", "events", "largest")
    for heading in headings:
        table.add_column(heading, justify="right")
    first = sizes[0].seconds / sizes[0].units
    for size in sizes:
        each = size.seconds / size.units
        table.add_row(
            *(f"{size.models:,}", f"{size.units:,}", f"{size.seconds:.1f} s", f"{each * 1000:.1f} ms"),
            *(
                f"{each / first:.2f}",
                _megabytes(size.memory, "tcloud worker"),
                _megabytes(size.memory, "tcloud server"),
            ),
            *(str(size.histories), f"{size.longest:,}", f"{size.largest / 1000:.0f} kB"),
        )
    return table


def _executors_table(one: float, two: float) -> Table:
    table = Table(title=f"{SLEEPERS} evaluations that wait {SLEEP_SECONDS} s for the warehouse, {SLOTS} slots each")
    for heading in ("one executor", "two", "ratio"):
        table.add_column(heading, justify="right")
    table.add_row(f"{one:.1f} s", f"{two:.1f} s", f"{two / one:.2f}")
    return table


def _megabytes(memory: PeakMemory, command: str) -> str:
    size = max((size for name, size in memory.by_process.items() if name.endswith(command)), default=0)
    return f"{size / 2**20:.0f} MB"


if __name__ == "__main__":
    main()
