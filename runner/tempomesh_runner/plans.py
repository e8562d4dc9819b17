"""Plans: split into SQLMesh's stages, and applied one stage at a time by SQLMesh's own evaluator."""

import dataclasses
import typing as t

from sqlmesh.core.environment import EnvironmentNamingInfo, execute_environment_statements
from sqlmesh.core.macros import RuntimeStage
from sqlmesh.core.plan import BuiltInPlanEvaluator, EvaluatablePlan
from sqlmesh.core.plan.stages import BackfillStage, EnvironmentRecordUpdateStage, PlanStage, build_plan_stages
from sqlmesh.core.snapshot import Snapshot, SnapshotId
from sqlmesh.core.snapshot.evaluator import get_custom_materialization_type_or_raise
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from tempomesh_runner.catching_up import CatchUp, intervals_to_catch_up, replaced_tables
from tempomesh_runner.process_context import ProcessContext
from tempomesh_runner.scheduling import prepare_backfill as prepare_execution
from tempomesh_runner.splitting import split_by_gateway
from tempomesh_runner.stage_documents import (
    is_backfill,
    snapshot_ids,
    stage_count,
    stage_document,
    stage_from_document,
)

__all__ = ["apply_stage", "build_stages", "prepare_backfill", "prepare_catch_up", "run_statements"]

_PROMOTION = "promotion"


def build_stages(context: ProcessContext, *, plan_id: str, default_catalog: str | None) -> dict[str, t.Any]:
    """Splits a plan into stages; nothing is changed by it.

    Raises:
        ConfigError: If a new model has a materialization that is not installed here.
        SQLMeshError: If the plan names snapshots that nobody has.
    """
    plan = context.store.plan(plan_id)
    _refuse_strangers(context, plan)
    _refuse_unknown_materializations(plan)
    stages = build_plan_stages(plan, context.state, default_catalog)
    catch_up = replaced_tables(context, plan, stages)
    kinds = [_kind(stage, plan, catch_up) for stage in stages]
    return {
        "stages": [
            {"index": index, "name": type(stage).__name__, "kind": kind, "count": stage_count(stage, plan)}
            for index, (stage, kind) in enumerate(zip(stages, kinds, strict=True))
        ],
        "documents": [
            {**stage_document(stage), "catch_up": catch_up} if kind == _PROMOTION else stage_document(stage)
            for stage, kind in zip(stages, kinds, strict=True)
        ],
    }


def apply_stage(
    context: ProcessContext,
    *,
    plan_id: str,
    stage: dict[str, t.Any],
    gateway: str,
    default_catalog: str | None,
    part: str | None = None,
) -> dict[str, t.Any]:
    """Applies a stage with `BuiltInPlanEvaluator`, whose code says what each stage does.

    May be repeated after a crash: pushing, creating, promoting and finalizing what is there already changes nothing.

    Args:
        context: This process.
        plan_id: The plan.
        stage: The stage's document.
        gateway: The gateway that the plan was made with.
        default_catalog: Its default catalog.
        part: A gateway for which other executors had no connection: only what is to be done there.

    Returns:
        `{"elsewhere": …}`, the gateways at which something is left to do that there is no connection for here.
    """
    plan = context.store.plan(plan_id)
    whole = stage_from_document(stage, _snapshots(context, plan, stage))
    here = set(context.gateways.names) if part is None else {part.lower()}
    split = split_by_gateway(whole, plan, gateway, here)
    if split.here is None:
        return {"elsewhere": split.elsewhere if part is None else []}
    evaluator = BuiltInPlanEvaluator(
        state_sync=context.state,
        snapshot_evaluator=context.for_plan(plan_id, part or gateway),
        create_scheduler=lambda snapshots, snapshot_evaluator: context.scheduler(
            snapshots, snapshot_evaluator, default_catalog
        ),
        default_catalog=default_catalog,
        console=context.console,
    )
    evaluator._evaluate_stages([split.here], plan)
    return {"elsewhere": split.elsewhere if part is None else []}


def prepare_backfill(
    context: ProcessContext,
    *,
    plan_id: str,
    execution_id: str,
    stage: dict[str, t.Any],
    gateway: str,
    default_catalog: str | None,
) -> dict[str, t.Any]:
    """Turns a backfill stage into an execution."""
    plan = context.store.plan(plan_id)
    hydrated = t.cast(BackfillStage, stage_from_document(stage, _snapshots(context, plan, stage)))
    return prepare_execution(
        context,
        hydrated,
        plan_id=plan_id,
        execution_id=execution_id,
        gateway=gateway,
        default_catalog=default_catalog,
    )


def prepare_catch_up(
    context: ProcessContext,
    *,
    plan_id: str,
    execution_id: str,
    stage: dict[str, t.Any],
    gateway: str,
    default_catalog: str | None,
) -> dict[str, t.Any]:
    """Turns what a promotion has to catch up with into an execution.

    Returns:
        `{"execution": …}`, or `{"nothing_to_do": True}`.
    """
    plan = context.store.plan(plan_id)
    catch_up: CatchUp = stage["catch_up"]
    document = catch_up["stage"]
    backfill = t.cast(BackfillStage, stage_from_document(document, _snapshots(context, plan, document)))
    missing = intervals_to_catch_up(context, plan, catch_up["replaced"], backfill)
    if not missing:
        return {"nothing_to_do": True}
    return prepare_execution(
        context,
        dataclasses.replace(
            backfill, snapshot_to_intervals=missing, selected_snapshot_ids={s.snapshot_id for s in missing}
        ),
        plan_id=plan_id,
        execution_id=execution_id,
        gateway=gateway,
        default_catalog=default_catalog,
    )


def run_statements(context: ProcessContext, *, execution: dict[str, t.Any], runtime_stage: str) -> dict[str, t.Any]:
    """Executes an environment's `before_all` or `after_all` statements around a run, as SQLMesh's scheduler does."""
    snapshots = context.store.get(
        SnapshotId(name=s["name"], identifier=s["identifier"]) for s in execution["snapshots"]
    )
    naming_info = EnvironmentNamingInfo.model_validate(execution["naming_info"])
    selected = execution["selected_models"]
    execute_environment_statements(
        adapter=context.for_run(execution["owner_id"], execution["gateway"]).adapter,
        environment_statements=context.state.get_environment_statements(naming_info.name),
        runtime_stage=RuntimeStage(runtime_stage),
        environment_naming_info=naming_info,
        default_catalog=execution["default_catalog"],
        snapshots={s.name: s for s in snapshots.values()},
        start=execution["start"],
        end=execution["end"],
        execution_time=execution["execution_time"],
        selected_models=None if selected is None else set(selected),
    )
    return {}


def _kind(stage: PlanStage, plan: EvaluatablePlan, catch_up: CatchUp | None) -> str:
    if is_backfill(stage) and not plan.empty_backfill:
        return "backfill"
    return _PROMOTION if catch_up and isinstance(stage, EnvironmentRecordUpdateStage) else "single"


def _refuse_strangers(context: ProcessContext, plan: EvaluatablePlan) -> None:
    own = {snapshot.snapshot_id for snapshot in plan.new_snapshots}
    named = {snapshot.snapshot_id for snapshot in plan.environment.snapshots} - own
    missing = sorted(snapshot.name for snapshot in named - context.state.snapshots_exist(named)) if named else []
    if missing:
        raise SQLMeshError(
            f"The plan names {len(missing)} snapshots that the project's state does not have, such as that of "
            f"{missing[0]}: it was made with the state of another project, or the janitor has removed them since. "
            "Check TCLOUD_URL and plan again."
        )


def _refuse_unknown_materializations(plan: EvaluatablePlan) -> None:
    for snapshot in plan.new_snapshots:
        if name := snapshot.table_info.custom_materialization:
            try:
                get_custom_materialization_type_or_raise(name)
            except ConfigError as error:
                raise ConfigError(
                    f"{snapshot.name}: {error} The folder 'materializations' of a project stays with the project: "
                    "name a Python package with an entry point 'sqlmesh.materializations' in sqlmesh-requirements.lock."
                ) from error


def _snapshots(context: ProcessContext, plan: EvaluatablePlan, stage: dict[str, t.Any]) -> dict[SnapshotId, Snapshot]:
    # The plan's own come from the plan: only there have seeds their content.
    own = {s.snapshot_id: s for s in plan.new_snapshots}
    return {**context.store.current(s for s in snapshot_ids(stage) if s not in own), **own}
