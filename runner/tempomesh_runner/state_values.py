"""SQLMesh's values in calls of the state contract, and back."""

import json
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from sqlmesh.core.snapshot import (
    SnapshotId,
    SnapshotIdLike,
    SnapshotIntervals,
)
from sqlmesh.utils.pydantic import PydanticModel

__all__ = ["ids_of", "json_of", "parse", "parse_ids", "parse_intervals"]

Model = t.TypeVar("Model", bound=PydanticModel)


def parse_intervals(value: Mapping[str, t.Any]) -> SnapshotIntervals:
    """Reads intervals out of SQLMesh's own JSON of them."""
    return parse(SnapshotIntervals, value)


def parse(model: type[Model], value: Mapping[str, t.Any]) -> Model:
    """Reads a value of SQLMesh out of SQLMesh's own JSON of it."""
    # SQLMesh's JSON leaves nulls out, even those of fields without a default.
    absent: dict[str, t.Any] = {f.alias or name: None for name, f in model.model_fields.items() if f.is_required()}
    return model.model_validate({**absent, **value})


class _HasJson(t.Protocol):
    def json(self) -> str: ...


def json_of(model: t.Any) -> t.Any:
    """What a value of SQLMesh is as JSON."""
    # SQLMesh's own `.json()`: it drops nulls and serializes expressions, a generic dump does neither.
    return json.loads(t.cast(_HasJson, model).json())


def ids_of(snapshot_ids: Iterable[SnapshotIdLike]) -> list[list[str]]:
    """Names and identifiers of snapshots, in order."""
    return sorted([s.snapshot_id.name, s.snapshot_id.identifier] for s in snapshot_ids)


def parse_ids(ids: Iterable[Sequence[str]]) -> set[SnapshotId]:
    """The inverse of `ids_of`."""
    return {SnapshotId(name=name, identifier=identifier) for name, identifier in ids}
