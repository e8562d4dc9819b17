"""What every runner would otherwise do for itself before its first unit, done once in the process they are forked from.

Nothing here opens a connection or starts a thread: neither survives a fork.
"""

import os
from contextlib import suppress
from importlib import import_module

from sqlmesh.core.dialect import parse
from sqlmesh.core.model import load_sql_based_model
from sqlmesh.core.snapshot import Snapshot, SnapshotChangeCategory

__all__ = ["rehearse"]

_LAZILY_IMPORTED = ("pandas.io.sql", "sqlalchemy")
"""Imported by pandas with the first query whose result is a data frame: a quarter of a second in each process."""

_DRIVERS = {"postgres": "psycopg2", "duckdb": "duckdb"}
"""Drivers, by the type of their connections, that are known to bear a fork between their import and their use."""

_MODEL = "MODEL (name rehearsal.model, kind FULL, cron '@daily', start '2026-01-01'); SELECT CAST(1 AS INT) AS id"


def rehearse() -> None:
    """Imports what is imported late, and has SQLMesh make, serialize, parse and render a model.

    The warehouses' drivers are those of the connections in `SQLMESH__GATEWAYS__…__CONNECTION__TYPE`.
    """
    types = {value.lower() for name, value in os.environ.items() if name.upper().endswith("__CONNECTION__TYPE")}
    for module in (*_LAZILY_IMPORTED, *(driver for kind, driver in _DRIVERS.items() if kind in types)):
        # What a Python environment does without is not missed here; whoever needs it says so.
        with suppress(ImportError):
            import_module(module)
    made = Snapshot.from_node(load_sql_based_model(parse(_MODEL)), nodes={})
    made.categorize_as(SnapshotChangeCategory.BREAKING)
    snapshot = Snapshot.model_validate_json(made.json())
    snapshot.missing_intervals("2026-01-01", "2026-01-03", execution_time="1 day ago")
    snapshot.model.render_query_or_raise().sql()
