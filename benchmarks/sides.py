"""The two sides of the comparison: each plans a project, and runs it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.cases import Case
from benchmarks.commands import PeakMemory, sqlmesh_command, timed
from benchmarks.projects import builtin_config, cloud_config, write_config, write_models
from benchmarks.runs import RunClient
from benchmarks.servers import Servers
from stack.children import clean_environment
from stack.processes import tcloud_command

__all__ = ["Builtin", "Measurement", "Side", "Tempomesh"]

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
        """Runs what is due up to the end of a day, which is every model."""


class Builtin:
    """SQLMesh alone.

    Args:
        case: What is measured.
        directory: An empty folder for the project.
        servers: Where its warehouse and its state are.
    """

    name = "built-in"

    def __init__(self, case: Case, directory: Path, servers: Servers):
        self._case = case
        self._directory = directory
        write_models(directory, case.shape, case.models)
        gateway = {"connection": servers.builtin_warehouse, "state_connection": servers.builtin_state}
        write_config(directory, builtin_config(gateway))

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
            [sqlmesh_command(), *arguments], cwd=self._directory, environment=clean_environment()
        )
        return Measurement(seconds, memory), output


class Tempomesh:
    """Tempomesh, on a stack that is already up.

    Args:
        case: What is measured.
        directory: An empty folder for the project.
        servers: The stack, without any environment yet.
    """

    name = "Tempomesh"

    def __init__(self, case: Case, directory: Path, servers: Servers):
        self._case = case
        self._directory = directory
        self._stack = servers.stack
        self._runs = RunClient(servers.stack)
        write_models(directory, case.shape, case.models)
        write_config(directory, cloud_config())

    def plan(self, *options: str) -> Measurement:
        home = str(self._directory.with_suffix(".home"))
        seconds, memory, _ = timed(
            [*tcloud_command(), "sqlmesh", *PLAN, *options],
            cwd=self._directory,
            environment={**clean_environment(), **self._stack.client_environment, "TCLOUD_HOME": home},
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
