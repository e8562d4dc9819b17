"""From what is due to the unit DAG: SQLMesh's `Scheduler` up to the point where it would start to evaluate.

The steps and their order are those of `Scheduler._run_or_audit` and `Scheduler.run_merged_intervals`.
"""

import json
import typing as t

from sqlmesh.core import constants as c
from sqlmesh.core.environment import Environment, EnvironmentNamingInfo
from sqlmesh.core.plan.stages import BackfillStage
from sqlmesh.core.scheduler import CreateNode, DummyNode, EvaluateNode, Scheduler, SchedulingUnit, SnapshotToIntervals
from sqlmesh.core.snapshot import DeployabilityIndex, Snapshot, SnapshotId, apply_auto_restatements, snapshots_to_dag
from sqlmesh.utils.date import TimeLike, now_timestamp, time_like_to_str, to_timestamp, validate_date_range
from sqlmesh.utils.errors import SQLMeshError

from tempomesh_runner.process_context import EnvironmentUpdatingError, ProcessContext

__all__ = ["prepare_backfill", "prepare_run", "read_environment"]


def prepare_run(
    context: ProcessContext,
    *,
    run_id: str,
    execution_id: str,
    environment: str,
    options: dict[str, t.Any],
    now: int,
    gateway: str | None,
    default_catalog: str | None,
) -> dict[str, t.Any]:
    """Finds what is due in an environment.

    Args:
        context: This process.
        run_id: The run.
        execution_id: What the execution is to be called: a run has more than one if a plan changes its environment.
        environment: The environment.
        options: The options of `sqlmesh run` (`RunOptions`).
        now: The time, in milliseconds, by a clock that all executors share: one that is slow by a second would find
            nothing due at a tick.
        gateway: The gateway that the environment was planned with; None is the executor's default, with its catalog.
        default_catalog: The default catalog that it was planned with.

    Returns:
        `{"execution": …}`, or `{"nothing_to_do": True}`.

    Raises:
        EnvironmentUpdatingError: If a plan is changing the environment at this moment.
        SQLMeshError: If there is no such environment, or a signal fails.
    """
    env = context.state.get_environment(environment)
    if env is None:
        raise SQLMeshError(f"Environment '{environment}' was not found.")
    if not env.finalized_ts:
        raise EnvironmentUpdatingError(f"Environment '{environment}' is being updated by plan '{env.plan_id}'.")
    start, end = options.get("start"), options.get("end")
    validate_date_range(start, end)
    execution_time = _timestamp(options.get("execution_time"))
    scheduler = _scheduler_of(context, env, run_id, gateway, default_catalog)
    deployability_index = (
        DeployabilityIndex.create(scheduler.snapshots.values(), start=start)
        if env.name != c.PROD
        else DeployabilityIndex.all_deployable()
    )
    triggers: dict[SnapshotId, list[SnapshotId]] = {}
    if environment.lower() == c.PROD:
        triggers = _restate_automatically(context, scheduler, execution_time)
    selected = options.get("select_models")
    merged_intervals = scheduler.merged_missing_intervals(
        start,
        now if end is None else end,
        execution_time,
        deployability_index=deployability_index,
        ignore_cron=bool(options.get("ignore_cron")),
        selected_snapshots=None if selected is None else set(selected),
    )
    if not merged_intervals:
        return {"nothing_to_do": True}
    statements = context.state.get_environment_statements(env.name)
    document = {
        **_document(
            scheduler,
            merged_intervals,
            env.naming_info,
            deployability_index,
            selected_snapshot_ids=None,
            is_restatement=False,
        ),
        "execution_id": execution_id,
        "owner_kind": "run",
        "owner_id": run_id,
        "gateway": context.gateways.selected(gateway),
        "default_catalog": scheduler.default_catalog,
        "start": _time(start),
        "end": _time(end),
        "execution_time": execution_time,
        "selected_models": sorted({s.node.dbt_unique_id for s in merged_intervals if s.node.dbt_unique_id}),
        "has_environment_statements": any(s.before_all or s.after_all for s in statements),
        "auto_restatement_triggers": {
            s.snapshot_id.name: [_id(trigger) for trigger in triggers.get(s.snapshot_id, [])]
            for s in merged_intervals
            if triggers.get(s.snapshot_id)
        },
    }
    return {"execution": document}


def read_environment(
    context: ProcessContext, *, environment: str, gateway: str | None, default_catalog: str | None
) -> dict[str, t.Any]:
    """Reads what `prepare_run` will need of an environment, so that its next tick need not; changes nothing.

    Args:
        context: This process.
        environment: The environment.
        gateway: The gateway that it was planned with, as in `prepare_run`.
        default_catalog: The default catalog that it was planned with.
    """
    env = context.state.get_environment(environment)
    if env is not None and env.finalized_ts:
        _scheduler_of(context, env, "", gateway, default_catalog).merged_missing_intervals()
    return {}


def prepare_backfill(
    context: ProcessContext,
    stage: BackfillStage,
    *,
    plan_id: str,
    execution_id: str,
    gateway: str,
    default_catalog: str | None,
) -> dict[str, t.Any]:
    """Turns a backfill stage into an execution, as `BuiltInPlanEvaluator.visit_backfill_stage` would begin it."""
    plan = context.store.plan(plan_id)
    scheduler = context.scheduler(stage.all_snapshots.values(), context.for_plan(plan_id, gateway), default_catalog)
    document = {
        **_document(
            scheduler,
            stage.snapshot_to_intervals,
            plan.environment.naming_info,
            stage.deployability_index,
            selected_snapshot_ids=stage.selected_snapshot_ids,
            is_restatement=bool(plan.restatements),
        ),
        "execution_id": execution_id,
        "owner_kind": "plan",
        "owner_id": plan_id,
        "gateway": gateway,
        "default_catalog": default_catalog,
        "start": _time(plan.start),
        "end": _time(plan.end),
        "execution_time": _timestamp(plan.execution_time),
        "allow_destructive": sorted(plan.allow_destructive_models),
        "allow_additive": sorted(plan.allow_additive_models),
        "selected_models": None if plan.selected_models is None else sorted(plan.selected_models),
    }
    return {"execution": document}


def _scheduler_of(
    context: ProcessContext, environment: Environment, run_id: str, gateway: str | None, default_catalog: str | None
) -> Scheduler:
    """SQLMesh's scheduler of an environment, whose snapshots are read where they are not known here."""
    if gateway is None:
        default_catalog = context.gateways.default_catalog(context.gateways.default)
    snapshots = context.store.current(environment.snapshots).values()
    return context.scheduler(snapshots, context.for_run(run_id, gateway), default_catalog)


def _restate_automatically(
    context: ProcessContext, scheduler: Scheduler, execution_time: int
) -> dict[SnapshotId, list[SnapshotId]]:
    before = {s.snapshot_id: s.next_auto_restatement_ts for s in scheduler.snapshots.values()}
    restated, triggers = apply_auto_restatements(scheduler.snapshots, execution_time)
    if restated:
        context.state.add_snapshots_intervals(restated)
    # SQLMesh writes the clock of every snapshot, every time; most have none, and most that have one keep it.
    clocks = {
        s.name_version: s.next_auto_restatement_ts
        for s in scheduler.snapshots.values()
        if s.next_auto_restatement_ts != before[s.snapshot_id]
    }
    if clocks:
        context.state.update_auto_restatements(clocks)
    return triggers


def _document(
    scheduler: Scheduler,
    merged_intervals: SnapshotToIntervals,
    naming_info: EnvironmentNamingInfo,
    deployability_index: DeployabilityIndex,
    *,
    selected_snapshot_ids: set[SnapshotId] | None,
    is_restatement: bool,
) -> dict[str, t.Any]:
    selected = [scheduler.snapshots[s] for s in (selected_snapshot_ids or set())] or list(merged_intervals)
    snapshot_dag = snapshots_to_dag(scheduler.snapshots.values()).subdag(*{s.snapshot_id for s in selected})
    batched_intervals = scheduler.batch_intervals(
        merged_intervals, deployability_index, naming_info, dag=snapshot_dag, is_restatement=is_restatement
    )
    scheduler.console.start_evaluation_progress(
        batched_intervals, naming_info, scheduler.default_catalog, audit_only=False
    )
    candidates = [s for s in selected if not deployability_index.is_representative(s) or s in batched_intervals]
    evaluator = scheduler.snapshot_evaluator
    elsewhere = [s for s in candidates if s.model_gateway and s.model_gateway not in evaluator.adapters]
    out_of_reach = {s.snapshot_id for s in elsewhere}
    here = [s for s in candidates if s.snapshot_id not in out_of_reach]
    to_create = {s.snapshot_id for s in evaluator.get_snapshots_to_create(here, deployability_index)}
    # Where there is no connection to look with, what was never evaluated is created: it does no harm to a table that
    # is there.
    to_create |= {s.snapshot_id for s in elsewhere if not s.is_symbolic and not _intervals(s, deployability_index)}
    # Takes the snapshots out of `to_create` that get a `CreateNode`: their evaluation finds its table there.
    dag = scheduler._dag(batched_intervals, snapshot_dag=snapshot_dag, snapshots_to_create=to_create)
    snapshots = list(scheduler.snapshots.values())
    place = {s.name: number for number, s in enumerate(snapshots)}
    order = list(dag.sorted)
    number = {node: position for position, node in enumerate(order)}
    graph = dag.graph
    return {
        "environment": naming_info.name,
        "naming_info": json.loads(naming_info.json()),
        "deployability_index": json.loads(deployability_index.json()),
        "is_restatement": is_restatement,
        "tables_to_create": sorted(place[s.name] for s in to_create),
        "tables_to_look_for": sorted(place[s.name] for s in elsewhere),
        "snapshots": [_reference(s) for s in snapshots],
        "units": [{**_unit(node, place), "dependencies": sorted(number[d] for d in graph[node])} for node in order],
    }


def _intervals(snapshot: Snapshot, deployability_index: DeployabilityIndex) -> t.Any:
    return snapshot.intervals if deployability_index.is_deployable(snapshot) else snapshot.dev_intervals


def _unit(node: SchedulingUnit, place: dict[str, int]) -> dict[str, t.Any]:
    unit: dict[str, t.Any] = {"snapshot": place[node.snapshot_name]}
    match node:
        case EvaluateNode():
            return {**unit, "kind": "evaluate", "interval": list(node.interval), "batch_index": node.batch_index}
        case CreateNode():
            return {**unit, "kind": "create"}
        case DummyNode():
            return {**unit, "kind": "dummy"}
    raise SQLMeshError(f"This SQLMesh has a unit of work that is not known here: {type(node).__name__}.")


def _reference(snapshot: Snapshot) -> dict[str, t.Any]:
    return {
        "name": snapshot.name,
        "identifier": snapshot.identifier,
        "version": snapshot.version,
        "intervals": snapshot.intervals,
        "dev_intervals": snapshot.dev_intervals,
        "gateway": snapshot.model.gateway if snapshot.is_model else None,
    }


def _id(snapshot_id: SnapshotId) -> str:
    return json.dumps([snapshot_id.name, snapshot_id.identifier])


def _timestamp(time: TimeLike | None) -> int:
    return now_timestamp() if time is None else to_timestamp(time)


def _time(time: TimeLike | None) -> str | int | None:
    return time if time is None or isinstance(time, int | str) else time_like_to_str(time)
