"""Reads snapshots out of SQLMesh's state without parsing them, which takes a millisecond or more for each."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from sqlmesh.core.snapshot import SnapshotId, SnapshotIdLike, SnapshotIntervals, SnapshotNameVersion

from server.database import Transaction

__all__ = ["read_overlays", "stamp_snapshots", "stored_snapshots", "stream_snapshots"]

_OVERLAY = ("created_ts", "updated_ts", "unpaused_ts", "unrestorable", "forward_only", "next_auto_restatement_ts")
_BATCH = 250
"""Snapshots a piece: enough that its way to the client costs nothing, few enough to hold in memory."""


def stream_snapshots(transaction: Transaction, ids: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Yields the answer to the state contract's `get_snapshots`, piece by piece.

    The JSON that SQLMesh stored is passed on as it is, with the columns that SQLMesh's own
    `sqlmesh.core.state_sync.db.snapshot.parse_snapshot` lays over it.
    """
    versions: set[tuple[str, str]] = set()
    sent: list[tuple[str, str]] = []
    yield b'{"snapshots":['
    separator = b""
    for first in range(0, len(ids), _BATCH):
        batch = {SnapshotId(name=name, identifier=identifier) for name, identifier in ids[first : first + _BATCH]}
        found = list(_rows(transaction, batch))
        if found:
            versions.update((row.name, row.version) for row in found)
            sent.extend((row.name, row.identifier) for row in found)
            yield separator + b",".join(orjson.dumps(row.snapshot) for row in found)
            separator = b","
    yield b'],"intervals":['
    yield b",".join(intervals.json().encode() for intervals in _recorded(transaction, versions))
    yield b'],"ids":' + orjson.dumps(sent) + b"}"


def read_overlays(transaction: Transaction, ids: Sequence[Sequence[str]]) -> bytes:
    """The answer to the state contract's `get_snapshot_overlays`: the columns, and the intervals of each version."""
    wanted = {SnapshotId(name=name, identifier=identifier) for name, identifier in ids}
    found = list(_rows(transaction, wanted))
    recorded: dict[tuple[str, str], list[object]] = {}
    for intervals in _recorded(transaction, {(row.name, row.version) for row in found}):
        recorded.setdefault((intervals.name, intervals.version), []).append(intervals.dict(exclude_none=False))
    return orjson.dumps(
        [
            {
                "name": row.name,
                "identifier": row.identifier,
                "version": row.version,
                **{field: row.snapshot[field] for field in _OVERLAY},
                "recorded": recorded.get((row.name, row.version), []),
            }
            for row in found
        ]
    )


def stored_snapshots(
    transaction: Transaction, snapshots: Iterable[SnapshotIdLike]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and the JSON that SQLMesh stored, of snapshots; without the columns that it lays over it."""
    state = transaction.state
    for query in state.snapshot_state._get_snapshots_expressions(snapshots):
        for stored, name, *_ in state.engine_adapter.fetchall(query, quote_identifiers=True):
            yield name, orjson.loads(stored)


def stamp_snapshots(transaction: Transaction, ids: Sequence[Sequence[str]]) -> bytes:
    """The answer to the state contract's `get_snapshots_stamp`: a digest of all rows that `read_overlays` would read.

    PostgreSQL computes it in a fraction of the time that parsing the rows takes. Whole rows go into it, whatever their
    columns: one that has changed without effect costs a reading too much, and none is missed.
    """
    state = transaction.state
    snapshots, restatements, intervals = (
        table.sql("postgres", identify=True)
        for table in (
            state.snapshot_state.snapshots_table,
            state.snapshot_state.auto_restatements_table,
            state.interval_state.intervals_table,
        )
    )
    stamp = transaction.connection.exec_driver_sql(
        f"""
        WITH kept AS MATERIALIZED (
          SELECT s.name, s.version, s.identifier, md5(s::text) AS digest
          FROM {snapshots} AS s
          JOIN unnest(%s::text[], %s::text[]) AS wanted (name, identifier) USING (name, identifier)
        ), versions AS MATERIALIZED (
          SELECT DISTINCT name, version FROM kept
        )
        SELECT md5(concat_ws(
          '/',
          (SELECT string_agg(digest, ',' ORDER BY name, identifier) FROM kept),
          (SELECT md5(string_agg(r::text, ',' ORDER BY r::text)) FROM {restatements} AS r
           JOIN versions AS v ON (r.snapshot_name, r.snapshot_version) = (v.name, v.version)),
          (SELECT md5(string_agg(i::text, ',' ORDER BY i.id)) FROM {intervals} AS i
           JOIN versions AS v ON (i.name, i.version) = (v.name, v.version))
        ))
        """,  # noqa: S608 - names are SQLMesh's own
        ([name for name, _ in ids], [identifier for _, identifier in ids]),
    ).scalar_one()
    return orjson.dumps(stamp)


class _Row(NamedTuple):
    name: str
    identifier: str
    version: str
    snapshot: dict[str, Any]


def _rows(transaction: Transaction, ids: set[SnapshotId]) -> Iterator[_Row]:
    """Yields what SQLMesh makes a snapshot of: the JSON as it was pushed, and over it the columns that may change."""
    state = transaction.state
    for query in state.snapshot_state._get_snapshots_expressions(ids):
        for row in state.engine_adapter.fetchall(query, quote_identifiers=True):
            stored, name, identifier, version, updated, unpaused, unrestorable, forward_only, restatement = row
            snapshot: dict[str, Any] = orjson.loads(stored)
            snapshot.update(
                updated_ts=updated,
                unpaused_ts=unpaused,
                unrestorable=unrestorable,
                forward_only=forward_only,
                next_auto_restatement_ts=restatement,
            )
            yield _Row(name, identifier, version, snapshot)


def _recorded(transaction: Transaction, versions: set[tuple[str, str]]) -> list[SnapshotIntervals]:
    return transaction.state.interval_state.get_snapshot_intervals(
        [SnapshotNameVersion(name=name, version=version) for name, version in sorted(versions)]
    )
