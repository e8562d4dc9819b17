"""What runs did to tables while a plan was building their replacements, and the plan has to do before it promotes.

SQLMesh promotes a new version as far as its plan went, or refuses with "Detected missing intervals" (`--no-gaps`) if
runs took the old version further meanwhile; the user plans again, and may lose the race again. A plan here catches up.
"""

import dataclasses
import typing as t
from collections.abc import Sequence

from sqlmesh.core.plan import EvaluatablePlan
from sqlmesh.core.plan.stages import BackfillStage, EnvironmentRecordUpdateStage, PlanStage
from sqlmesh.core.scheduler import SnapshotToIntervals, merged_missing_intervals
from sqlmesh.core.snapshot import Snapshot, SnapshotId, SnapshotTableInfo
from sqlmesh.utils.date import to_datetime, to_timestamp

from tempomesh_runner.process_context import ProcessContext
from tempomesh_runner.stage_documents import stage_document

__all__ = ["CatchUp", "intervals_to_catch_up", "replaced_tables"]


class Replaced(t.TypedDict):
    """A table that a plan replaces: the snapshot that is promoted now, and how far the plan's own one goes."""

    name: str
    identifier: str
    version: str | None
    end: int
    """What runs do to the old table past this moment the plan has to do as well; milliseconds since the epoch."""


class CatchUp(t.TypedDict):
    """Kept with a plan's promotion."""

    replaced: list[Replaced]
    waits: bool
    """Whether the promotion waits for evaluations of the old tables that are in flight. Only with `--no-gaps` would
    SQLMesh fail because of what they record; otherwise their runs go on with the new tables."""
    stage: dict[str, t.Any]
    """A `BackfillStage` with everything but intervals."""


def replaced_tables(context: ProcessContext, plan: EvaluatablePlan, stages: Sequence[PlanStage]) -> CatchUp | None:
    """The tables in the environment that a plan replaces by new versions which it builds first; None if there are none.

    A plan that evaluates nothing (`--skip-backfill`, `--empty-backfill`) catches up with nothing, nor does one that was
    asked to end before the table that it replaces.
    """
    backfill = next((stage for stage in stages if isinstance(stage, BackfillStage)), None)
    environment = context.state.get_environment(plan.environment.name)
    if backfill is None or environment is None or plan.skip_backfill or plan.empty_backfill:
        return None
    built_first = {
        name
        for stage in stages
        if isinstance(stage, EnvironmentRecordUpdateStage)
        for name in stage.no_gaps_snapshot_names
    }
    old = [
        info
        for info in environment.snapshots
        if info.name in built_first and _is_replaced(info, backfill.all_snapshots.get(info.name))
    ]
    if not old:
        return None
    replaced = [
        Replaced(name=snapshot.name, identifier=snapshot.identifier, version=snapshot.version, end=end)
        for snapshot in context.store.current(old).values()
        if (end := _end_of_plan(plan, snapshot)) is not None
    ]
    if not replaced:
        return None
    template = dataclasses.replace(backfill, snapshot_to_intervals={}, selected_snapshot_ids=set())
    return CatchUp(replaced=replaced, waits=plan.no_gaps, stage=stage_document(template))


def intervals_to_catch_up(
    context: ProcessContext, plan: EvaluatablePlan, replaced: list[Replaced], stage: BackfillStage
) -> SnapshotToIntervals:
    """What is missing of the new versions, up to where runs have taken the old ones by now.

    Refreshes the intervals of the stage's snapshots. What the plan leaves out on purpose (before its `--start`, by
    `--min-intervals`) is left out here, too: all of the plan's own bounds hold but for the end of these models.
    """
    context.state.refresh_snapshot_intervals(stage.all_snapshots.values())
    old = context.store.current(SnapshotId(name=r["name"], identifier=r["identifier"]) for r in replaced)
    ends_of_plan = {r["name"]: r["end"] for r in replaced}
    ends = {
        snapshot.name: snapshot.intervals[-1][1]
        for snapshot in old.values()
        if snapshot.intervals and snapshot.intervals[-1][1] > ends_of_plan[snapshot.name]
    }
    if not ends:
        return {}
    missing = merged_missing_intervals(
        snapshots=stage.all_snapshots.values(),
        start=plan.start,
        end=max(to_timestamp(plan.end), *ends.values()),
        execution_time=plan.execution_time,
        deployability_index=stage.deployability_index,
        end_bounded=plan.end_bounded,
        ignore_cron=plan.ignore_cron,
        start_override_per_model=plan.start_override_per_model,
        end_override_per_model={
            **(plan.end_override_per_model or {}),
            **{name: to_datetime(end) for name, end in ends.items()},
        },
    )
    return {snapshot: intervals for snapshot, intervals in missing.items() if snapshot.name in ends}


def _is_replaced(old: SnapshotTableInfo, new: Snapshot | None) -> bool:
    return new is not None and new.evaluatable and old.version != new.version


def _end_of_plan(plan: EvaluatablePlan, old: Snapshot) -> int | None:
    """How far a plan builds the replacement of a snapshot; None if it is not meant to go as far as what it replaces."""
    if not old.intervals:
        return None
    end = old.intervals[-1][1]
    override = (plan.end_override_per_model or {}).get(old.name)
    if override is None:
        _, end_of_plan = old.inclusive_exclusive(plan.start, plan.end, strict=False, expand=False)
        return end if end <= end_of_plan else None
    # The bounds are those of prod as of the moment of planning; a dev environment's own tables may have been further.
    return max(end, to_timestamp(override)) if plan.is_dev else min(end, to_timestamp(override))
