"""What may change in a snapshot after it was pushed: everything else of it can be kept by whoever has seen it once."""

import typing as t

from pydantic import BaseModel
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotIntervals

__all__ = ["MutableFields", "SnapshotOverlay"]

_COLUMNS = ("updated_ts", "unpaused_ts", "unrestorable", "forward_only", "next_auto_restatement_ts")


_INTERVALS = ("intervals", "dev_intervals", "pending_restatement_intervals")
_OTHERS = (*_COLUMNS, "last_altered_ts", "dev_last_altered_ts")


class MutableFields(t.NamedTuple):
    """All that an overlay may have set in a snapshot, to be set again."""

    intervals: list[list[tuple[int, int]]]
    others: list[t.Any]

    @classmethod
    def of(cls, snapshot: Snapshot) -> t.Self:
        """The fields as they are now."""
        return cls(
            [list(getattr(snapshot, field)) for field in _INTERVALS],
            [getattr(snapshot, field) for field in _OTHERS],
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Undoes what has been done to the snapshot since, if anything."""
        if MutableFields.of(snapshot) == self:
            return
        for field, intervals in zip(_INTERVALS, self.intervals, strict=True):
            setattr(snapshot, field, list(intervals))
        for field, value in zip(_OTHERS, self.others, strict=True):
            setattr(snapshot, field, value)


class SnapshotOverlay(BaseModel):
    """The mutable fields of a snapshot, as `EngineAdapterStateSync` keeps them apart from the snapshot's JSON.

    Intervals are half-open, all times are in milliseconds since the epoch.
    """

    name: str
    identifier: str
    version: str | None = None
    created_ts: int
    updated_ts: int
    unpaused_ts: int | None = None
    unrestorable: bool = False
    forward_only: bool = False
    next_auto_restatement_ts: int | None = None
    recorded: list[dict[str, t.Any]] = []
    """`SnapshotIntervals` of the snapshot's version; which of them are the snapshot's own, SQLMesh works out."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> t.Self:
        """The overlay of a snapshot as it is now."""
        return cls(
            name=snapshot.name,
            identifier=snapshot.identifier,
            version=snapshot.version,
            created_ts=snapshot.created_ts,
            recorded=[snapshot.snapshot_intervals.dict(exclude_none=False)] if snapshot.version else [],
            **{column: getattr(snapshot, column) for column in _COLUMNS},
        )

    @property
    def snapshot_id(self) -> SnapshotId:
        """The snapshot that it belongs to."""
        return SnapshotId(name=self.name, identifier=self.identifier)

    def belongs_to(self, snapshot: Snapshot) -> bool:
        """Whether a kept snapshot is the same one: after it was deleted, its identifier may have been pushed again."""
        return (
            snapshot.snapshot_id == self.snapshot_id
            and snapshot.created_ts == self.created_ts
            and snapshot.version == self.version
        )

    def lay_over(self, snapshot: Snapshot) -> None:
        """Brings a kept snapshot up to date."""
        for column in _COLUMNS:
            setattr(snapshot, column, getattr(self, column))
        snapshot.intervals = []
        snapshot.dev_intervals = []
        snapshot.pending_restatement_intervals = []
        snapshot.last_altered_ts = None
        snapshot.dev_last_altered_ts = None
        Snapshot.hydrate_with_intervals_by_version(
            [snapshot], [SnapshotIntervals.model_validate(intervals) for intervals in self.recorded]
        )
