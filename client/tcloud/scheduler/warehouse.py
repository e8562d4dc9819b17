"""What SQLMesh does with a warehouse's connection, done by executors: SQLMesh's own classes, less the connection."""

import typing as t
from collections.abc import Collection, Iterable
from itertools import takewhile

from sqlglot import exp, parse_one
from sqlmesh.core.engine_adapter.base import EngineAdapter
from sqlmesh.core.model.definition import AuditResult
from sqlmesh.core.snapshot import Snapshot
from sqlmesh.core.snapshot.definition import Node
from sqlmesh.core.snapshot.evaluator import SnapshotEvaluator
from sqlmesh.core.state_sync import StateReader
from sqlmesh.core.table_diff import RowDiff, SchemaDiff, TableDiff
from sqlmesh.utils.date import TimeLike, to_timestamp
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from tcloud.scheduler.queries import Ask
from tcloud.wire.queries import QueryKind
from tempomesh_runner.state_values import ids_of, json_of

if t.TYPE_CHECKING:
    import pandas as pd
    from sqlmesh.core.audit import Audit

__all__ = ["RemoteSnapshotEvaluator", "RemoteTableDiff", "in_wire_form", "remote_methods"]

Query = str | exp.Expr


def in_wire_form(time: TimeLike | None) -> str | int | None:
    """A time as SQLMesh takes it, for a request; a relative one means the moment at which the work starts."""
    return time if time is None or isinstance(time, str | int) else to_timestamp(time)


def remote_methods(ask: Ask) -> dict[str, t.Any]:
    """The methods of an `EngineAdapter` that only read, by name, as executors answer them."""

    def fetch(adapter: EngineAdapter, method: str, query: Query, *, quote: bool) -> t.Any:
        sql = query if isinstance(query, str) else adapter._to_sql(query, quote=quote)
        return ask(QueryKind.FETCH, {"method": method, "sql": sql})

    def fetchdf(self: EngineAdapter, query: Query, quote_identifiers: bool = False) -> "pd.DataFrame":
        from tempomesh_runner.rows import frame_from_json

        return frame_from_json(fetch(self, "fetchdf", query, quote=quote_identifiers)["frame"])

    def fetchall(
        self: EngineAdapter,
        query: Query,
        ignore_unsupported_errors: bool = False,  # noqa: ARG001 (SQLMesh's signature)
        quote_identifiers: bool = False,
    ) -> list[tuple[t.Any, ...]]:
        from tempomesh_runner.rows import value_from_json

        found = fetch(self, "fetchall", query, quote=quote_identifiers)["rows"]
        return [value_from_json(row) for row in found]

    def fetchone(
        self: EngineAdapter,
        query: Query,
        ignore_unsupported_errors: bool = False,  # noqa: ARG001 (SQLMesh's signature)
        quote_identifiers: bool = False,
    ) -> tuple[t.Any, ...] | None:
        from tempomesh_runner.rows import value_from_json

        found = fetch(self, "fetchone", query, quote=quote_identifiers)["rows"]
        return value_from_json(found[0]) if found else None

    def columns(
        self: EngineAdapter, table_name: str | exp.Table, include_pseudo_columns: bool = False
    ) -> dict[str, exp.DataType]:
        arguments = {"table": _sql(table_name, self.dialect), "include_pseudo_columns": include_pseudo_columns}
        return _types(ask(QueryKind.COLUMNS, arguments)["columns"], self.dialect)

    def table_exists(self: EngineAdapter, table_name: str | exp.Table) -> bool:
        return bool(ask(QueryKind.TABLE_EXISTS, {"table": _sql(table_name, self.dialect)})["exists"])

    methods = (fetchdf, fetchall, fetchone, columns, table_exists)
    return {method.__name__: method for method in methods}


class RemoteSnapshotEvaluator(SnapshotEvaluator):
    """A snapshot evaluator that leaves to executors what needs a warehouse.

    Args:
        adapters: Unconnected adapters, by gateway.
        selected_gateway: The gateway of models that name none.
        state_reader: Tells which snapshots executors can read for themselves.
        ask: Puts questions to the selected gateway's executors.
    """

    def __init__(self, adapters: dict[str, EngineAdapter], selected_gateway: str, state_reader: StateReader, ask: Ask):
        super().__init__(adapters, selected_gateway=selected_gateway)
        self._state_reader = state_reader
        self._ask = ask
        self._audited: dict[str, t.Any] = {}

    def evaluate_and_fetch(
        self,
        snapshot: Snapshot,
        *,
        start: TimeLike,
        end: TimeLike,
        execution_time: TimeLike,
        snapshots: dict[str, Snapshot],
        limit: int,
        **kwargs: t.Any,
    ) -> "pd.DataFrame":
        from tempomesh_runner.rows import frame_from_json

        arguments = {
            "name": snapshot.name,
            "snapshots": self._shared(_with_upstream(snapshot, snapshots), of_seed=snapshot),
            "start": in_wire_form(start),
            "end": in_wire_form(end),
            "execution_time": in_wire_form(execution_time),
            "limit": limit,
            "expand": list(kwargs.get("expand") or ()),
        }
        return frame_from_json(self._ask(QueryKind.EVALUATE, arguments)["frame"])

    def prepare_audits(
        self,
        audited: Collection[Snapshot],
        snapshots: dict[str, Snapshot],
        *,
        start: TimeLike | None,
        end: TimeLike | None,
        execution_time: TimeLike | None,
    ) -> None:
        """Has all of these audited at once, in the order in which `audit` will be asked for them."""
        # At the first that has no version SQLMesh stops.
        versioned = takewhile(lambda snapshot: snapshot.version, audited)
        with_audits = [snapshot for snapshot in versioned if snapshot.node.audits_with_args]
        self._audited = {"results": {}, "failed": {}}
        if with_audits:
            arguments = {
                "names": [snapshot.name for snapshot in with_audits],
                "snapshots": self._shared(snapshots.values()),
                "start": in_wire_form(start),
                "end": in_wire_form(end),
                "execution_time": in_wire_form(execution_time),
            }
            self._audited = self._ask(QueryKind.AUDIT, arguments)

    def audit(self, snapshot: Snapshot, **kwargs: t.Any) -> list[AuditResult]:  # noqa: ARG002 (SQLMesh's signature)
        """As SQLMesh's, of what `prepare_audits` has had audited."""
        if not snapshot.version:
            raise ConfigError(
                f"Cannot audit '{snapshot.name}' because it has not been versioned yet. Apply a plan first."
            )
        if reason := self._audited["failed"].get(snapshot.name):
            raise SQLMeshError(reason)
        told = self._audited["results"].get(snapshot.name, [])
        return [
            _audit_result(snapshot, audit, audit_args, result, dialect=self.adapter.dialect)
            for (audit, audit_args), result in zip(snapshot.node.audits_with_args, told, strict=bool(told))
        ]

    def _shared(self, snapshots: Iterable[Snapshot], of_seed: Snapshot | None = None) -> dict[str, t.Any]:
        """Snapshots as a request has them: ids of those in state, whose content executors read there."""
        given = list(snapshots)
        stored = self._state_reader.snapshots_exist(s.snapshot_id for s in given)
        if of_seed is not None and _is_seed(of_seed.node):
            # State keeps seeds without their content.
            stored.discard(of_seed.snapshot_id)
        own = [snapshot for snapshot in given if snapshot.snapshot_id not in stored]
        return {"stored": ids_of(stored), "own": [json_of(snapshot) for snapshot in own]}


class RemoteTableDiff(TableDiff):
    """A comparison of two tables that an executor makes.

    Args:
        ask: Puts the question.
        adapter: The gateway's adapter, unconnected.
        of: The other arguments of `TableDiff`.
    """

    def __init__(self, ask: Ask, adapter: EngineAdapter, **of: t.Any):
        super().__init__(adapter, **of)
        self._ask = ask
        texts = {name: _sql(of[name], self.dialect) for name in ("source", "target", "where") if of.get(name)}
        on = of["on"]
        self._of = {**of, **texts, "on": list(on) if isinstance(on, list | tuple) else _sql(on, self.dialect)}

    def schema_diff(self) -> SchemaDiff:
        if "source_schema" not in self.__dict__:
            told = self._ask(QueryKind.SCHEMA_DIFF, {"of": self._of})
            # The properties of the base class keep what is set here.
            self.__dict__["source_schema"] = _types(told["source"], self.dialect)
            self.__dict__["target_schema"] = _types(told["target"], self.dialect)
        return super().schema_diff()

    def row_diff(self, temp_schema: str | None = None, skip_grain_check: bool = False) -> RowDiff:
        from tempomesh_runner.rows import frame_from_json, value_from_json

        if self._row_diff is None:
            how = {"temp_schema": temp_schema, "skip_grain_check": skip_grain_check}
            told = self._ask(QueryKind.ROW_DIFF, {"of": self._of, "how": how})
            self._row_diff = RowDiff(
                source=self.source,
                target=self.target,
                stats={name: value_from_json(value) for name, value in told["stats"].items()},
                **{name: frame_from_json(frame) for name, frame in told["frames"].items()},
                source_alias=self.source_alias,
                target_alias=self.target_alias,
                model_name=self.model_name,
                decimals=self.decimals,
            )
        return self._row_diff


def _audit_result(
    snapshot: Snapshot, audit: "Audit", audit_args: dict[str, t.Any], told: dict[str, t.Any], *, dialect: str
) -> AuditResult:
    return AuditResult(
        audit=audit,
        audit_args=audit_args,
        model=snapshot.model_or_none,
        count=told["count"],
        query=told["query"] and parse_one(told["query"], dialect=dialect),
        skipped=told["skipped"],
        blocking=told["blocking"],
    )


def _with_upstream(snapshot: Snapshot, snapshots: dict[str, Snapshot]) -> list[Snapshot]:
    found = {snapshot.name: snapshot}
    waiting = [snapshot]
    while waiting:
        for parent in waiting.pop().parents:
            if parent.name not in found and parent.name in snapshots:
                found[parent.name] = snapshots[parent.name]
                waiting.append(snapshots[parent.name])
    return list(found.values())


def _is_seed(node: Node) -> bool:
    return bool(node.is_model and node.is_seed)  # type: ignore[union-attr]


def _sql(value: str | exp.Expr, dialect: str) -> str:
    return value if isinstance(value, str) else value.sql(dialect=dialect, identify=True)


def _types(columns: dict[str, str], dialect: str) -> dict[str, exp.DataType]:
    return {name: exp.DataType.build(kind, dialect=dialect) for name, kind in columns.items()}
