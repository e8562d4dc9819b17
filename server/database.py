"""One PostgreSQL connection on which the server's records and SQLMesh's state change in one transaction.

SQLMesh manages its own transactions. Here it is given a connection whose commit and rollback do nothing, so that
what it writes is committed, or not, together with the records that belong to it.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine
from sqlmesh.core.state_sync import EngineAdapterStateSync

from server.projects import Project
from server.states import BorrowedState, StatePool

__all__ = ["Database", "Transaction"]


class Transaction:
    """An open transaction of one project.

    Args:
        connection: The connection, with its transaction begun.
        project: Whose records and state are meant.
        states: Where SQLMesh's state is borrowed from.
    """

    def __init__(self, connection: Connection, project: Project, states: StatePool):
        self.connection = connection
        self.project = project
        self._states = states
        self._borrowed: BorrowedState | None = None

    @cached_property
    def state(self) -> EngineAdapterStateSync:
        """SQLMesh's state of the project, inside this transaction."""
        borrowed = self._states.borrow(self.project)
        borrowed.lend(self.connection.connection.dbapi_connection)
        self._borrowed = borrowed
        return borrowed.state

    def close(self) -> None:
        """Gives back what was borrowed; the transaction itself is its opener's to end."""
        if self._borrowed is not None:
            self._states.give_back(self.project, self._borrowed)
            self._borrowed = None


class Database:
    """The server's database.

    Args:
        url: As SQLAlchemy spells it, with the psycopg2 driver.
        pool_size: Connections that are kept.
        cache_dir: A folder for SQLMesh, which leaves nothing in it.
    """

    def __init__(self, url: str, pool_size: int, cache_dir: Path):
        # Its errors are logged, and parameters are rows.
        self.engine: Engine = create_engine(
            url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=False, hide_parameters=True
        )
        self._states = StatePool(cache_dir)

    @contextmanager
    def transaction(self, project: Project) -> Iterator[Transaction]:
        """Opens a transaction that is committed at the end, or rolled back if an exception leaves it.

        Raises:
            sqlalchemy.exc.OperationalError: If PostgreSQL cannot be reached.
        """
        with (
            self.engine.begin() as connection,
            closing(Transaction(connection, project, self._states)) as transaction,
        ):
            yield transaction

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()
