"""The warehouses of a project that goes both ways: how SQLMesh reaches them, and all that is in them."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb
import psycopg2

from stack.postgres import Postgres
from tests.equality.outcome import Relation, read_relations

__all__ = ["DuckDBFile", "PostgresDatabase", "Warehouse"]

_RELATIONS = """
SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables
WHERE table_catalog NOT IN ('system', 'temp')
"""


class Warehouse(Protocol):
    """One gateway's database."""

    @property
    def connection(self) -> dict[str, Any]:
        """The options of SQLMesh's connection."""

    def relations(self) -> dict[str, Relation]:
        """Every table and view, with its rows."""


@dataclass(frozen=True)
class DuckDBFile:
    """A file, and those that SQLMesh puts beside it for catalogs that it creates."""

    path: Path

    @property
    def connection(self) -> dict[str, Any]:
        return {"type": "duckdb", "database": str(self.path)}

    def relations(self) -> dict[str, Relation]:
        with duckdb.connect(str(self.path)) as warehouse:
            for catalog in self.path.parent.glob("*.db"):
                warehouse.execute(f"ATTACH '{catalog}'")
            found = warehouse.execute(_RELATIONS).fetchall()
            return {".".join(name): _relation(warehouse, ".".join(name), kind) for *name, kind in found}


@dataclass(frozen=True)
class PostgresDatabase:
    """A database of its own."""

    server: Postgres
    database: str

    @property
    def connection(self) -> dict[str, Any]:
        return dict(self.server.connection(self.database))

    def relations(self) -> dict[str, Relation]:
        with closing(psycopg2.connect(self.server.dsn(self.database))) as connection:
            return read_relations(connection)


def _relation(warehouse: duckdb.DuckDBPyConnection, name: str, kind: str) -> Relation:
    described = warehouse.execute(f"DESCRIBE {name}").fetchall()
    rows = warehouse.execute(f"SELECT * FROM {name}").fetchall()
    return Relation(kind, None, [(column, type_) for column, type_, *_ in described], sorted(map(repr, rows)))
