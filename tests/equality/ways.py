"""The two ways a project can go: through SQLMesh's built-in scheduler, and through Tempomesh."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.postgres import PostgresServer
from benchmarks.projects import builtin_config, postgres_connection, write_config
from tests.equality.outcome import Outcome, read_relations, read_state

__all__ = ["Completed", "Way", "builtin_way"]

WAREHOUSE = "warehouse"
"""The same name both ways: it is the default catalog, and so a part of every fingerprint."""
STATE = "state"
MODEL_DEFAULTS = {"dialect": "postgres", "start": "2025-01-01"}


@dataclass(frozen=True)
class Completed:
    """A finished command: how it exited, and what a user saw."""

    exit_code: int
    output: str


@dataclass(frozen=True)
class Way:
    """One project on its way through one scheduler."""

    project: Path
    command: list[str]
    """What is typed in place of `sqlmesh`."""
    warehouse: dict[str, Any]
    """Where the tables are, as arguments of `psycopg2.connect`."""
    environment: dict[str, str] = field(default_factory=dict)

    def plan(self, environment: str, *, at: str, options: tuple[str, ...] = ()) -> Completed:
        """Plans and applies, as if it were `at`."""
        clock = ("--execution-time", at)
        return self._execute([*self.command, "plan", environment, "--auto-apply", "--no-prompts", *clock, *options])

    def run(self, *, at: str) -> Completed:
        """Runs what is due in `prod`, as if it were `at`."""
        return self._execute([sys.executable, str(Path(__file__).with_name("run_at.py")), str(self.project), at])

    def outcome(self) -> Outcome:
        """State and warehouse as they are now."""
        export = self.project / "state.json"
        completed = self._execute([*self.command, "state", "export", "-o", str(export), "--no-confirm"])
        assert completed.exit_code == 0, completed.output
        return Outcome(read_state(export), read_relations(**self.warehouse))

    def _execute(self, command: list[str]) -> Completed:
        environment = {**os.environ, **self.environment, "COLUMNS": "200"}
        result = subprocess.run(
            command, cwd=self.project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return Completed(result.returncode, result.stdout)


def builtin_way(project: Path, postgres: PostgresServer) -> Way:
    """A project with SQLMesh's built-in scheduler; warehouse and state are databases of one server.

    Args:
        project: The project's folder, whose configuration is written here.
        postgres: A server on which the databases are made anew.
    """
    postgres.recreate(WAREHOUSE)
    postgres.recreate(STATE)
    connections = [postgres_connection(postgres.host, postgres.port, name) for name in (WAREHOUSE, STATE)]
    write_config(project, {**builtin_config(*connections), "model_defaults": MODEL_DEFAULTS})
    return Way(
        project=project,
        command=[str(Path(sys.executable).with_name("sqlmesh"))],
        warehouse={"host": postgres.host, "port": postgres.port, "user": "postgres", "dbname": WAREHOUSE},
    )
