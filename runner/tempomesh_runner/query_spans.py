"""Notes when a task had which kind of statement executed: what a trace shows of a query, and nothing of its text."""

import re
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from sqlmesh.core.engine_adapter.base import EngineAdapter

__all__ = ["noted_queries"]

_VERB = re.compile(r"(?:\s|\(|/\*.*?\*/)*(\w+)", re.DOTALL)
"""SQLMesh puts a comment before its statements, which names the plan."""

_MOST = 200
"""Of one task: a trace is for looking at."""


@contextmanager
def noted_queries() -> Iterator[list[dict[str, t.Any]]]:
    """While the body runs, notes the statements that SQLMesh executes; each with `name`, `start_ns`, `end_ns` and
    `attributes`."""
    noted: list[dict[str, t.Any]] = []
    execute = EngineAdapter._execute

    def watched(self: EngineAdapter, sql: str, *args: t.Any, **kwargs: t.Any) -> None:
        start = time.time_ns()
        try:
            execute(self, sql, *args, **kwargs)
        finally:
            if len(noted) < _MOST:
                found = _VERB.match(sql)
                verb = found[1].upper() if found else "OTHER"
                attributes = {"db.system.name": self.dialect, "db.operation.name": verb}
                noted.append(
                    {"name": f"query {verb}", "start_ns": start, "end_ns": time.time_ns(), "attributes": attributes}
                )

    setattr(EngineAdapter, "_execute", watched)  # noqa: B010 (SQLMesh has no hook for it)
    try:
        yield noted
    finally:
        setattr(EngineAdapter, "_execute", execute)  # noqa: B010 (as above)
