"""The two ways a project can go: through SQLMesh's built-in scheduler, and through Tempomesh."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
from sqlmesh.core.config import PostgresConnectionConfig
from sqlmesh.core.state_sync import EngineAdapterStateSync, StateSync
from sqlmesh.core.state_sync.export_import import export_state

from benchmarks.commands import sqlmesh_command
from stack.children import clean_environment
from stack.postgres import WAREHOUSE_DATABASE, Postgres
from stack.processes import tcloud_command
from tempomesh_runner.state import RemoteStateSync
from tests.equality.databases import recreate
from tests.equality.outcome import Outcome, read_relations, read_state
from tests.fixtures.stack import RunningStack

__all__ = ["Completed", "Way", "builtin_gateway", "builtin_way", "tempomesh_way"]

STATE_DATABASE = "state"

BATCH = re.compile(r"^\[\d+/\d+\] .*?\]", re.MULTILINE)
"""A line of "Executing model batches", up to how long it took."""
REPORT = re.compile(r"^\*\*(Skipped|Failed) models\*\*.*", re.MULTILINE | re.DOTALL)
"""What SQLMesh says at the end of work that failed."""


@dataclass(frozen=True)
class Completed:
    """A finished command: how it exited, and what a user saw."""

    exit_code: int
    output: str

    @property
    def batches(self) -> list[str]:
        """The batches that were evaluated, in no particular order."""
        return sorted(re.sub(" +", " ", batch) for batch in BATCH.findall(self.output))

    @property
    def report(self) -> list[str]:
        """The lines about what failed and what was skipped, to the end of the output."""
        found = REPORT.search(self.output)
        return [line.strip() for line in found[0].splitlines() if line.strip()] if found else []


@dataclass(frozen=True)
class Way:
    """One project on its way through one scheduler."""

    project: Path
    command: list[str]
    """What is typed in place of `sqlmesh`."""
    environment: dict[str, str]
    warehouse: str
    """Address of the database that holds the tables."""
    open_state: Callable[[Path], AbstractContextManager[StateSync]]
    """The project's state; given an empty folder, so that nothing is answered from a cache."""

    def plan(self, environment: str, *, at: str) -> Completed:
        """Plans and applies, as if it were `at`."""
        return self._execute(*self.command, "plan", environment, "--auto-apply", "--no-prompts", "--execution-time", at)

    def run(self, *, at: str) -> Completed:
        """Runs what is due in `prod`, as if it were `at`."""
        return self._execute(sys.executable, str(Path(__file__).with_name("run_at.py")), str(self.project), at)

    def outcome(self) -> Outcome:
        """State and warehouse as they are now."""
        with TemporaryDirectory() as folder:
            export = Path(folder) / "state.json"
            with self.open_state(Path(folder) / "cache") as state:
                export_state(state_sync=state, output_file=export)
            exported = read_state(export)
        with closing(psycopg2.connect(self.warehouse)) as connection:
            return Outcome(exported, read_relations(connection))

    def _execute(self, *command: str) -> Completed:
        result = subprocess.run(
            command,
            cwd=self.project,
            env={**self.environment, "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Completed(result.returncode, result.stdout)


def builtin_way(project: Path, server: Postgres) -> Way:
    """A project for SQLMesh's built-in scheduler, with empty databases (see `builtin_gateway`)."""
    for database in (WAREHOUSE_DATABASE, STATE_DATABASE):
        recreate(server, database)

    def open_state(cache: Path) -> AbstractContextManager[StateSync]:
        connection = PostgresConnectionConfig(**server.connection(STATE_DATABASE))
        return closing(EngineAdapterStateSync(connection.create_engine_adapter(), schema="sqlmesh", cache_dir=cache))

    return Way(project, [sqlmesh_command()], clean_environment(), server.dsn(WAREHOUSE_DATABASE), open_state)


def builtin_gateway(server: Postgres) -> dict[str, Any]:
    """The gateway of a built-in project; warehouse and state are databases of one server.

    The warehouse has the same name as the one of Tempomesh: it is the default catalog, and so a part of fingerprints.
    """
    warehouse, state = (server.connection(name) for name in (WAREHOUSE_DATABASE, STATE_DATABASE))
    return {"connection": warehouse, "state_connection": state}


def tempomesh_way(project: Path, stack: RunningStack) -> Way:
    """A project for Tempomesh, on a stack of its own."""
    environment = {**clean_environment(), **stack.client_environment, "TCLOUD_HOME": str(project.with_suffix(".home"))}

    @contextmanager
    def open_state(cache: Path) -> Iterator[StateSync]:
        with stack.api() as api:
            yield RemoteStateSync(api.state)

    return Way(project, [*tcloud_command(), "sqlmesh"], environment, stack.warehouse_dsn, open_state)
