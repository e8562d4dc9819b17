"""The activities of an executor: each hands its work to a runner process and records what came of it."""

import asyncio
import json
from collections.abc import Container, Sequence
from typing import Any

from temporalio import activity

from activities.bundles import Report, UnitBundles
from activities.connections import ConnectionTests
from activities.discretion import NO_ROWS
from activities.executions import Executions
from activities.pythons import Pythons, Say, WhoAsks
from activities.runner_calls import RunnerCalls, beating, infrastructure_errors
from envmanager.errors import PythonUnavailableError, RunnerCrashedError, TaskFailedError
from tcloud.api.executor import ExecutorApi
from tcloud.wire.environments import Environment
from tcloud.wire.executions import ConsoleEvent, Execution, OwnerKind, UnitKind
from tcloud.wire.plans import Plan
from tcloud.wire.policies import EvaluationPolicy
from tcloud.wire.queries import QueryKind, QueryPython
from tcloud.wire.statuses import Status
from workflows.interfaces import ExecutorActivities
from workflows.payloads import (
    RUN_STOPPED,
    LimitedUnits,
    QueryInput,
    RunInput,
    RunNotice,
    StageResult,
    StatementsRef,
    UnitGraph,
    UnitProgress,
    UnitRef,
    UnitResult,
)
from workflows.plan_payloads import CatchUpRef, PlanNotice, PlanRef, PlanStages, StageRef, StageSummary

__all__ = ["RunnerBackedActivities"]

_PROD = "prod"
_LETTERS = {"evaluate": "e", "audit": "a", "create": "c", "dummy": "d"}


class RunnerBackedActivities(ExecutorActivities):
    """Executor activities over runner processes and the server.

    Errors that are the user's to mend are results; errors of the infrastructure are raised, for Temporal to retry.

    Args:
        api: The server.
        runners: The processes that SQLMesh runs in.
        pythons: The Python environments that they live in.
        executions: The execution documents.
        units: Evaluates units.
        connection_tests: Tests connections of the vault.
        gateways: The gateways that there are connections for here, in lower case.
        notifies_of: Whether the configuration here names somebody to be notified of runs, of plans.
    """

    def __init__(
        self,
        api: ExecutorApi,
        runners: RunnerCalls,
        pythons: Pythons,
        executions: Executions,
        units: UnitBundles,
        connection_tests: ConnectionTests,
        *,
        gateways: Container[str],
        notifies_of: Container[OwnerKind] = (),
    ):
        self._api = api
        self._runners = runners
        self._pythons = pythons
        self._executions = executions
        self._units = units
        self._connection_tests = connection_tests
        self._gateways = gateways
        self._notifies_of = notifies_of

    @activity.defn
    async def build_stages(self, plan: PlanRef) -> PlanStages:
        async with beating():
            stages = await infrastructure_errors(self._build_stages(plan))
            return stages.model_copy(update={"has_notifications": OwnerKind.PLAN in self._notifies_of})

    @activity.defn
    async def apply_stage(self, stage: StageRef) -> StageResult:
        async with beating():
            return await infrastructure_errors(self._apply_stage(stage))

    @activity.defn
    async def prepare_backfill(self, stage: StageRef) -> UnitGraph:
        async with beating():
            return await infrastructure_errors(self._prepare_backfill(stage))

    @activity.defn
    async def prepare_catch_up(self, catch_up: CatchUpRef) -> UnitGraph:
        async with beating():
            return await infrastructure_errors(self._prepare_catch_up(catch_up))

    @activity.defn
    async def prepare_run(self, run: RunInput) -> UnitGraph:
        async with beating():
            graph = await infrastructure_errors(self._prepare_run(run))
            return graph.model_copy(update={"has_notifications": OwnerKind.RUN in self._notifies_of})

    @activity.defn
    async def run_statements(self, statements: StatementsRef) -> StageResult:
        async with beating():
            return await infrastructure_errors(self._run_statements(statements))

    @activity.defn
    async def notify_run(self, notice: RunNotice) -> None:
        await infrastructure_errors(self._notify_run(notice))

    @activity.defn
    async def notify_plan(self, notice: PlanNotice) -> None:
        details = {"environment": notice.environment, "plan_id": notice.plan_id}
        if notice.error is not None:
            details["exc"] = notice.error
        await infrastructure_errors(self._notify(notice.event, details, notice.plan_id))

    @activity.defn
    async def evaluate(self, units: UnitRef) -> UnitResult:
        async with beating():
            report = self._report_of(units)
            return await infrastructure_errors(self._units.evaluate(units, report, activity.is_worker_shutdown))

    @activity.defn
    async def answer_query(self, query: QueryInput) -> StageResult:
        async with beating():
            return await infrastructure_errors(self._answer_query(query.query_id))

    def _report_of(self, units: UnitRef) -> Report:
        async def report(reports: str, retry_waits: dict[int, float]) -> None:
            # Not by a signal of its own: an executor's token lets it do its work, and tell workflows nothing.
            progress = UnitProgress(bundle=units.bundle, reports=reports, retry_waits=retry_waits)
            workflow_run_id = activity.info().workflow_run_id
            assert workflow_run_id is not None  # noqa: S101 - units belong to a workflow
            await self._api.tell_progress(units.execution_id, workflow_run_id, progress.model_dump_json().encode())

        return report

    async def _notify_run(self, notice: RunNotice) -> None:
        event, error = notice.event, notice.error
        if event == RUN_STOPPED:
            record = await self._api.run(notice.run_id)
            event, error = "run_end", None
            if record.status is not Status.PREEMPTED:
                event, error = "run_failure", record.error_message or "The run was cancelled."
        details = {"environment": notice.environment}
        if error is not None:
            details = {"exc": f"Run {notice.run_id} of environment '{notice.environment}': {error}"}
        await self._notify(event, details, notice.run_id)

    async def _notify(self, event: str, details: dict[str, str], owner_id: str) -> None:
        await self._runners.plan_task("notify", {"event": event, "details": details}, owner_id)

    async def _build_stages(self, plan: PlanRef) -> PlanStages:
        record = await self._api.plan(plan.plan_id)
        arguments = {"plan_id": plan.plan_id, "default_catalog": record.default_catalog}
        try:
            python = await self._pythons.of_plan(record, self._asking_models(plan.plan_id), self._say_to(plan.plan_id))
            built = await self._runners.plan_task("build_stages", arguments, plan.plan_id, python)
        except (TaskFailedError, RunnerCrashedError, PythonUnavailableError) as error:
            return PlanStages(error=_final(error))
        stages = [StageSummary.model_validate(stage) for stage in built["stages"]]
        body = {
            "stages": [{name: stage[name] for name in ("index", "name", "count")} for stage in built["stages"]],
            "documents": built["documents"],
        }
        await self._api.put_stages(plan.plan_id, json.dumps(body).encode())
        return PlanStages(stages=stages, gateway=record.gateway)

    async def _apply_stage(self, stage: StageRef) -> StageResult:
        record, arguments = await self._stage_arguments(stage)
        try:
            arguments["part"] = stage.gateway
            applied = await self._runners.plan_task("apply_stage", arguments, stage.plan_id, record.python_environment)
        except (TaskFailedError, RunnerCrashedError, PythonUnavailableError) as error:
            return StageResult(error=_final(error))
        return StageResult(elsewhere=applied["elsewhere"])

    async def _prepare_backfill(self, stage: StageRef) -> UnitGraph:
        return await self._prepare_stage("prepare_backfill", stage, f"{stage.plan_id}.{stage.index}")

    async def _prepare_catch_up(self, stage: CatchUpRef) -> UnitGraph:
        return await self._prepare_stage("prepare_catch_up", stage, f"{stage.plan_id}.{stage.index}.{stage.round}")

    async def _prepare_stage(self, task: str, stage: StageRef, execution_id: str) -> UnitGraph:
        record, arguments = await self._stage_arguments(stage)
        arguments["execution_id"] = execution_id
        python = record.python_environment
        try:
            prepared = await self._runners.plan_task(task, arguments, stage.plan_id, python)
        except (TaskFailedError, RunnerCrashedError, PythonUnavailableError) as error:
            return UnitGraph(error=_final(error))
        if prepared.get("nothing_to_do"):
            return UnitGraph(nothing_to_do=True)
        return await self._keep({**prepared["execution"], "python_environment": python}, record.evaluation_policy)

    async def _prepare_run(self, run: RunInput) -> UnitGraph:
        run_id = (activity.info().workflow_id or "").removeprefix("run/")
        execution_id = run_id if run.round == 1 else f"{run_id}.{run.round}"
        options: dict[str, Any] = {"environment": run.environment}
        scheduled = run.trigger == "schedule"
        if not scheduled:
            options = (await self._api.begin_run(run_id, run.environment, run.trigger)).model_dump()
        # What is due is not a matter of this machine's clock. A tick may have waited for an executor while others came
        # and left their work to it; a run by hand is of the moment at which it was asked for.
        info = activity.info()
        moment = info.started_time if scheduled else info.current_attempt_scheduled_time
        now = int(moment.timestamp() * 1000)
        if options.get("execution_time") is None:
            options["execution_time"] = now
        environment = await self._api.environment(run.environment)
        ignores_pauses = bool(options.pop("ignore_pause", False))
        if not ignores_pauses and (reason := _pause_of(environment)):
            return UnitGraph(paused=reason)
        if environment and environment.gateway and environment.gateway.lower() not in self._gateways:
            return UnitGraph(elsewhere=environment.gateway)
        arguments = {
            "run_id": run_id,
            "execution_id": execution_id,
            "environment": run.environment,
            "options": options,
            "now": now,
            "gateway": environment.gateway if environment else None,
            "default_catalog": environment.default_catalog if environment else None,
        }
        python = environment.python_environment if environment else None
        try:
            prepared = await self._runners.plan_task("prepare_run", arguments, run_id, python)
        except (TaskFailedError, RunnerCrashedError, PythonUnavailableError) as error:
            message = _final(error)
            if scheduled:
                await self._api.begin_run(run_id, run.environment, run.trigger)
            return UnitGraph(error=message)
        if prepared.get("nothing_to_do"):
            return UnitGraph(nothing_to_do=True)
        if scheduled:
            # Recorded only now: a tick with nothing due leaves nothing behind.
            await self._api.begin_run(run_id, run.environment, run.trigger)
        execution = {**prepared["execution"], "ignores_pauses": ignores_pauses, "python_environment": python}
        return await self._keep(execution, environment.evaluation_policy if environment else None)

    async def _run_statements(self, statements: StatementsRef) -> StageResult:
        execution = await self._executions.get(statements.execution_id)
        if not execution.ignores_pauses:
            reason = _pause_of(await self._api.environment(statements.environment))
            if reason is not None:
                return StageResult(paused=reason)
        arguments = {
            "execution": execution.model_dump(mode="json"),
            "runtime_stage": statements.runtime_stage,
        }
        try:
            python = execution.python_environment
            await self._runners.plan_task("run_statements", arguments, execution.owner_id, python)
        except (TaskFailedError, RunnerCrashedError, PythonUnavailableError) as error:
            return StageResult(error=_final(error))
        return StageResult()

    async def _answer_query(self, query_id: str) -> StageResult:
        question = json.loads(await self._api.query(query_id))
        kind = QueryKind(question["kind"])
        is_test = kind is QueryKind.TEST_CONNECTION
        if not is_test and question["gateway"].lower() not in self._gateways:
            return StageResult(elsewhere=[question["gateway"]])
        if not is_test and self._runners.keeps_home and not kind.is_housekeeping:
            return StageResult(error=NO_ROWS)
        asked = QueryPython.model_validate(question.pop("python", {}))
        try:
            if is_test:
                answered = await self._connection_tests.test(query_id)
            else:
                if kind.is_housekeeping:
                    python = await self._python_of_housekeeping(question["arguments"])
                else:
                    python = await self._pythons.of_query(asked, self._say_to(query_id))
                answered = await self._runners.plan_task("answer_query", question, query_id, python)
        except PythonUnavailableError as error:
            # Somebody waits for the answer, and may ask again.
            return StageResult(error=str(error))
        except (TaskFailedError, RunnerCrashedError) as error:
            return StageResult(error=_final(error))
        await self._api.put_answer(query_id, json.dumps(answered["answer"]).encode())
        return StageResult()

    async def _python_of_housekeeping(self, arguments: dict[str, Any]) -> str | None:
        """To drop what a package's materialization has made takes that package."""
        for name in (arguments.get("environment"), _PROD):
            environment = await self._api.environment(name) if name else None
            if environment is not None and environment.python_environment is not None:
                return environment.python_environment
        return None

    def _asking_models(self, plan_id: str) -> WhoAsks:
        async def ask(packages: Sequence[str]) -> dict[str, list[str]]:
            arguments = {"plan_id": plan_id, "packages": list(packages)}
            models: dict[str, list[str]] = (await self._runners.plan_task("who_asks", arguments, plan_id))["models"]
            return models

        return ask

    def _say_to(self, owner_id: str) -> Say:
        async def say(line: str) -> None:
            event = ConsoleEvent(type="log_status_update", payload={"message": line})
            await self._api.owner_events(owner_id, [event])

        return say

    async def _stage_arguments(self, stage: StageRef) -> tuple[Plan, dict[str, Any]]:
        record, document = await asyncio.gather(
            self._api.plan(stage.plan_id), self._api.stage(stage.plan_id, stage.index)
        )
        return record, {
            "plan_id": stage.plan_id,
            "stage": json.loads(document),
            "gateway": record.gateway,
            "default_catalog": record.default_catalog,
        }

    async def _keep(self, document: dict[str, Any], policy: EvaluationPolicy | None) -> UnitGraph:
        _limit(document["snapshots"], policy or EvaluationPolicy())
        execution = Execution.model_validate(document)
        await self._api.put_execution(execution.execution_id, json.dumps(document).encode())
        self._executions.remember(execution)
        return UnitGraph(
            execution_id=execution.execution_id,
            kinds="".join(_LETTERS[unit.kind] for unit in execution.units),
            dependencies=[unit.dependencies for unit in execution.units],
            has_environment_statements=execution.has_environment_statements,
            limited=_limited_units(execution),
            gateway=execution.gateway,
            gateways=_units_by_gateway(execution),
        )


def _pause_of(environment: Environment | None) -> str | None:
    """Why nothing is to be started in an environment; None if it is not paused as a whole."""
    pause = next((pause for pause in environment.pauses if pause.model is None), None) if environment else None
    return f"Environment '{pause.environment}' is {pause.explained}" if pause is not None else None


def _limit(snapshots: list[dict[str, Any]], policy: EvaluationPolicy) -> None:
    """Notes with each snapshot what the project asks of its evaluations; without a word where it asks nothing."""
    for snapshot in [] if policy.is_empty else snapshots:
        limits = policy.of(snapshot["name"])
        asked = {
            "retries": limits.retries,
            "retry_backoff_seconds": limits.retry_backoff_seconds,
            "timeout_seconds": limits.evaluation_timeout_seconds,
            "concurrent_evaluations": limits.concurrent_evaluations,
        }
        snapshot.update({name: value for name, value in asked.items() if value is not None})


def _limited_units(execution: Execution) -> list[LimitedUnits]:
    """The units of models of which not all may be evaluated at a time."""
    units: dict[int, list[int]] = {}
    for number, unit in enumerate(execution.units):
        if execution.snapshots[unit.snapshot].concurrent_evaluations and unit.kind is not UnitKind.DUMMY:
            units.setdefault(unit.snapshot, []).append(number)
    limits = ((execution.snapshots[snapshot].concurrent_evaluations or 0, found) for snapshot, found in units.items())
    return [LimitedUnits(units=found, at_once=limit) for limit, found in limits if len(found) > limit]


def _units_by_gateway(execution: Execution) -> dict[str, list[int]]:
    """The units of models whose gateway is not that of the execution."""
    units: dict[str, list[int]] = {}
    for number, unit in enumerate(execution.units):
        gateway = execution.snapshots[unit.snapshot].gateway
        if gateway and gateway.lower() != execution.gateway.lower() and unit.kind is not UnitKind.DUMMY:
            units.setdefault(gateway.lower(), []).append(number)
    return units


def _final(error: TaskFailedError | RunnerCrashedError | PythonUnavailableError) -> str:
    """The message of an error that no retry mends; one that a retry may mend is raised again."""
    if isinstance(error, TaskFailedError | PythonUnavailableError) and error.retryable:
        raise error
    return str(error)
