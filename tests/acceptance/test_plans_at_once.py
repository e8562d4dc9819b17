"""Many plans for one environment, and plans whose executor and control worker die in the middle of each stage."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from sqlmesh import __version__ as sqlmesh_version
from sqlmesh.core import constants
from sqlmesh.core.plan import EvaluatablePlan

from tcloud.scheduler import RemoteContext
from tcloud.wire.plans import Plan
from tests.acceptance.locks import held_up, waiting
from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.processes import StackProcesses
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack, running_stack

pytestmark = pytest.mark.timeout(400)

PLANNERS = 20
LOCK = 250_301
HELD = f"SELECT pg_advisory_xact_lock_shared({LOCK})"
STAGES = {
    "before": "BeforeAllStage",
    "records": "CreateSnapshotRecordsStage",
    "schemas": "PhysicalLayerSchemaCreationStage",
    "backfill": "BackfillStage",
    "promotion": "EnvironmentRecordUpdateStage",
    "views": "VirtualLayerUpdateStage",
    "finalizing": "FinalizeEnvironmentStage",
    "after": "AfterAllStage",
}
"""Environments, and the stage in which the plan of each is held up."""


class Planner:
    """A person's machine, in this process."""

    def __init__(self, stack: RunningStack, folder: Path, name: str):
        self.stack = stack
        self.name = name
        self.folder = folder
        (folder / "models").mkdir(parents=True)
        (folder / "config.yaml").write_text(scheduled_config("2025-01-01"))

    def write(self, model: str, text: str) -> None:
        (self.folder / "models" / f"{model}.sql").write_text(text)

    def plan(self) -> EvaluatablePlan:
        """Makes a plan of the files as they are."""
        with chdir(self.folder), closing(RemoteContext(paths=str(self.folder))) as context:
            self._origin = (context.selected_gateway, context.default_catalog)
            return context.plan_builder(self.name, skip_tests=True, include_unmodified=True).build().to_evaluatable()

    def submit(self, plan: EvaluatablePlan) -> Plan:
        gateway, catalog = self._origin
        with self.stack.api() as api:
            return api.submit_plan(
                plan.json(), gateway=gateway, default_catalog=catalog, sqlmesh_version=sqlmesh_version
            )

    def ended(self, plan: Plan, timeout: float = 180) -> Plan:
        with self.stack.api() as api:
            eventually(lambda: api.plan(plan.plan_id).end_at is not None, timeout)
            return api.plan(plan.plan_id)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunningStack], None]:
    """Lets this process sign in at a stack."""

    def sign_in(stack: RunningStack) -> None:
        # SQLMesh's loader forks otherwise, in a process that has threads.
        monkeypatch.setattr(constants, "MAX_FORK_WORKERS", 1)
        for name, value in {**stack.client_environment, "TCLOUD_HOME": str(stack.data_dir / "client")}.items():
            monkeypatch.setenv(name, value)

    return sign_in


def test_of_twenty_plans_made_from_the_same_base_one_is_applied(
    tempomesh_stack: RunningStack, tmp_path: Path, here: Callable[[RunningStack], None]
) -> None:
    here(tempomesh_stack)
    planner = Planner(tempomesh_stack, tmp_path / "project", "crowded")
    plans = []
    for number in range(PLANNERS):
        planner.write("contested", f"MODEL (name crowded.contested, kind FULL); SELECT {number} AS planner")
        plans.append(planner.plan())
    with ThreadPoolExecutor(PLANNERS) as pool:
        submitted = list(pool.map(planner.submit, plans))
    ended = [planner.ended(plan) for plan in submitted]

    (applied,) = [plan for plan in ended if plan.status == "success"]
    others = [plan for plan in ended if plan is not applied]
    for plan in others:
        assert plan.status == "failed"
        assert (plan.error_message or "").startswith(
            f"Another plan ({applied.plan_id}) was applied by admin to the target environment 'crowded'"
        )
        assert plan.stages == [], "nothing was touched"
    first = min(ended, key=lambda plan: (plan.start_at or plan.end_at, plan.end_at))
    assert applied == first, "the first in the queue"
    records = Records(tempomesh_stack)
    tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'sqlmesh__crowded'"
    assert len(records.ask("warehouse", tables)) == 1, "no table is orphaned"
    winner = [submitted.index(plan) for plan in submitted if plan.plan_id == applied.plan_id]
    assert records.ask("warehouse", "SELECT planner FROM crowded__crowded.contested") == [tuple(winner)]

    for number in range(PLANNERS, PLANNERS + 3):
        planner.write("contested", f"MODEL (name crowded.contested, kind FULL); SELECT {number} AS planner")
        assert planner.ended(planner.submit(planner.plan())).status == "success"
        assert records.ask("warehouse", "SELECT planner FROM crowded__crowded.contested") == [(number,)]


def test_executor_and_control_worker_die_in_every_stage(
    tmp_path: Path, here: Callable[[RunningStack], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCLOUD_EXECUTOR_CONCURRENCY", str(2 * len(STAGES)))
    with running_stack(tmp_path / "stack") as stack:
        here(stack)
        planners = [_project(stack, tmp_path / name, name) for name in STAGES]
        plans = [planner.plan() for planner in planners]
        with held_up_in_stages(stack):
            submitted = [planner.submit(plan) for planner, plan in zip(planners, plans, strict=True)]
            eventually(lambda: waiting(stack, LOCK) == len(STAGES), 90)
            with stack.api() as api:
                found = {plan.environment: plan.stages for plan in api.plans()}
            held = {name: [s.name for s in stages if s.status == "in_progress"] for name, stages in found.items()}
            assert held == {name: [stage] for name, stage in STAGES.items()}
            processes = StackProcesses(stack)
            for victim in (processes.of("executor", "apply"), processes.of("worker")):
                os.kill(victim.pid, signal.SIGKILL)
        for planner, plan in zip(planners, submitted, strict=True):
            ended = planner.ended(plan)
            assert ended.status == "success", ended
            assert {stage.status for stage in ended.stages} == {"success"}
            rows = Records(stack).ask("warehouse", f"SELECT id FROM {planner.name}__{planner.name}.m")
            assert rows == [(1,)]
            changed = planner.plan()
            assert not changed.new_snapshots
            assert changed.environment.previous_plan_id == plan.plan_id
        Records(stack).nothing_is_held()


def _project(stack: RunningStack, folder: Path, name: str) -> Planner:
    planner = Planner(stack, folder, name)
    config = folder / "config.yaml"
    statements = {"before": "before_all", "after": "after_all"}
    if name in statements:
        config.write_text(f"{config.read_text()}{statements[name]}:\n  - {HELD}\n")
    waits = f"CAST({HELD.removeprefix('SELECT ')} AS TEXT)" if name == "backfill" else "NULL::TEXT"
    planner.write("m", f"MODEL (name {name}.m, kind FULL); SELECT 1 AS id, {waits} AS waited")
    return planner


@contextmanager
def held_up_in_stages(stack: RunningStack) -> Iterator[None]:
    """Holds each plan up in its stage: in a statement, in DDL of the warehouse, or in a row of SQLMesh's state."""
    schema = "SELECT table_schema FROM information_schema.tables WHERE table_name = '_environments'"
    ((state,),) = Records(stack).ask("tempomesh", schema)
    databases = {"warehouse": _HOLD_DDL, "tempomesh": _HOLD_ROWS.format(state=state)}
    for database, holding in databases.items():
        dsn = stack.warehouse_dsn.replace("/warehouse?", f"/{database}?")
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(holding)
            connection.commit()
    with held_up(stack, LOCK, "warehouse"), held_up(stack, LOCK, "tempomesh"):
        yield


_HOLD_DDL = f"""
CREATE FUNCTION hold_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_query() LIKE '%CREATE SCHEMA%"sqlmesh__schemas"%' OR current_query() LIKE '%VIEW%"views__views"%' THEN
    PERFORM pg_advisory_xact_lock_shared({LOCK});
  END IF;
END $$;
CREATE EVENT TRIGGER hold_ddl ON ddl_command_start EXECUTE FUNCTION hold_ddl();
"""
_HOLD_ROWS = f"""
CREATE FUNCTION hold_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared({LOCK});
  RETURN NEW;
END $$;
CREATE TRIGGER hold_records BEFORE INSERT ON {{state}}._snapshots FOR EACH ROW
  WHEN (NEW.name LIKE '%"records"%') EXECUTE FUNCTION hold_row();
CREATE TRIGGER hold_promotion BEFORE INSERT ON {{state}}._environments FOR EACH ROW
  WHEN (NEW.name = 'promotion') EXECUTE FUNCTION hold_row();
CREATE TRIGGER hold_finalizing BEFORE UPDATE ON {{state}}._environments FOR EACH ROW
  WHEN (NEW.name = 'finalizing' AND NEW.finalized_ts IS NOT NULL) EXECUTE FUNCTION hold_row();
"""
