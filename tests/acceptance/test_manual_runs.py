"""Runs by hand: what is selected is evaluated and nothing else, and all of it can be read afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.projects import scheduled_config
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

CONFIG = scheduled_config("2025-01-01")
INCREMENTAL = "kind INCREMENTAL_BY_TIME_RANGE (time_column day)"
MODELS = {
    "first": f"MODEL (name manual.first, {INCREMENTAL}); SELECT @start_ds::DATE AS day",
    "second": f"MODEL (name manual.second, {INCREMENTAL}, tags [late]); SELECT day FROM manual.first "
    "WHERE day BETWEEN @start_ds AND @end_ds",
    "aside": f"MODEL (name manual.aside, {INCREMENTAL}); SELECT @start_ds::DATE AS day",
    # Divides by zero if its last day is the fifth.
    "broken": f"MODEL (name manual.broken, {INCREMENTAL}); "
    "SELECT @start_ds::DATE AS day, 1 / (5 - EXTRACT(DAY FROM @end_ds::DATE)::INT) AS one",
}


def listing(stack: RunningStack, *arguments: str) -> Any:
    result = stack.tcloud(*arguments, "-o", "json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def evaluated(stack: RunningStack, run_id: str) -> list[tuple[str, str]]:
    shown = listing(stack, "runs", "show", run_id)
    return sorted((evaluation["model"].split('"')[-2], evaluation["status"]) for evaluation in shown["evaluations"])


def test_what_is_selected_is_evaluated_and_read_back(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    stack = tempomesh_stack
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(CONFIG)
    for name, model in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(model)
    planned = stack.tcloud(
        *("sqlmesh", "-p", str(project), "plan", "manual", "--auto-apply", "--no-prompts", "--include-unmodified"),
        *("--execution-time", "2025-01-03 12:00:00"),
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr

    start = ("runs", "start", "--environment", "manual", "--execution-time")
    alone = listing(stack, *start, "2025-01-04 12:00:00", "--select-model", "manual.second", "--no-auto-upstream")
    assert evaluated(stack, alone["run_id"]) == [("second", "success")]
    upstream = listing(stack, *start, "2025-01-05 12:00:00", "--select-model", "tag:late")
    assert evaluated(stack, upstream["run_id"]) == [("first", "success"), ("second", "success")]
    both = ("--select-model", "*aside", "--select-model", "*broken", "--ignore-cron")
    followed = stack.tcloud(*start, "2025-01-06 12:00:00", *both)
    assert followed.returncode == 1, followed.stdout + followed.stderr
    assert "division by zero" in followed.stdout + followed.stderr

    (failed,) = listing(stack, "runs", "list", "--status", "failed", "--environment", "manual")
    assert [run["run_id"] for run in listing(stack, "runs", "list", "--model", "manual.second")] == [
        upstream["run_id"],
        alone["run_id"],
    ]
    table = stack.tcloud("runs", "show", failed["run_id"]).stdout.splitlines()
    first_row = table[table.index("") + 2]
    assert first_row.startswith("failed")
    assert "manual.broken" in first_row
    assert "division by zero" in first_row
    logs = stack.tcloud("runs", "logs", failed["run_id"], "--model", "manual.broken").stdout
    assert "manual.broken" in logs.splitlines()[0]
    assert "division by zero" in logs
    history = listing(stack, "models", "history", "manual.second", "--environment", "manual")
    owners = [evaluation["run_id"] or evaluation["plan_id"] for evaluation in history]
    assert owners[:2] == [upstream["run_id"], alone["run_id"]]
    assert history[-1]["plan_id"]
    assert history[-1]["status"] == "success"
