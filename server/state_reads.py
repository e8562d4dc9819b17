"""Reads snapshots out of SQLMesh's state without parsing them: thousands stream in bounded memory."""

from collections.abc import Iterator, Sequence

import orjson
from sqlmesh.core.snapshot import SnapshotId

from server.database import Transaction

__all__ = ["stream_snapshots"]

_BATCH = 500


def stream_snapshots(transaction: Transaction, ids: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Yields the answer to the state contract's `get_snapshots`, piece by piece.

    The JSON that SQLMesh stored is passed on as it is, with the columns that SQLMesh's own
    `sqlmesh.core.state_sync.db.snapshot.parse_snapshot` lays over it.
    """
    state = transaction.state
    versions: set[tuple[str, str]] = set()
    yield b'{"snapshots":['
    separator = b""
    for first in range(0, len(ids), _BATCH):
        batch = {SnapshotId(name=name, identifier=identifier) for name, identifier in ids[first : first + _BATCH]}
        for query in state.snapshot_state._get_snapshots_expressions(batch):
            for row in state.engine_adapter.fetchall(query, quote_identifiers=True):
                stored, name, _, version, updated_ts, unpaused_ts, unrestorable, forward_only, restatement_ts = row
                snapshot = orjson.loads(stored)
                snapshot.update(
                    updated_ts=updated_ts,
                    unpaused_ts=unpaused_ts,
                    unrestorable=unrestorable,
                    forward_only=forward_only,
                    next_auto_restatement_ts=restatement_ts,
                )
                versions.add((name, version))
                yield separator + orjson.dumps(snapshot)
                separator = b","
    yield b'],"intervals":'
    yield _intervals(transaction, sorted(versions))
    yield b"}"


def _intervals(transaction: Transaction, versions: list[tuple[str, str]]) -> bytes:
    from sqlmesh.core.snapshot import SnapshotNameVersion

    found = transaction.state.interval_state.get_snapshot_intervals(
        [SnapshotNameVersion(name=name, version=version) for name, version in versions]
    )
    return b"[" + b",".join(interval.json().encode() for interval in found) + b"]"
