"""One PostgreSQL connection on which the server's records and SQLMesh's state change in one transaction.

SQLMesh manages its own transactions. Here it is given a connection whose commit and rollback do nothing, so that
what it writes is committed, or not, together with the records that belong to it.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlmesh.core.engine_adapter.postgres import PostgresEngineAdapter
from sqlmesh.core.snapshot import Snapshot, SnapshotId
from sqlmesh.core.snapshot.cache import SnapshotCache
from sqlmesh.core.state_sync import EngineAdapterStateSync

from server.projects import Project

__all__ = ["Database", "Transaction"]


class Transaction:
    """An open transaction of one project.

    Args:
        connection: The connection, with its transaction begun.
        project: Whose records and state are meant.
        cache_dir: A folder for SQLMesh, which leaves nothing in it.
    """

    def __init__(self, connection: Connection, project: Project, cache_dir: Path):
        self.connection = connection
        self.project = project
        self._cache_dir = cache_dir

    @cached_property
    def state(self) -> EngineAdapterStateSync:
        """SQLMesh's state of the project, inside this transaction."""
        borrowed = _BorrowedConnection(self.connection.connection.dbapi_connection)
        adapter = PostgresEngineAdapter(lambda: borrowed)  # type: ignore[abstract]
        state = EngineAdapterStateSync(adapter, schema=self.project.state_schema, cache_dir=self._cache_dir)
        state.snapshot_state._snapshot_cache = _NoSnapshotCache(self._cache_dir)
        return state


class Database:
    """The server's database.

    Args:
        url: As SQLAlchemy spells it, with the psycopg2 driver.
        pool_size: Connections that are kept.
        cache_dir: A folder for SQLMesh, which leaves nothing in it.
    """

    def __init__(self, url: str, pool_size: int, cache_dir: Path):
        self.engine: Engine = create_engine(url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=False)
        self._cache_dir = cache_dir

    @contextmanager
    def transaction(self, project: Project) -> Iterator[Transaction]:
        """Opens a transaction that is committed at the end, or rolled back if an exception leaves it.

        Raises:
            sqlalchemy.exc.OperationalError: If PostgreSQL cannot be reached.
        """
        with self.engine.begin() as connection:
            yield Transaction(connection, project, self._cache_dir)

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


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
