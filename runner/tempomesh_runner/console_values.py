"""SQLMesh's values inside console events: JSON with one tag for each type that JSON does not have."""

import json
import typing as t
from collections.abc import Callable

from sqlmesh.core.environment import EnvironmentNamingInfo
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotIdBatch, SnapshotTableInfo
from sqlmesh.core.snapshot.execution_tracker import QueryExecutionStats

__all__ = ["decode", "encode"]

_SNAPSHOT = "$snapshot"
_SNAPSHOT_ID = "$snapshot_id"
_TABLE_INFO = "$table_info"
_NAMING_INFO = "$naming_info"
_INTERVALS = "$intervals"
_STATISTICS = "$statistics"
_SET = "$set"
_PAIR = "$pair"


def encode(value: t.Any) -> t.Any:
    """The JSON form of a console method's argument.

    Raises:
        TypeError: If the value is of a type that no relayed method takes.
    """
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Snapshot():
            return {_SNAPSHOT: [value.name, value.identifier]}
        case SnapshotTableInfo():
            return {_TABLE_INFO: json.loads(value.json())}
        case SnapshotId():
            return {_SNAPSHOT_ID: [value.name, value.identifier]}
        case EnvironmentNamingInfo():
            return (
                {_NAMING_INFO: json.loads(value.naming_info.json())}
                if hasattr(value, "naming_info")
                else {_NAMING_INFO: json.loads(value.json())}
            )
        case QueryExecutionStats():
            batch = value.snapshot_id_batch
            return {
                _STATISTICS: [
                    batch.snapshot_id.name,
                    batch.snapshot_id.identifier,
                    batch.batch_id,
                    value.total_rows_processed,
                    value.total_bytes_processed,
                ]
            }
        case dict():
            return {
                _INTERVALS: [[s.name, s.identifier, [list(i) for i in intervals]] for s, intervals in value.items()]
            }
        case set() | frozenset():
            return {_SET: sorted(value)}
        case tuple():
            return {_PAIR: [encode(item) for item in value]}
        case list():
            return [encode(item) for item in value]
    raise TypeError(f"A console event cannot carry a {type(value).__name__}.")


def decode(value: t.Any, resolve: Callable[[str, str], Snapshot]) -> t.Any:
    """The inverse of `encode`; snapshots are found by `resolve`."""
    if isinstance(value, list):
        return [decode(item, resolve) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    match tag:
        case "$snapshot":
            return resolve(*content)
        case "$snapshot_id":
            return SnapshotId(name=content[0], identifier=content[1])
        case "$table_info":
            return SnapshotTableInfo.model_validate(content)
        case "$naming_info":
            return EnvironmentNamingInfo.model_validate(content)
        case "$intervals":
            return {resolve(name, identifier): [tuple(i) for i in found] for name, identifier, found in content}
        case "$statistics":
            name, identifier, batch_id, rows, size = content
            batch = SnapshotIdBatch(snapshot_id=SnapshotId(name=name, identifier=identifier), batch_id=batch_id)
            return QueryExecutionStats(batch, total_rows_processed=rows, total_bytes_processed=size)
        case "$set":
            return set(content)
        case "$pair":
            return tuple(decode(item, resolve) for item in content)
    raise TypeError(f"A console event has a value of unknown type '{tag}'.")
