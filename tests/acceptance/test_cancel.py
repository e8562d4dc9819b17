"""A run that is cancelled: its queries stop in the warehouse, nothing stays behind, the record says who did it."""

import json
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

CONFIG = scheduled_config("2025-01-01")
SLEEP = "cancelled_model_sleeps"
SLOW = f"""
MODEL (name cancelled.slow, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT
  @start_ds::DATE AS day,
  CAST(pg_sleep(CASE WHEN @start_ds::DATE > '2025-01-02' THEN 3600 ELSE 0 END) AS TEXT) AS {SLEEP}
"""
AFTER = "MODEL (name cancelled.after, kind FULL); SELECT COUNT(*) AS days FROM cancelled.slow"


def queries(stack: RunningStack) -> int:
    with closing(psycopg2.connect(stack.warehouse_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM pg_stat_activity "
            "WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()",
            (f"%{SLEEP}%",),
        )
        ((count,),) = cursor.fetchall()
        return int(count)


def claims(stack: RunningStack) -> int:
    dsn = stack.warehouse_dsn.replace("/warehouse?", "/tempomesh?")
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM tempomesh.claims")
        ((count,),) = cursor.fetchall()
        return int(count)


def test_a_cancelled_run_stops_its_queries_and_leaves_nothing_behind(
    tempomesh_stack: RunningStack, tmp_path: Path
) -> None:
    stack = tempomesh_stack
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(CONFIG)
    (project / "models" / "slow.sql").write_text(SLOW)
    (project / "models" / "after.sql").write_text(AFTER)
    planned = stack.tcloud(
        *("sqlmesh", "-p", str(project), "plan", "cancelled", "--auto-apply", "--no-prompts", "--include-unmodified"),
        *("--execution-time", "2025-01-03 12:00:00"),
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr
    started = stack.tcloud(
        *("runs", "start", "--environment", "cancelled", "--no-follow", "-o", "json"),
        *("--end", "2025-01-03", "--execution-time", "2025-01-04 12:00:00"),
    )
    run_id = json.loads(started.stdout)["run_id"]
    eventually(lambda: queries(stack) == 1, 60)

    cancelled = stack.tcloud("runs", "cancel", run_id, "-o", "json")

    assert cancelled.returncode == 0, cancelled.stderr
    eventually(lambda: queries(stack) == 0 and claims(stack) == 0, 30)
    run = json.loads(stack.tcloud("runs", "show", run_id, "-o", "json").stdout)
    assert run["status"] == "aborted"
    assert run["error_message"].startswith("Cancelled by ")
    statuses = {e["model"].split('"')[-2]: e["status"] for e in run["evaluations"]}
    assert statuses["slow"] == "aborted"
    slow = next(e for e in run["evaluations"] if "slow" in e["model"])
    assert slow["error_message"] == run["error_message"]
    assert statuses.get("after", "skipped") in ("skipped", "aborted")
