"""Runs overlap: a long model holds up nobody who does not depend on it, and is never evaluated twice at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

CONFIG = scheduled_config("2025-01-01")
LONG_SECONDS = 20
SLOW = f"""
MODEL (name overlap.slow, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT
  @start_ds::DATE AS day,
  CAST(pg_sleep(CASE WHEN @start_ds::DATE > '2025-01-02' THEN {LONG_SECONDS} ELSE 0 END) AS TEXT) AS slept
"""
QUICK = """
MODEL (name overlap.quick_%d, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT @start_ds::DATE AS day
"""
AFTER = "MODEL (name overlap.after_slow, kind FULL); SELECT COUNT(*) AS days FROM overlap.slow"


def write_project(folder: Path) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    models = {"slow": SLOW, "after": AFTER, **{f"quick_{n}": QUICK % n for n in range(9)}}
    for name, model in models.items():
        (folder / "models" / f"{name}.sql").write_text(model)
    return folder


def start_run(stack: RunningStack, day: int) -> str:
    started = stack.tcloud(
        *("runs", "start", "--environment", "overlap", "--no-follow", "-o", "json"),
        *("--execution-time", f"2025-01-{day:02d} 12:00:00"),
    )
    assert started.returncode == 0, started.stderr
    return str(json.loads(started.stdout)["run_id"])


def evaluations(stack: RunningStack, run_id: str) -> dict[str, list[dict[str, Any]]]:
    with stack.api() as api:
        run = api.run(run_id).model_dump(mode="json")
    found: dict[str, list[dict[str, Any]]] = {}
    for evaluation in run["evaluations"]:
        name = evaluation["model"].split('"')[-2]
        found.setdefault("quick" if name.startswith("quick") else name, []).append(evaluation)
    return found


def statuses(found: dict[str, list[dict[str, Any]]], name: str) -> list[str]:
    return [evaluation["status"] for evaluation in found.get(name, [])]


def ended(stack: RunningStack, run_id: str) -> bool:
    with stack.api() as api:
        return api.run(run_id).end_at is not None


def test_a_long_model_holds_up_only_what_depends_on_it(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    stack = tempomesh_stack
    project = write_project(tmp_path / "project")
    planned = stack.tcloud(
        *("sqlmesh", "-p", str(project), "plan", "overlap", "--auto-apply", "--no-prompts", "--include-unmodified"),
        *("--execution-time", "2025-01-03 12:00:00"),
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr

    first = start_run(stack, 4)
    eventually(lambda: statuses(evaluations(stack, first), "slow") == ["in_progress"], 60)
    second = start_run(stack, 5)
    eventually(lambda: statuses(evaluations(stack, second), "quick") == ["success"] * 9, 60)
    third = start_run(stack, 6)
    eventually(lambda: statuses(evaluations(stack, third), "quick") == ["success"] * 9, 60)

    assert statuses(evaluations(stack, first), "slow") == ["in_progress"], "the others did not wait for it"
    eventually(lambda: ended(stack, third), 60)
    left_out = evaluations(stack, third)
    assert statuses(left_out, "slow") == ["skipped"]
    assert (
        left_out["slow"][0]["error_message"] == f"It is being evaluated by run {first}, and run {second} waits for it."
    )
    assert statuses(left_out, "after_slow") == ["skipped"]
    assert "slow" in left_out["after_slow"][0]["error_message"]

    eventually(lambda: ended(stack, first) and ended(stack, second), 120)
    one, two = (evaluations(stack, run_id)["slow"] for run_id in (first, second))
    assert [e["status"] for e in one + two] == ["success", "success"]
    assert one[0]["end_at"] <= two[0]["start_at"], "it is never evaluated twice at once"
    assert one[0]["interval_end"] == two[0]["interval_start"], "what the first did is not done again"
