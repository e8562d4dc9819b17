"""SQLMesh's state on a connection whose transaction belongs to somebody else.

SQLMesh manages its own transactions. Here it is given a connection whose commit and rollback do nothing, so that
what it writes is committed, or not, together with the records that belong to it. Its objects take several
milliseconds to build, more than most of what they are built for, so they are kept and given the next connection.
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from psycopg2.extras import execute_values
from sqlglot import exp
from sqlmesh.core.engine_adapter.postgres import PostgresEngineAdapter
from sqlmesh.core.snapshot import Snapshot, SnapshotId
from sqlmesh.core.snapshot.cache import SnapshotCache
from sqlmesh.core.state_sync import EngineAdapterStateSync

from server.projects import Project

__all__ = ["BorrowedState", "StatePool"]

_ROWS_AT_ONCE = 500


class StatePool:
    """States that are not in use, for each project.

    Args:
        cache_dir: A folder for SQLMesh, which leaves nothing in it.
    """

    def __init__(self, cache_dir: Path):
        self._cache_dir = cache_dir
        # Lists append and pop atomically; a state that two threads could get would need a lock.
        self._idle: defaultdict[Project, list[BorrowedState]] = defaultdict(list)

    def borrow(self, project: Project) -> "BorrowedState":
        """A state that nobody else uses until it is given back."""
        try:
            return self._idle[project].pop()
        except IndexError:
            return BorrowedState(project, self._cache_dir)

    def give_back(self, project: Project, state: "BorrowedState") -> None:
        """Keeps a state for the next one who needs it."""
        state.take_back()
        self._idle[project].append(state)


class BorrowedState:
    """SQLMesh's state of a project on whichever connection it is lent.

    Args:
        project: Whose state it is.
        cache_dir: A folder for SQLMesh, which leaves nothing in it.
    """

    def __init__(self, project: Project, cache_dir: Path):
        self._connection: Any = None
        self._adapter = _StateAdapter(self._borrowed)  # type: ignore[abstract]
        self.state = EngineAdapterStateSync(self._adapter, schema=project.state_schema, cache_dir=cache_dir)
        self.state.snapshot_state._snapshot_cache = _NoSnapshotCache(cache_dir)

    def lend(self, connection: Any) -> None:
        """Lets SQLMesh work on a DBAPI connection from now on."""
        self._connection = connection

    def take_back(self) -> None:
        """Lets SQLMesh forget the connection and its cursor."""
        self._adapter.close()
        self._connection = None

    def _borrowed(self) -> "_BorrowedConnection":
        return _BorrowedConnection(self._connection)


class _StateAdapter(PostgresEngineAdapter):
    """SQLMesh's adapter, but rows are sent as parameters: as an expression tree each takes milliseconds to render."""

    def insert_append(
        self,
        table_name: str | exp.Table,
        query_or_df: pd.DataFrame | exp.Query,
        target_columns_to_types: dict[str, exp.DataType] | None = None,
        track_rows_processed: bool = True,
        source_columns: list[str] | None = None,
    ) -> None:
        if not isinstance(query_or_df, pd.DataFrame):
            super().insert_append(
                table_name, query_or_df, target_columns_to_types, track_rows_processed, source_columns
            )
            return
        table = exp.to_table(table_name).sql(self.dialect, identify=True)
        columns = ", ".join(f'"{column}"' for column in query_or_df.columns)
        rows = zip(*(query_or_df[column].tolist() for column in query_or_df.columns), strict=True)
        execute_values(
            self.cursor,
            f"INSERT INTO {table} ({columns}) VALUES %s",  # noqa: S608 - names are SQLMesh's own
            [[None if _is_nan(value) else value for value in row] for row in rows],
            page_size=_ROWS_AT_ONCE,
        )


def _is_nan(value: Any) -> bool:
    """Whether pandas made a missing number of a value, which PostgreSQL would take for one."""
    return isinstance(value, float) and isnan(value)


class _BorrowedConnection:
    """A DBAPI connection whose transaction belongs to somebody else."""

    def __init__(self, connection: Any):
        self._connection = connection

    def cursor(self) -> Any:
        return self._connection.cursor()

    def commit(self) -> None:
        """The lender commits."""

    def rollback(self) -> None:
        """The lender rolls back, as the exception that caused this reaches it."""

    def close(self) -> None:
        """The lender closes."""


class _NoSnapshotCache(SnapshotCache):
    """SQLMesh keeps what it parsed, and renders and optimizes every model for that, which a server never needs."""

    def get_or_load(
        self, snapshot_ids: set[SnapshotId], loader: Callable[[set[SnapshotId]], Collection[Snapshot]]
    ) -> tuple[dict[SnapshotId, Snapshot], set[SnapshotId]]:
        loaded = loader(snapshot_ids) if snapshot_ids else ()
        return {snapshot.snapshot_id: snapshot for snapshot in loaded}, set()

    def put(self, snapshot: Snapshot) -> None:
        """Keeps nothing."""

    def clear(self) -> None:
        """There is nothing to forget."""
