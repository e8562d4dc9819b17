"""Evaluations that fail or take too long, in a project that asks for retries and has a limit."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

CONFIG = """
gateways:
  warehouse:
    scheduler:
      type: cloud
      retries: 2
      retry_backoff_seconds: 0.5
      models:
        retried.slow: {retries: 1, evaluation_timeout_seconds: 2}
        RETRIED.audited: {retries: 5}
default_gateway: warehouse
model_defaults: {dialect: postgres, start: 2025-01-01, cron: '@daily'}
"""
MODELS = {
    # A sequence counts what is rolled back, too: the first two attempts fail.
    "flaky": "MODEL (name retried.flaky, kind FULL);\n"
    "SELECT 1 / (CASE WHEN NEXTVAL('public.retried_calls') < 3 THEN 0 ELSE 1 END) AS id",
    "slow": "MODEL (name retried.slow, kind INCREMENTAL_BY_TIME_RANGE (time_column day));\n"
    "SELECT @start_ds::DATE AS day,\n"
    "CAST(pg_sleep(CASE WHEN @start_ds::DATE > '2025-01-02' THEN 3600 ELSE 0 END) AS TEXT) AS retried_sleeps",
    "audited": "MODEL (name retried.audited, kind INCREMENTAL_BY_TIME_RANGE (time_column day),\n"
    "audits (not_null(columns := (id))));\n"
    "SELECT @start_ds::DATE AS day, CASE WHEN @start_ds::DATE > '2025-01-02' THEN NULL ELSE 1 END::INT AS id",
}

QUERIES = (
    "SELECT query FROM pg_stat_activity "
    "WHERE state = 'active' AND query LIKE '%retried_sleeps%' AND pid <> pg_backend_pid()"
)


def on_the_warehouse(stack: RunningStack, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(stack.warehouse_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows


def evaluations(stack: RunningStack, what: str, its_id: str) -> dict[str, dict[str, Any]]:
    shown = json.loads(stack.tcloud(what, "show", its_id, "-o", "json").stdout)
    return {e["model"].split('"')[-2]: e for e in shown["evaluations"]}


def test_failed_evaluations_are_tried_again_and_long_ones_are_stopped(
    tempomesh_stack: RunningStack, tmp_path: Path
) -> None:
    stack = tempomesh_stack
    on_the_warehouse(stack, "CREATE SEQUENCE public.retried_calls")
    (tmp_path / "models").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(CONFIG)
    for name, model in MODELS.items():
        (tmp_path / "models" / f"{name}.sql").write_text(model)

    planned = stack.tcloud(
        *("sqlmesh", "-p", str(tmp_path), "plan", "retried", "--auto-apply", "--no-prompts", "--include-unmodified"),
        *("--execution-time", "2025-01-03 12:00:00"),
    )

    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "is tried again in 0.5 seconds (retry 2 of 2): division by zero" in " ".join(planned.stdout.split())
    (plan, *_) = json.loads(stack.tcloud("plans", "list", "-o", "json").stdout)
    in_plan = evaluations(stack, "plans", plan["plan_id"])
    assert (in_plan["flaky"]["status"], in_plan["flaky"]["attempt"]) == ("success", 3)
    assert (in_plan["slow"]["status"], in_plan["slow"]["attempt"]) == ("success", 1)

    started = stack.tcloud(
        *("runs", "start", "--environment", "retried", "-o", "json"),
        *("--end", "2025-01-03", "--execution-time", "2025-01-04 12:00:00"),
    )

    assert started.returncode == 1, started.stdout + started.stderr
    (run, *_) = json.loads(stack.tcloud("runs", "list", "--environment", "retried", "-o", "json").stdout)
    in_run = evaluations(stack, "runs", run["run_id"])
    assert (in_run["flaky"]["status"], in_run["flaky"]["attempt"]) == ("success", 1)
    assert (in_run["slow"]["status"], in_run["slow"]["attempt"]) == ("failed", 2)
    limit = "It was stopped: it took longer than 2 seconds, the limit that evaluation_timeout_seconds of the project"
    assert in_run["slow"]["error_message"] == f"{limit} sets."
    assert on_the_warehouse(stack, QUERIES) == [], "the query went on in the warehouse"
    # What an audit has found stays to be found.
    assert (in_run["audited"]["status"], in_run["audited"]["attempt"]) == ("failed", 1)
