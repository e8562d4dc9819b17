"""Reads snapshots out of SQLMesh's state without parsing them: thousands stream in bounded memory."""

from collections.abc import Iterator, Sequence

import orjson
from sqlmesh.core.snapshot import SnapshotId, SnapshotNameVersion

from server.database import Transaction

__all__ = ["stream_snapshots"]

_BATCH = 250
"""Snapshots a piece: enough that its way to the client costs nothing, few enough to hold in memory."""


def stream_snapshots(transaction: Transaction, ids: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Yields the answer to the state contract's `get_snapshots`, piece by piece.

    The JSON that SQLMesh stored is passed on as it is, with the columns that SQLMesh's own
    `sqlmesh.core.state_sync.db.snapshot.parse_snapshot` lays over it.
    """
    versions: set[tuple[str, str]] = set()
    yield b'{"snapshots":['
    separator = b""
    for first in range(0, len(ids), _BATCH):
        batch = {SnapshotId(name=name, identifier=identifier) for name, identifier in ids[first : first + _BATCH]}
        piece = b",".join(_snapshots(transaction, batch, versions))
        if piece:
            yield separator + piece
            separator = b","
    yield b'],"intervals":['
    yield _intervals(transaction, versions)
    yield b"]}"


def _snapshots(transaction: Transaction, ids: set[SnapshotId], versions: set[tuple[str, str]]) -> Iterator[bytes]:
    """Yields the JSON of each snapshot that there is, and notes its name and version."""
    state = transaction.state
    for query in state.snapshot_state._get_snapshots_expressions(ids):
        for row in state.engine_adapter.fetchall(query, quote_identifiers=True):
            stored, name, _, version, updated_ts, unpaused_ts, unrestorable, forward_only, restatement_ts = row
            versions.add((name, version))
            snapshot = orjson.loads(stored)
            snapshot.update(
                updated_ts=updated_ts,
                unpaused_ts=unpaused_ts,
                unrestorable=unrestorable,
                forward_only=forward_only,
                next_auto_restatement_ts=restatement_ts,
            )
            yield orjson.dumps(snapshot)


def _intervals(transaction: Transaction, versions: set[tuple[str, str]]) -> bytes:
    found = transaction.state.interval_state.get_snapshot_intervals(
        [SnapshotNameVersion(name=name, version=version) for name, version in sorted(versions)]
    )
    return b",".join(interval.json().encode() for interval in found)
