"""Runs take tables further while a plan builds their replacements: the plan catches up before it promotes."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.locks import held_up, waiting
from tests.acceptance.test_preemption import READS, Project
from tests.eventually import eventually
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

BUILDING, RUNNING = 250_201, 250_202
MODEL = """
MODEL (name %s, kind INCREMENTAL_BY_TIME_RANGE (time_column day));
SELECT
  @start_ds::DATE AS day,
  CAST(CASE WHEN @start_ds::DATE > '{day}' THEN CAST(pg_advisory_xact_lock_shared({lock}) AS TEXT) END AS TEXT)
    AS {column}
"""
OLD = MODEL.format(day="2025-01-03", lock=RUNNING, column="waited")
NEW = MODEL.format(day="2024-12-31", lock=BUILDING, column="has_waited")


def days(stack: RunningStack, environment: str) -> dict[str, list[int]]:
    """The number of recorded days of each version of a model."""
    found: dict[str, list[int]] = {}
    for (model, _), count in Records(stack).days(environment).items():
        found.setdefault(model, []).append(count)
    return {model: sorted(counts) for model, counts in found.items()}


def test_nobody_plans_again(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    project = Project(tempomesh_stack, tmp_path / "project", "behind")
    project.write("changed", OLD)
    project.write("below", READS, "changed")
    project.write("apart", "MODEL (name %s, kind FULL); SELECT 1 AS one")
    project.plan()
    project.write("changed", NEW)

    with ThreadPoolExecutor(1) as pool:
        with held_up(tempomesh_stack, RUNNING):
            with held_up(tempomesh_stack, BUILDING):
                end = ("--end", "2025-01-02", "--no-gaps", "--auto-apply", "--no-prompts")
                planned = pool.submit(project.sqlmesh, "plan", project.name, *end)
                eventually(lambda: waiting(tempomesh_stack, BUILDING) > 0, 60)
                third = project.ended(project.start_run("2025-01-04 12:00:00"))
                assert third.status == "success", third
                fourth = project.start_run("2025-01-05 12:00:00")
                eventually(lambda: waiting(tempomesh_stack, RUNNING) > 0, 60)
            eventually(lambda: "EnvironmentRecordUpdateStage" in stages_in_progress(project), 60)
            held = "SELECT COUNT(*) FROM tempomesh.claims WHERE is_held"
            eventually(lambda: Records(tempomesh_stack).ask("tempomesh", held) == [(1,)], 60)
            fifth = project.start_run("2025-01-06 12:00:00")
            eventually(lambda: statuses_of(project, fifth, "apart") == ["success"], 60)
            assert not planned.done(), "it waits for the run that is at a table which it replaces"
        done = planned.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Waiting for run {fourth} to finish with tables that this plan replaces" in " ".join(done.stdout.split())
    assert project.ended(fourth).status == "success"
    assert project.ended(fifth).status == "success"
    # What was free the plan held at once, and of the rest it was the next: the fifth run left both models out. The
    # fourth one has gone on with the new version of what was held.
    assert days(tempomesh_stack, "behind") == {"changed": [4, 4], "below": [3, 4], "apart": [5]}
    Records(tempomesh_stack).nothing_is_held()


def stages_in_progress(project: Project) -> list[str]:
    with project.stack.api() as api:
        return [stage.name for stage in api.plans(project.name)[0].stages if stage.status == "in_progress"]


def statuses_of(project: Project, run_id: str, model: str) -> list[str]:
    evaluations = project.run(run_id).evaluations or []
    return [e.status.value for e in evaluations if e.model.split('"')[-2] == model]
