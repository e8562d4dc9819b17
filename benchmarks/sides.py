"""The two sides of the comparison: each plans a project, and runs it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.cases import Case
from benchmarks.databases import recreate
from benchmarks.processes import PeakMemory, timed
from benchmarks.projects import builtin_config, cloud_config, write_config, write_models
from benchmarks.running_stack import RunningStack, script
from benchmarks.runs import RunClient
from stack.children import clean_environment

__all__ = ["Builtin", "Measurement", "Side", "Tempomesh"]

CONCURRENT_TASKS = 8
PLAN = ("plan", "prod", "--auto-apply", "--no-prompts")


@dataclass(frozen=True)
class Measurement:
    """One round of one side."""

    seconds: float
    memory: PeakMemory = field(default_factory=PeakMemory)
    detail: str = ""
    """Where the time went, as far as it is known."""


class Side(Protocol):
    """One scheduler with one project."""

    name: str

    def plan(self, *options: str) -> Measurement:
        """Makes and applies the first plan of `prod`."""

    def tick(self) -> Measurement:
        """Runs with nothing due."""

    def run(self, end: str) -> Measurement:
        """Runs what is due before `end`, a date, which is every model."""


class Builtin:
    """SQLMesh alone; its databases are on the stack's PostgreSQL server, beside Tempomesh's.

    Args:
        case: What is measured.
        directory: An empty folder for the project.
        stack: Whose PostgreSQL server to use.
    """

    name = "built-in"

    def __init__(self, case: Case, directory: Path, stack: RunningStack):
        self._case = case
        self._directory = directory
        connections = []
        for database in ("benchmark_warehouse", "benchmark_state"):
            recreate(stack.postgres, database)
            connections.append({**stack.postgres.connection(database), "concurrent_tasks": CONCURRENT_TASKS})
        write_models(directory, case.shape, case.models)
        write_config(directory, builtin_config({"connection": connections[0], "state_connection": connections[1]}))

    def plan(self, *options: str) -> Measurement:
        return self._timed(*PLAN, *options)[0]

    def tick(self) -> Measurement:
        measurement, output = self._timed("run")
        assert "No models are ready to run" in output, output
        return measurement

    def run(self, end: str) -> Measurement:
        measurement, output = self._timed("run", "--end", end)
        assert f"{self._case.models}/{self._case.models}" in output, output
        return measurement

    def _timed(self, *arguments: str) -> tuple[Measurement, str]:
        seconds, memory, output = timed(
            [script("sqlmesh"), *arguments], cwd=self._directory, environment=clean_environment()
        )
        return Measurement(seconds, memory), output


class Tempomesh:
    """Tempomesh, on a stack that is already up.

    Args:
        case: What is measured.
        directory: An empty folder for the project.
        stack: The stack, without any environment yet.
    """

    name = "Tempomesh"

    def __init__(self, case: Case, directory: Path, stack: RunningStack):
        self._case = case
        self._directory = directory
        self._stack = stack
        self._runs = RunClient(stack)
        write_models(directory, case.shape, case.models)
        write_config(directory, cloud_config())

    def plan(self, *options: str) -> Measurement:
        home = self._directory.with_name(f"{self._directory.name}-home")
        seconds, memory, _ = timed(
            [script("tcloud"), "sqlmesh", *PLAN, *options],
            cwd=self._directory,
            environment={**self._stack.environment, "TCLOUD_HOME": str(home)},
            watched=[self._stack.process.pid],
        )
        return Measurement(seconds, memory)

    def tick(self) -> Measurement:
        run = self._runs.trigger("prod", "@daily")
        return Measurement(run.seconds, detail=run.detail)

    def run(self, end: str) -> Measurement:
        run = self._runs.start("prod", end=end)
        assert run.evaluations == self._case.models, f"{run.evaluations} models evaluated: {run.detail}"
        return Measurement(run.seconds, detail=run.detail)
