"""An executor that is killed in the middle of an evaluation: another one finishes it, and nothing is recorded twice."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from tests.eventually import eventually
from tests.fixtures.stack import RunningStack, running_stack

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(400)]

CONFIG = """
gateways:
  warehouse:
    scheduler: {type: cloud}
default_gateway: warehouse
model_defaults: {dialect: postgres, start: 2025-01-01, cron: '@daily'}
"""
SLOW = """
MODEL (name lost.slow, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT @start_ds::DATE AS day, CAST(pg_sleep(8) AS TEXT) AS slept
"""
AFTER = "MODEL (name lost.after, kind FULL); SELECT COUNT(*) AS days FROM lost.slow"
BESIDE = "MODEL (name lost.beside, kind FULL); SELECT 1 AS id"


def write_project(folder: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    for name, model in (("slow", SLOW), ("after", AFTER), ("beside", BESIDE)):
        (folder / "models" / f"{name}.sql").write_text(model)
    return folder


def shown(stack: RunningStack, run_id: str) -> dict[str, Any]:
    result = stack.tcloud("runs", "show", run_id, "-o", "json")
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def run_executor(stack: RunningStack) -> psutil.Process:
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        if child.cmdline()[-2:] == ["executor", "run"]:
            return child
    raise AssertionError("the stack has no run executor")


def intervals(stack: RunningStack, model: str) -> list[tuple[int, int]]:
    dsn = stack.warehouse_dsn.replace("/warehouse?", "/tempomesh?")
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT table_schema FROM information_schema.tables WHERE table_name = '_intervals'")
        ((schema,),) = cursor.fetchall()
        cursor.execute(f"SELECT start_ts, end_ts FROM {schema}._intervals WHERE name LIKE %s", (f"%{model}%",))
        return cursor.fetchall()


def test_another_executor_finishes_and_every_interval_is_recorded_once(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    with running_stack(tmp_path / "data") as stack:
        planned = stack.tcloud(
            *("sqlmesh", "-p", str(project), "plan", "prod", "--auto-apply", "--no-prompts"),
            *("--execution-time", "2025-01-03 12:00:00"),
        )
        assert planned.returncode == 0, planned.stdout + planned.stderr

        started = stack.tcloud(
            *("runs", "start", "--no-follow", "-o", "json"),
            *("--end", "2025-01-06", "--execution-time", "2025-01-07 12:00:00"),
        )
        assert started.returncode == 0, started.stderr
        run_id = json.loads(started.stdout)["run_id"]

        def slow_is_evaluated() -> bool:
            evaluations = shown(stack, run_id).get("evaluations") or []
            return any("slow" in e["model"] and e["status"] == "in_progress" for e in evaluations)

        eventually(slow_is_evaluated, 60)
        run_executor(stack).kill()

        ended = eventually(lambda: run if (run := shown(stack, run_id))["end_at"] else None, 200)

        assert ended is not None
        assert ended["status"] == "success", ended
        by_model = {e["model"].split('"')[-2]: e for e in ended["evaluations"]}
        assert {name: e["status"] for name, e in by_model.items()} == dict.fromkeys(by_model, "success")
        assert {"slow", "after", "beside"} <= by_model.keys()
        assert by_model["slow"]["attempt"] == 2
        recorded = intervals(stack, "slow")
        assert len(recorded) == len(set(recorded)) == 2, "one of the plan, one of the run"
