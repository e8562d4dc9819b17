"""The servers of a measurement: one PostgreSQL with both warehouses, and a whole Tempomesh by `tcloud dev`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.projects import builtin_config, write_config
from stack.postgres import Postgres
from tests.fixtures.children import running
from tests.fixtures.stack import RunningStack, running_stack

__all__ = ["Servers", "servers"]

CONCURRENT_TASKS = 8


@dataclass(frozen=True)
class Servers:
    """What is up."""

    folder: Path
    """For projects; goes away with the servers."""
    builtin_warehouse: dict[str, Any]
    """SQLMesh's connection to the warehouse of the built-in side."""
    builtin_state: dict[str, Any]
    """SQLMesh's connection to the state of the built-in side."""
    stack: RunningStack


@contextmanager
def servers(concurrent_tasks: int = CONCURRENT_TASKS) -> Iterator[Servers]:
    """Starts everything, with empty databases, and stops it; the warehouses allow so many evaluations at a time."""
    # A short path: the address of PostgreSQL's socket has to fit.
    with TemporaryDirectory(prefix="tm") as name:
        folder = Path(name)
        postgres = Postgres(folder / "postgres", folder / "postgres.log")
        postgres.initialize()
        with running(postgres.spec()):
            connections = []
            for database in ("builtin", "state", "tempomesh"):
                postgres.create_database(database)
                connections.append({**postgres.connection(database), "concurrent_tasks": concurrent_tasks})
            builtin, state, tempomesh = connections
            executors = folder / "executors"
            write_config(executors, builtin_config({"connection": tempomesh}))
            with running_stack(folder / "stack", "--project", str(executors)) as stack:
                yield Servers(folder, builtin, state, stack)
