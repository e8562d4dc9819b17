"""What a scheduler leaves behind, in SQLMesh's state and in the warehouse, and how two outcomes differ."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2 import extensions, sql

__all__ = ["Outcome", "Relation", "differences", "read_relations", "read_state"]

IDS_AND_TIMESTAMPS = frozenset(
    {
        "created_ts",
        "updated_ts",
        "last_altered_ts",
        "dev_last_altered_ts",
        "finalized_ts",
        "expiration_ts",
        "plan_id",
        "previous_plan_id",
    }
)
"""What depends on when and by whom something was done, not on what was done. Intervals, the times at which
snapshots were unpaused and those of the next auto-restatements are not among them: they follow the plan's clock."""

UNORDERED = frozenset({"snapshots", "previous_finalized_snapshots", "promoted_snapshot_ids", "parents"})
"""Lists of the state whose order means nothing."""

RELATIONS = """
SELECT n.nspname, c.relname, c.relkind::text, CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
"""

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Relation:
    """A table or view of the warehouse, with all that is in it."""

    kind: str
    definition: str | None
    """Of a view: its query."""
    columns: list[tuple[str, str]]
    rows: list[str]
    """PostgreSQL's text of every row, sorted."""


@dataclass(frozen=True)
class Outcome:
    """State and warehouse at one moment."""

    state: dict[str, Any]
    relations: dict[str, Relation] = field(default_factory=dict)


def read_state(export: Path) -> dict[str, Any]:
    """Reads a file of `sqlmesh state export`, less ids and timestamps, in an order of its own."""
    exported = json.loads(export.read_text())
    return {
        "versions": exported["versions"],
        "snapshots": {_snapshot_key(s): _normalized(s) for s in exported["snapshots"]},
        "environments": {name: _normalized(e) for name, e in exported["environments"].items()},
    }


def read_relations(connection: extensions.connection) -> dict[str, Relation]:
    """Reads every table and view of a database, as the connection's transaction sees it."""
    with connection.cursor() as cursor:
        cursor.execute(RELATIONS)
        found = cursor.fetchall()
    return {f"{schema}.{name}": _relation(connection, schema, name, *rest) for schema, name, *rest in found}


def differences(expected: Outcome, actual: Outcome) -> list[str]:
    """One line for each place where two outcomes differ; none if they are equal."""
    return [
        *_differences("state", expected.state, actual.state),
        *_differences("warehouse", _plain(expected.relations), _plain(actual.relations)),
    ]


def _relation(connection: extensions.connection, schema: str, name: str, kind: str, definition: str | None) -> Relation:
    qualified = sql.Identifier(schema, name)
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS, (qualified.as_string(connection),))
        columns = cursor.fetchall()
        cursor.execute(sql.SQL("SELECT t::text FROM {} AS t").format(qualified))
        rows = sorted(row for (row,) in cursor.fetchall())
    return Relation(kind=kind, definition=definition, columns=columns, rows=rows)


def _plain(relations: dict[str, Relation]) -> dict[str, Any]:
    return {name: vars(relation) for name, relation in relations.items()}


def _snapshot_key(snapshot: dict[str, Any]) -> str:
    return f"{snapshot['name']} {json.dumps(snapshot['fingerprint'], sort_keys=True)}"


def _normalized(value: Any, key: str = "") -> Any:
    match value:
        case dict():
            return {k: _normalized(v, k) for k, v in value.items() if k not in IDS_AND_TIMESTAMPS}
        case list():
            items = [_normalized(v) for v in value]
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key in UNORDERED else items
        case _:
            return value


def _differences(path: str, expected: Any, actual: Any) -> Iterator[str]:
    match expected, actual:
        case dict(), dict():
            for key in sorted(expected.keys() | actual.keys()):
                if key not in actual:
                    yield f"{path} / {key}: only built-in has it"
                elif key not in expected:
                    yield f"{path} / {key}: only Tempomesh has it"
                else:
                    yield from _differences(f"{path} / {key}", expected[key], actual[key])
        case list(), list() if len(expected) == len(actual):
            for position, (left, right) in enumerate(zip(expected, actual, strict=True)):
                yield from _differences(f"{path} / {position}", left, right)
        case _ if expected != actual or type(expected) is not type(actual):
            yield f"{path}: {expected!r} with built-in, {actual!r} with Tempomesh"
