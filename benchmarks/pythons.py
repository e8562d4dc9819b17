"""What Python environments cost: `uv run python -m benchmarks.pythons [--evaluations N]`.

One evaluation in a runner process of an environment beside the same one in this process; how long it takes until a new
environment has a warm runner; and how much of the disk ten environments take that differ by one library.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlmesh.core import constants

from benchmarks.commands import compile_installed
from envmanager.environments import runner_variables
from envmanager.interpreters import describe_interpreter
from envmanager.pool import Role
from envmanager.pools import RunnerLimits, RunnerPools
from envmanager.resolving import resolve
from envmanager.store import EnvironmentStore
from envmanager.uv import Uv
from tcloud.wire.pythons import PinnedPython, PythonRequest
from tests.integration.runner.pooled import Pooled, pooled_runners
from tests.integration.runner.projects import Project
from tests.integration.runner.sides import Driven
from tests.integration.runner.warehouses import DuckDBFile

LIBRARY = "humanize"
VERSIONS = ("4.9.0", "4.10.0", "4.11.0", "4.12.0", "4.12.1", "4.12.2", "4.12.3", "4.8.0", "4.7.0", "4.6.0")
MOST_MILLISECONDS = 5.0
MOST_SECONDS = 3.0
MOST_DISK = 1.3

MODEL = """
import pandas as pd
from sqlmesh import model

@model("bench.model", kind="FULL", columns={"id": "int"}, cron="@daily")
def execute(context, start, end, execution_time, **kwargs):
    return pd.DataFrame({"id": [1]})
"""


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pythons", description=__doc__)
    parser.add_argument("--evaluations", type=int, default=300, help="of each side (default: 300)")
    arguments = parser.parse_args()
    constants.MAX_FORK_WORKERS = 1
    compile_installed()
    table = Table(title="Python environments")
    for heading in ("what", "measured", "to reach", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")

    def add(what: str, measured: float, most: float, unit: str) -> None:
        verdict = "" if most == float("inf") else ("yes" if measured <= most else "NO")
        wanted = "" if most == float("inf") else f"{most:g}{unit}"
        table.add_row(what, f"{measured:.2f}{unit}", wanted, verdict)

    alone, here, there = warm_evaluations(arguments.evaluations)
    add("an evaluation in this process", here, float("inf"), " ms")
    add("the same in a runner of an environment", there, float("inf"), " ms")
    add("what the runner adds", there - here, MOST_MILLISECONDS, " ms")
    add("of it: a task that does nothing", alone, float("inf"), " ms")
    first, another, disk = asyncio.run(environments())
    add("the first environment of a machine, with a warm runner", first, float("inf"), " s")
    add("another environment, with a warm runner", another, MOST_SECONDS, " s")
    add("the disk that ten take, over that of one", disk, MOST_DISK, "")
    Console().print(table)


def warm_evaluations(count: int) -> tuple[float, float, float]:
    """Medians in milliseconds: a task that does nothing, an evaluation in this process, and the same in a runner."""
    with tempfile.TemporaryDirectory(prefix="tm-") as name:
        folder = Path(name)
        warehouse = DuckDBFile(folder / "warehouse.duckdb")
        variables = {
            "SQLMESH__DEFAULT_GATEWAY": "warehouse",
            "SQLMESH__GATEWAYS__WAREHOUSE__CONNECTION__TYPE": "duckdb",
            "SQLMESH__GATEWAYS__WAREHOUSE__CONNECTION__DATABASE": str(warehouse.path),
        }
        project = Project({"models/model.py": MODEL}, {"model_defaults": {"dialect": "duckdb", "start": "2025-01-01"}})
        project.write(folder, {"warehouse": warehouse.connection})
        with pooled_runners(variables, RunnerLimits(max_tasks=100_000)) as runners:
            python = runners.run(pinned(runners.store.uv, VERSIONS[0]))
            side = Pooled(folder, {"warehouse": warehouse}, runners=runners, python=python)
            if error := side.plan("prod", execution_time="2025-01-02 12:00:00"):
                raise error
            (evaluated,) = side.evaluated
            arguments = {"execution_id": evaluated.execution["execution_id"], "unit": 0, "recheck": False}
            same = Driven(folder, {"warehouse": warehouse}, _plans=side._plans)
            same.call("evaluate_unit", **arguments, execution=evaluated.execution)
            here, there = [], []
            # In turns: whatever else the machine does concerns both.
            for _ in range(count):
                here.append(_seconds(lambda: same.call("evaluate_unit", **arguments, execution=None)))
                there.append(_seconds(lambda: side.call("evaluate_unit", **arguments, execution=None)))
            alone = [_seconds(lambda: side.call("ping")) for _ in range(count)]
        return median(alone) * 1000, median(here) * 1000, median(there) * 1000


async def environments() -> tuple[float, float, float]:
    """Seconds until the first environment of a machine has a warm runner, until others have; and the disk of all."""
    with tempfile.TemporaryDirectory(prefix="tm-", dir=Path.home() / ".cache") as name:
        store = EnvironmentStore(Path(name) / "store", os.environ)
        sets = [await pinned(store.uv, wanted) for wanted in VERSIONS]
        scratch = Path(name) / "s"
        scratch.mkdir()
        pools = RunnerPools(store.hold, runner_variables(dict(os.environ)), scratch, RunnerLimits())
        try:
            first = await _ready(pools, sets[0])
            one = store.disk_use
            others = [await _ready(pools, other) for other in sets[1:]]
        finally:
            await pools.stop()
        ratio = store.disk_use / one
        await asyncio.to_thread(store.prune, timedelta(0))
        return first, median(others), ratio


async def pinned(uv: Uv, wanted: str) -> PinnedPython:
    """The set of an environment that asks for a version of the library."""
    here = await describe_interpreter(Path(getattr(sys, "_base_executable", sys.executable)))
    request = PythonRequest(
        requirements={LIBRARY: wanted},
        sqlmesh_version=version("sqlmesh"),
        drivers=[],
        python_version=here.minor,
        platform=here.platform,
    )
    return await resolve(uv, request, here)


async def _ready(pools: RunnerPools, python: PinnedPython) -> float:
    async def no_state(method: str, _: bytes) -> bytes:
        raise AssertionError(method)

    started = time.perf_counter()
    async with pools.runner(Role.EVALUATE, python) as runner:
        await runner.call("ping", {}, no_state)
    return time.perf_counter() - started


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
