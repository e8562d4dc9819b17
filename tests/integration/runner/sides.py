"""One project on its way through SQLMesh's built-in scheduler, or through the tasks of a runner process."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlmesh import Context
from sqlmesh.core.config import DuckDBConnectionConfig
from sqlmesh.core.console import set_console
from sqlmesh.core.plan import Plan
from sqlmesh.core.snapshot import SnapshotChangeCategory
from sqlmesh.core.state_sync import EngineAdapterStateSync
from sqlmesh.core.state_sync.export_import import export_state
from sqlmesh.utils.date import now_timestamp
from sqlmesh.utils.errors import PlanError, SQLMeshError

from tcloud.wire.executions import Execution
from tempomesh_runner.console import (
    Event,
    RelayConsole,
    failed_models_event,
    skipped_models_event,
    stop_evaluation_event,
)
from tempomesh_runner.snapshots import GET_PLAN
from tempomesh_runner.state_answers import answer
from tempomesh_runner.state_values import parse_intervals
from tempomesh_runner.tasks import Worker
from tests.equality.outcome import Outcome, read_state
from tests.integration.runner.warehouses import Warehouse

__all__ = ["BuiltIn", "Driven", "Evaluated", "Side"]

_SAID_BY_THE_CALLER = ("log_success", "log_status_update")


@dataclass
class Side:
    """A project in a folder, with warehouses and a state of its own."""

    folder: Path
    warehouses: Mapping[str, Warehouse]
    """By the gateway's name; the first is the default one."""
    events: list[Event] = field(default_factory=list)
    """What the console was told since it was last asked."""
    repositories: Sequence[str] = ()
    """Folders in the folder that are repositories of their own, planned together; none if it is one itself."""

    def plan(
        self, environment: str, choices: Mapping[str, SnapshotChangeCategory] | None = None, **options: Any
    ) -> Exception | None:
        """Plans and applies; returns the error with which that failed.

        Args:
            environment: Which one.
            choices: The categories that somebody chooses, by the names of models.
            options: As `Context.plan_builder` takes them.
        """
        set_console(RelayConsole(self.events.append))
        with chdir(self.folder), closing(self.context()) as context:
            builder = context.plan_builder(environment, skip_tests=True, **options)
            for name, category in (choices or {}).items():
                builder.set_choice(builder.build().context_diff.snapshots_by_name[name], category)
            built = builder.build()
            # Making a plan is the same on both sides; what counts is how it is applied.
            self.events.clear()
            try:
                context.apply(built)
            except SQLMeshError as error:
                return error
        return None

    @property
    def paths(self) -> list[str]:
        """Where the files of the project are."""
        return [str(self.folder / name) for name in self.repositories] or [str(self.folder)]

    def context(self) -> Context:
        """The project, loaded from its files."""
        return Context(paths=self.paths)

    def take_events(self) -> list[str]:
        """The console events since the last call, less how long anything took, in an order of their own."""
        for event in self.events:
            event["payload"].pop("duration_ms", None)
            event["payload"].pop("duration", None)
            for name in ("snapshots", "snapshots_to_create"):
                # SQLMesh goes through sets here: their order is another in each process.
                if name in event["payload"]:
                    event["payload"][name] = sorted(event["payload"][name], key=repr)
        taken = sorted(json.dumps(event, sort_keys=True) for event in self.events)
        self.events.clear()
        return taken

    def outcome(self) -> Outcome:
        """State and warehouse as they are now."""
        export = self.folder / "export.json"
        with closing(self.open_state()) as state:
            export_state(state_sync=state, output_file=export)
        relations = {
            f"{gateway}: {name}": relation
            for gateway, warehouse in self.warehouses.items()
            for name, relation in warehouse.relations().items()
        }
        return Outcome(read_state(export), relations)

    def open_state(self) -> EngineAdapterStateSync:
        """The state, with nothing cached in front of it."""
        connection = DuckDBConnectionConfig(database=str(self.folder / "state.duckdb"))
        cache = self.folder / "cache"
        if (self.folder / "seeds").exists():
            # SQLMesh's cache of parsed snapshots has the content of seeds, which the state itself does not keep.
            shutil.rmtree(cache, ignore_errors=True)
        return EngineAdapterStateSync(connection.create_engine_adapter(), schema="sqlmesh", cache_dir=cache)


class BuiltIn(Side):
    """Through SQLMesh's built-in scheduler."""

    def run(self, environment: str, **options: Any) -> str:
        """Runs what is due; returns how it went, or the error."""
        set_console(RelayConsole(self.events.append))
        with chdir(self.folder), closing(self.context()) as context:
            # Warnings about where this side keeps its state are nobody else's.
            assert context.state_sync
            self.events.clear()
            try:
                ended = context.run(environment, skip_janitor=True, **options).name.lower()
            except SQLMeshError as error:
                ended = str(error)
        # How a run as a whole went is said by whoever started it.
        self.events[:] = [event for event in self.events if event["type"] not in _SAID_BY_THE_CALLER]
        return ended


@dataclass(frozen=True)
class Evaluated:
    """An execution whose units have been evaluated."""

    execution: dict[str, Any]
    outcomes: dict[int, dict[str, Any]]
    """By the unit's number; those that were skipped are missing."""

    @property
    def has_failed(self) -> bool:
        """Whether one of the units failed."""
        return any(outcome["status"] == "failed" for outcome in self.outcomes.values())


@dataclass
class Driven(Side):
    """Through the tasks of runner processes, called in the order in which workflows call them."""

    is_forgetful: bool = False
    """Whether each task has a process of its own, as if the one before had died."""
    evaluated: list[Evaluated] = field(default_factory=list)
    _plans: dict[str, str] = field(default_factory=dict)
    _planned_with: dict[str, dict[str, Any]] = field(default_factory=dict)
    _worker: Worker | None = None

    def context(self) -> Context:
        return _DrivenContext(self)

    def apply(self, context: Context, plan: Plan) -> None:
        """Applies a plan."""
        evaluatable = plan.to_evaluatable()
        self._plans[plan.plan_id] = evaluatable.json()
        gateway, default_catalog = context.selected_gateway, context.default_catalog
        self._planned_with[plan.environment.name] = {"gateway": gateway, "default_catalog": default_catalog}
        common = {"plan_id": plan.plan_id, "default_catalog": default_catalog}
        built = self.call("build_stages", **common)
        for stage, document in zip(built["stages"], json.loads(json.dumps(built["documents"])), strict=True):
            arguments = {**common, "stage": document, "gateway": gateway}
            if stage["kind"] == "single":
                self.call("apply_stage", **arguments)
                continue
            task = {"backfill": "prepare_backfill", "promotion": "prepare_catch_up"}[stage["kind"]]
            prepared = self.call(task, **arguments, execution_id=f"{plan.plan_id}.{stage['index']}")
            if not prepared.get("nothing_to_do") and self.evaluate(prepared["execution"]).has_failed:
                raise PlanError("Plan application failed.")
            if stage["kind"] == "promotion":
                self.call("apply_stage", **arguments)

    def run(self, environment: str, **options: Any) -> str:
        """Runs what is due; returns how it went, or the error."""
        if options.get("select_models") is not None:
            options["select_models"] = self._select(environment, **options)
        options.pop("no_auto_upstream", None)
        try:
            return self._run(environment, options)
        except SQLMeshError as error:
            return str(error)

    def evaluate(self, execution: dict[str, Any], *, recheck: bool = False) -> Evaluated:
        """Evaluates the units of an execution, less what is downstream of a failure, and records them."""
        execution = Execution.model_validate(execution).model_dump(mode="json")
        done = Evaluated(execution, {})
        lost: set[int] = set()
        for number, unit in enumerate(execution["units"]):
            assert all(dependency < number for dependency in unit["dependencies"])
            if lost.intersection(unit["dependencies"]):
                lost.add(number)
            elif unit["kind"] != "dummy":
                done.outcomes[number] = self._evaluate_unit(execution, number, recheck=recheck)
                if done.outcomes[number]["status"] == "failed":
                    lost.add(number)
        self._close(done, lost - done.outcomes.keys())
        self.evaluated.append(done)
        return done

    def call(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Executes a task, with arguments and a result that go through JSON."""
        if self._worker is None or self.is_forgetful:
            self._worker = Worker(self._transport, self.events.append)
        with pytest.MonkeyPatch.context() as environment:
            # Only here: SQLMesh lets these variables overrule what a project's own configuration says.
            for gateway, warehouse in self.warehouses.items():
                for option, value in warehouse.connection.items():
                    name = f"SQLMESH__GATEWAYS__{gateway.upper()}__CONNECTION__{option.upper()}"
                    environment.setenv(name, str(value))
            environment.setenv("SQLMESH__DEFAULT_GATEWAY", next(iter(self.warehouses)))
            with chdir(self.folder):
                result = self._worker.run(task, json.loads(json.dumps(arguments)))
        gone_through_json: dict[str, Any] = json.loads(json.dumps(result))
        return gone_through_json

    def _run(self, environment: str, options: dict[str, Any]) -> str:
        prepared = self.call(
            "prepare_run",
            run_id=(run_id := uuid4().hex),
            execution_id=run_id,
            environment=environment,
            options=options,
            now=now_timestamp(),
            **self._planned_with[environment],
        )
        if prepared.get("nothing_to_do"):
            return "nothing_to_do"
        execution = prepared["execution"]
        if execution["has_environment_statements"]:
            self.call("run_statements", execution=execution, runtime_stage="before_all")
        evaluated = self.evaluate(execution)
        if execution["has_environment_statements"]:
            self.call("run_statements", execution=execution, runtime_stage="after_all")
        return "failure" if evaluated.has_failed else "success"

    def _select(
        self, environment: str, *, select_models: list[str], no_auto_upstream: bool = False, **_: Any
    ) -> list[str]:
        with closing(self.context()) as context, closing(self.open_state()) as state:
            stored = state.get_environment(environment)
            assert stored
            snapshots = state.get_snapshots(stored.snapshots).values()
            return sorted(context._select_models_for_run(select_models, no_auto_upstream, snapshots))

    def _evaluate_unit(self, execution: dict[str, Any], number: int, *, recheck: bool) -> dict[str, Any]:
        arguments = {"execution_id": execution["execution_id"], "unit": number, "recheck": recheck}
        outcome = self.call("evaluate_unit", **arguments, execution=None)
        if outcome.get("need_execution"):
            outcome = self.call("evaluate_unit", **arguments, execution=execution)
        self.events.extend(outcome["events"])
        if outcome["intervals"] is not None:
            with closing(self.open_state()) as state:
                state.add_snapshots_intervals([parse_intervals(outcome["intervals"])])
        return outcome

    def _close(self, done: Evaluated, skipped: set[int]) -> None:
        units, snapshots = done.execution["units"], done.execution["snapshots"]
        names = {snapshots[units[n]["snapshot"]]["name"] for n in skipped if units[n]["kind"] == "evaluate"}
        failures = [
            {
                **{name: units[n][name] for name in ("batch_index", "interval", "kind")},
                "name": snapshots[units[n]["snapshot"]]["name"],
                "cause": outcome["cause"],
            }
            for n, outcome in done.outcomes.items()
            if outcome["status"] == "failed"
        ]
        self.events += [
            stop_evaluation_event(success=not failures),
            skipped_models_event(names),
            failed_models_event(failures),
        ]

    def _transport(self, method: str, body: bytes) -> bytes:
        if method == GET_PLAN:
            return self._plans[json.loads(body)["plan_id"]].encode()
        with closing(self.open_state()) as state:
            return answer(state, method, body)


class _DrivenContext(Context):
    """Whose plans are applied by the tasks; what comes before that, SQLMesh itself decides."""

    def __init__(self, side: Driven) -> None:
        self._side = side
        super().__init__(paths=side.paths)

    def _apply(self, plan: Plan, circuit_breaker: Callable[[], bool] | None) -> None:
        self._side.apply(self, plan)
