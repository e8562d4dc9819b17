"""What somebody at a terminal asks of a warehouse, answered where the warehouse is, by SQLMesh's own functions."""

import json
import typing as t
from collections.abc import Callable

import pandas as pd
from sqlglot import exp, parse
from sqlglot.errors import SqlglotError
from sqlmesh.core.engine_adapter.base import EngineAdapter
from sqlmesh.core.snapshot import Snapshot, SnapshotEvaluator
from sqlmesh.core.table_diff import TableDiff
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.housekeeping import Housekeeper
from tempomesh_runner.process_context import ProcessContext
from tempomesh_runner.rows import frame_as_json, value_as_json
from tempomesh_runner.state_values import parse_ids

__all__ = ["FRAMES", "answer_query"]

FRAMES = ("sample", "joined_sample", "s_sample", "t_sample", "column_stats")
"""The fields of SQLMesh's `RowDiff` that are data frames."""

Arguments = dict[str, t.Any]


class _Asked(t.NamedTuple):
    """A question and what is there to answer it."""

    context: ProcessContext
    gateway: str
    evaluator: SnapshotEvaluator
    arguments: Arguments
    max_rows: int

    @property
    def adapter(self) -> EngineAdapter:
        """The adapter of the gateway that the question names."""
        return self.evaluator.adapters[self.gateway]


def answer_query(
    context: ProcessContext,
    *,
    query_id: str,
    kind: str,
    gateway: str,
    arguments: Arguments,
    max_rows: int,
    max_bytes: int,
) -> dict[str, t.Any]:
    """Answers one question.

    Raises:
        SQLMeshError: If it fails; also if there are more rows or bytes than may be sent back, because a part would pass
            for the whole.
    """
    name = context.gateways.selected(gateway)
    asked = _Asked(context, name, context.for_run(f"query/{query_id}", name), arguments, max_rows)
    try:
        answer = _ANSWERS[kind](asked)
    except SQLMeshError:
        raise
    except Exception as error:
        raise SQLMeshError(_one_line(error)) from error
    size = len(json.dumps(answer))
    if size > max_bytes:
        raise SQLMeshError(
            f"The result has {size:,} bytes, more than the {max_bytes:,} that this server sends back: ask for fewer "
            "rows or columns, or make it a model."
        )
    return {"answer": answer}


def _fetch(asked: _Asked) -> dict[str, t.Any]:
    method, sql = asked.arguments["method"], asked.arguments["sql"]
    if method == "fetchone":
        row = asked.adapter.fetchone(sql)
        return {"rows": [] if row is None else [value_as_json(tuple(row))]}
    limited = _limited(sql, asked.adapter.dialect, asked.max_rows)
    # Not every adapter ends the transaction that it reads a data frame in.
    with asked.adapter.transaction():
        if method == "fetchdf":
            return {"frame": _frame(asked.adapter.fetchdf(limited), asked.max_rows)}
        rows = asked.adapter.fetchall(limited)
    _refuse_many(len(rows), asked.max_rows)
    return {"rows": [value_as_json(tuple(row)) for row in rows]}


def _columns(asked: _Asked) -> dict[str, t.Any]:
    table = exp.to_table(asked.arguments["table"], dialect=asked.adapter.dialect)
    found = asked.adapter.columns(table, include_pseudo_columns=asked.arguments["include_pseudo_columns"])
    return {"columns": _types(found, asked.adapter.dialect)}


def _table_exists(asked: _Asked) -> dict[str, t.Any]:
    return {"exists": asked.adapter.table_exists(exp.to_table(asked.arguments["table"], dialect=asked.adapter.dialect))}


def _evaluate(asked: _Asked) -> dict[str, t.Any]:
    arguments = dict(asked.arguments)
    snapshots = _snapshots(asked)
    snapshot = snapshots[arguments.pop("name")]
    adapter = asked.evaluator.get_adapter(snapshot.model_gateway)
    del arguments["snapshots"]
    with adapter.transaction():
        fetched = asked.evaluator.evaluate_and_fetch(snapshot, snapshots=snapshots, **arguments)
        frame = fetched if isinstance(fetched, pd.DataFrame) else adapter._native_df_to_pandas_df(fetched)
    return {"frame": _frame(t.cast(pd.DataFrame, frame), asked.max_rows)}


def _audit(asked: _Asked) -> dict[str, t.Any]:
    snapshots = _snapshots(asked)
    times = {name: asked.arguments[name] for name in ("start", "end", "execution_time")}
    results: dict[str, t.Any] = {}
    for name in asked.arguments["names"]:
        try:
            audited = asked.evaluator.audit(snapshots[name], snapshots=snapshots, **times)
        except Exception as error:
            # Those before it have been audited: whoever asked is to see them first.
            return {"results": results, "failed": {name: asked.context.hide(_one_line(error))}}
        results[name] = [
            {
                "skipped": result.skipped,
                "blocking": result.blocking,
                "count": result.count,
                "query": result.query and result.query.sql(dialect=asked.evaluator.adapter.dialect),
            }
            for result in audited
        ]
    return {"results": results, "failed": {}}


def _schema_diff(asked: _Asked) -> dict[str, t.Any]:
    found = _table_diff(asked).schema_diff()
    dialect = asked.adapter.dialect
    return {"source": _types(found.source_schema, dialect), "target": _types(found.target_schema, dialect)}


def _row_diff(asked: _Asked) -> dict[str, t.Any]:
    found = _table_diff(asked).row_diff(**asked.arguments["how"])
    frames = {name: _frame(getattr(found, name), asked.max_rows) for name in FRAMES}
    return {"stats": {name: value_as_json(value) for name, value in found.stats.items()}, "frames": frames}


def _table_diff(asked: _Asked) -> TableDiff:
    of = dict(asked.arguments["of"])
    if isinstance(of["on"], str):
        of["on"] = exp.condition(of["on"], dialect=asked.adapter.dialect)
    return TableDiff(adapter=asked.adapter, **of)


def _janitor(asked: _Asked) -> dict[str, t.Any]:
    Housekeeper(asked.context, asked.gateway, asked.evaluator, **asked.arguments.pop("config")).run_janitor(
        **asked.arguments
    )
    return {}


def _cleanup(asked: _Asked) -> dict[str, t.Any]:
    housekeeper = Housekeeper(asked.context, asked.gateway, asked.evaluator)
    return {"failures": housekeeper.clean_up_environment(asked.arguments["environment"])}


def _destroy(asked: _Asked) -> dict[str, t.Any]:
    Housekeeper(asked.context, asked.gateway, asked.evaluator, **asked.arguments["config"]).destroy()
    return {}


_ANSWERS: dict[str, Callable[[_Asked], dict[str, t.Any]]] = {
    "fetch": _fetch,
    "columns": _columns,
    "table_exists": _table_exists,
    "evaluate": _evaluate,
    "audit": _audit,
    "schema_diff": _schema_diff,
    "row_diff": _row_diff,
    "janitor": _janitor,
    "cleanup": _cleanup,
    "destroy": _destroy,
}


def _snapshots(asked: _Asked) -> dict[str, Snapshot]:
    """The snapshots that a question speaks of, by name: those in state, and those that only its sender has."""
    given = asked.arguments["snapshots"]
    stored = asked.context.store.current(sorted(parse_ids(given["stored"])))
    own = [Snapshot.model_validate(snapshot) for snapshot in given["own"]]
    return {snapshot.name: snapshot for snapshot in [*stored.values(), *own]}


def _types(columns: dict[str, exp.DataType], dialect: str) -> dict[str, str]:
    return {name: kind.sql(dialect=dialect) for name, kind in columns.items()}


def _frame(frame: pd.DataFrame, max_rows: int) -> dict[str, t.Any]:
    _refuse_many(len(frame), max_rows)
    return frame_as_json(frame)


def _refuse_many(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise SQLMeshError(
            f"The result has more than {max_rows:,} rows, as many as this server sends back: add a LIMIT, aggregate, "
            "or make it a model."
        )


def _one_line(error: Exception) -> str:
    """What a driver says, without its drawing of where in the statement, which may not be as it was typed."""
    said = error.__cause__ if isinstance(error, pd.errors.DatabaseError) and error.__cause__ else error
    lines = [line.strip() for line in str(said).splitlines()]
    told = [line for line in lines if line and not line.startswith("LINE ") and line.strip("^~ ")]
    return " ".join(told) or type(said).__name__


def _limited(sql: str, dialect: str, rows: int) -> str | exp.Expr:
    """The query with a limit one above what may be sent back; as it is if it has one, or is no query."""
    try:
        statements = [statement for statement in parse(sql, dialect=dialect) if statement is not None]
    except SqlglotError:
        # The warehouse may know better.
        return sql
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        return sql
    if any(statements[0].args.get(name) for name in ("limit", "fetch", "locks", "into")):
        return sql
    return statements[0].limit(rows + 1)
