"""What of a plan's stage is to be done at which gateway: where no executor has a connection for all of them."""

import dataclasses
import typing as t
from collections.abc import Collection

from sqlmesh.core.plan import EvaluatablePlan, stages
from sqlmesh.core.plan.stages import PlanStage
from sqlmesh.core.snapshot import SnapshotInfoLike

__all__ = ["SplitStage", "split_by_gateway"]

_OF_SNAPSHOTS = (
    stages.PhysicalLayerSchemaCreationStage,
    stages.PhysicalLayerUpdateStage,
    stages.MigrateSchemasStage,
    stages.AuditOnlyRunStage,
)
"""Stages that do something in the warehouse for each of their `snapshots`, and nothing else."""

_Snapshot = t.TypeVar("_Snapshot", bound=SnapshotInfoLike)


class SplitStage(t.NamedTuple):
    """A stage as it is to be applied here; None if nothing of it is."""

    here: PlanStage | None
    elsewhere: list[str]
    """Gateways at which the rest of it is to be done."""


def split_by_gateway(stage: PlanStage, plan: EvaluatablePlan, gateway: str, here: Collection[str]) -> SplitStage:
    """Takes out of a stage what is to be done at other gateways.

    Args:
        stage: The stage.
        plan: Its plan.
        gateway: The gateway that the plan was made with: that of models which name none.
        here: Gateways that are at hand, in lower case.
    """
    elsewhere: set[str] = set()

    def at_hand(snapshots: t.Iterable[_Snapshot]) -> list[_Snapshot]:
        kept = []
        for snapshot in snapshots:
            own = (snapshot.model_gateway or gateway).lower()
            if own in here:
                kept.append(snapshot)
            else:
                elsewhere.add(own)
        return kept

    split: PlanStage = stage
    is_left = True
    if isinstance(stage, _OF_SNAPSHOTS):
        split = dataclasses.replace(stage, snapshots=at_hand(stage.snapshots))
        is_left = bool(split.snapshots) or not stage.snapshots
    elif isinstance(stage, stages.VirtualLayerUpdateStage) and plan.environment.naming_info.gateway_managed:
        split = dataclasses.replace(
            stage,
            promoted_snapshots=set(at_hand(stage.promoted_snapshots)),
            demoted_snapshots=set(at_hand(stage.demoted_snapshots)),
        )
        is_left = bool(split.promoted_snapshots or split.demoted_snapshots)
        is_left = is_left or not (stage.promoted_snapshots or stage.demoted_snapshots)
    return SplitStage(split if is_left else None, sorted(elsewhere))
