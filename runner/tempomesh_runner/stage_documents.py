"""The stages of a plan as JSON, and back: a stage is built once and applied by whichever process has its turn.

Snapshots travel as ids, with the intervals that `build_plan_stages` gave them: it adjusts them for the plan
(restated intervals are taken out, forward-only snapshots inherit theirs), and evaluation depends on that.
"""

import dataclasses
import json
import typing as t
from collections.abc import Mapping

from sqlmesh.core.environment import EnvironmentNamingInfo, EnvironmentStatements
from sqlmesh.core.plan import EvaluatablePlan, stages
from sqlmesh.core.plan.stages import PlanStage
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot, SnapshotId, SnapshotTableInfo
from sqlmesh.utils.errors import SQLMeshError

__all__ = ["SnapshotsById", "is_backfill", "snapshot_ids", "stage_count", "stage_document", "stage_from_document"]

SnapshotsById = Mapping[SnapshotId, Snapshot]

_STAGES: dict[str, type[t.Any]] = {stage.__name__: stage for stage in t.get_args(PlanStage)}


def stage_document(stage: PlanStage) -> dict[str, t.Any]:
    """The JSON form of a stage.

    Raises:
        SQLMeshError: If this SQLMesh's stages have a field of a type that is not known here.
    """
    seen: dict[SnapshotId, Snapshot] = {}
    fields = {
        field.name: _encode(getattr(stage, field.name), seen) for field in dataclasses.fields(t.cast(t.Any, stage))
    }
    return {
        "name": type(stage).__name__,
        "fields": fields,
        "snapshots": [[s.name, s.identifier, s.intervals, s.dev_intervals] for s in seen.values()],
    }


def snapshot_ids(document: dict[str, t.Any]) -> list[SnapshotId]:
    """The snapshots that a stage speaks of."""
    return [SnapshotId(name=name, identifier=identifier) for name, identifier, *_ in document["snapshots"]]


def stage_from_document(document: dict[str, t.Any], snapshots: SnapshotsById) -> PlanStage:
    """The stage, with its snapshots' intervals as they were when it was built."""
    for name, identifier, intervals, dev_intervals in document["snapshots"]:
        snapshot = snapshots[SnapshotId(name=name, identifier=identifier)]
        snapshot.intervals = [tuple(i) for i in intervals]
        snapshot.dev_intervals = [tuple(i) for i in dev_intervals]
    fields = {name: _decode(value, snapshots) for name, value in document["fields"].items()}
    return t.cast(PlanStage, _STAGES[document["name"]](**fields))


def is_backfill(stage: PlanStage) -> bool:
    """Whether a stage is a unit DAG rather than one step."""
    return isinstance(stage, stages.BackfillStage) and bool(stage.snapshot_to_intervals)


def stage_count(stage: PlanStage, plan: EvaluatablePlan) -> int | None:
    """How many snapshots a stage deals with, or statements; None of one that is about the environment as a whole."""
    match stage:
        case stages.BeforeAllStage():
            return sum(len(s.before_all) for s in stage.statements)
        case stages.AfterAllStage():
            return sum(len(s.after_all) for s in stage.statements)
        case stages.BackfillStage():
            return len(stage.snapshot_to_intervals)
        case stages.RestatementStage():
            return len(plan.restatements)
        case stages.UnpauseStage():
            return len(stage.promoted_snapshots)
        case stages.VirtualLayerUpdateStage():
            return len(stage.promoted_snapshots) + len(stage.demoted_snapshots)
        case stages.EnvironmentRecordUpdateStage():
            return len(plan.environment.snapshots)
        case stages.FinalizeEnvironmentStage():
            return None
        case _:
            return len(stage.snapshots)


def _encode(value: t.Any, seen: dict[SnapshotId, Snapshot]) -> t.Any:
    match value:
        case None | bool() | str():
            return value
        case Snapshot():
            seen[value.snapshot_id] = value
            return ["snapshot", value.name, value.identifier]
        case SnapshotId():
            return ["id", value.name, value.identifier]
        case SnapshotTableInfo():
            return ["table_info", json.loads(value.json())]
        case DeployabilityIndex():
            return ["deployability", json.loads(value.json())]
        case EnvironmentNamingInfo():
            return ["naming_info", json.loads(value.json())]
        case EnvironmentStatements():
            return ["statements", json.loads(value.json())]
        case list():
            return ["list", [_encode(item, seen) for item in value]]
        case set() | frozenset():
            return ["set", sorted((_encode(item, seen) for item in value), key=json.dumps)]
        case tuple() | int():
            return ["value", value]
        case dict():
            return ["map", [[_encode(key, seen), _encode(item, seen)] for key, item in value.items()]]
    raise SQLMeshError(f"A plan's stage holds a {type(value).__name__}, which this release does not know.")


def _decode(value: t.Any, snapshots: SnapshotsById) -> t.Any:
    if not isinstance(value, list):
        return value
    tag, *content = value
    match tag:
        case "snapshot":
            return snapshots[SnapshotId(name=content[0], identifier=content[1])]
        case "id":
            return SnapshotId(name=content[0], identifier=content[1])
        case "table_info":
            return SnapshotTableInfo.model_validate(content[0])
        case "deployability":
            return DeployabilityIndex.model_validate(content[0])
        case "naming_info":
            return EnvironmentNamingInfo.model_validate(content[0])
        case "statements":
            return EnvironmentStatements.model_validate(content[0])
        case "list":
            return [_decode(item, snapshots) for item in content[0]]
        case "set":
            return {_decode(item, snapshots) for item in content[0]}
        case "value":
            return tuple(content[0]) if isinstance(content[0], list) else content[0]
        case "map":
            return {_decode(key, snapshots): _decode(item, snapshots) for key, item in content[0]}
    raise SQLMeshError(f"A stage's document has a value of unknown kind '{tag}'.")
