"""A plan changes an environment in the middle of a run: what it replaced is not started, its own models are."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tcloud.wire.runs import Run
from tests.acceptance.locks import held_up, waiting
from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.records import Records
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

EXIT_CODE = 17
LOCK = 250_103
INCREMENTAL = "kind INCREMENTAL_BY_TIME_RANGE (time_column day)"
WAITS = f"""
MODEL (name %s, {INCREMENTAL});
SELECT
  @start_ds::DATE AS day,
  CAST(CASE WHEN @start_ds::DATE > '2025-01-02' THEN CAST(pg_advisory_xact_lock_shared({LOCK}) AS TEXT) END AS TEXT)
    AS waited
"""
"""Takes as long as the test holds the lock, from the third day on."""
READS = f"MODEL (name %s, {INCREMENTAL}); SELECT day FROM %s WHERE day BETWEEN @start_ds AND @end_ds"
ALONE = f"MODEL (name %s, {INCREMENTAL}); SELECT @start_ds::DATE AS day"


class Project:
    """A project of an environment of the same name, whose files can be changed between two plans."""

    def __init__(self, stack: RunningStack, folder: Path, name: str):
        self.stack = stack
        self.name = name
        self._folder = folder
        (folder / "models").mkdir(parents=True)
        (folder / "config.yaml").write_text(scheduled_config("2025-01-01"))

    def write(self, model: str, text: str, *reads: str) -> None:
        names = (f"{self.name}.{name}" for name in (model, *reads))
        (self._folder / "models" / f"{model}.sql").write_text(text % tuple(names))

    def remove(self, model: str) -> None:
        (self._folder / "models" / f"{model}.sql").unlink()

    def sqlmesh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.stack.tcloud("sqlmesh", "-p", str(self._folder), *arguments)

    def plan(self) -> str:
        """Applies a plan of the first two days, and returns its id."""
        planned = self.sqlmesh(
            *("plan", self.name, "--auto-apply", "--no-prompts", "--include-unmodified"),
            *("--execution-time", "2025-01-03 12:00:00"),
        )
        assert planned.returncode == 0, planned.stdout + planned.stderr
        with self.stack.api() as api:
            return api.plans(self.name)[0].plan_id

    def start_run(self, execution_time: str = "2025-01-04 12:00:00") -> str:
        """Starts a run, by default that of the third day."""
        started = self.stack.tcloud(
            *("runs", "start", "--environment", self.name, "--no-follow", "-o", "json"),
            *("--execution-time", execution_time),
        )
        assert started.returncode == 0, started.stderr
        return str(json.loads(started.stdout)["run_id"])

    def run(self, run_id: str) -> Run:
        with self.stack.api() as api:
            return api.run(run_id)

    def ended(self, run_id: str) -> Run:
        eventually(lambda: self.run(run_id).end_at is not None, 120)
        return self.run(run_id)

    def days(self, model: str) -> list[str]:
        """The days in a model's table; the first plan writes its two days at once, as one row."""
        rows = Records(self.stack).ask("warehouse", f"SELECT day::TEXT FROM {self.name}__{self.name}.{model}")
        return sorted(day for (day,) in rows)


def statuses(run: Run) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for evaluation in run.evaluations or []:
        found.setdefault(evaluation.model.split('"')[-2], []).append(evaluation.status.value)
    return {model: sorted(values) for model, values in found.items()}


def test_a_run_goes_on_with_what_a_plan_has_put_in_place(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    project = Project(tempomesh_stack, tmp_path / "project", "midway")
    for model in ("slow", "slow_changed"):
        project.write(model, WAITS)
    for model in ("kept", "changed", "removed"):
        project.write(model, READS, "slow")
    project.write("below", READS, "changed")
    project.plan()

    with held_up(tempomesh_stack, LOCK):
        run_id = project.start_run()
        eventually(lambda: waiting(tempomesh_stack, LOCK) == 2, 60)
        project.write("slow_changed", WAITS.replace("waited", "has_waited"))
        project.write("changed", READS.replace("WHERE", "WHERE day IS NOT NULL AND"), "slow")
        project.write("added", ALONE)
        project.remove("removed")
        plan_id = project.plan()
        assert waiting(tempomesh_stack, LOCK) == 2, "what is in flight is not stopped"

    run = project.ended(run_id)
    assert run.status == "success", run
    assert statuses(run) == {
        "slow": ["success"],
        "slow_changed": ["success", "success"],
        "kept": ["success"],
        "changed": ["preempted", "success"],
        "removed": ["preempted"],
        "below": ["skipped", "success"],
        "added": ["success"],
    }
    causes = {e.model.split('"')[-2]: e.error_message for e in run.evaluations or [] if e.status == "preempted"}
    assert causes == {"changed": f"Plan {plan_id} replaced it.", "removed": f"Plan {plan_id} removed it."}

    recorded: dict[str, list[int]] = {}
    for (model, _), days in Records(tempomesh_stack).days("midway").items():
        recorded.setdefault(model, []).append(days)
    # Of models that were replaced two versions; of what was not started any more the third day is missing.
    assert {model: sorted(days) for model, days in recorded.items()} == {
        "slow": [3],
        "slow_changed": [3, 3],
        "kept": [3],
        "changed": [2, 3],
        "removed": [2],
        "below": [2, 3],
        "added": [3],
    }
    for model in ("slow", "slow_changed", "kept", "changed", "below", "added"):
        assert project.days(model) == ["2025-01-01", "2025-01-03"], model
    Records(tempomesh_stack).nothing_is_held()


def test_exit_on_env_update(tempomesh_stack: RunningStack, tmp_path: Path) -> None:
    project = Project(tempomesh_stack, tmp_path / "project", "exiting")
    project.write("slow", WAITS)
    project.write("after", READS, "slow")
    project.plan()

    with ThreadPoolExecutor(1) as pool, held_up(tempomesh_stack, LOCK):
        until = ("--end", "2025-01-03", "--exit-on-env-update", str(EXIT_CODE))
        watched = pool.submit(project.sqlmesh, "run", project.name, *until)
        eventually(lambda: waiting(tempomesh_stack, LOCK) == 1, 60)
        # It leaves alone all that the run has to evaluate.
        project.write("added", ALONE)
        plan_id = project.plan()
        assert not watched.done()
        assert waiting(tempomesh_stack, LOCK) == 1

    exited = watched.result()
    assert exited.returncode == EXIT_CODE, exited.stdout + exited.stderr
    assert f"Plan {plan_id} changed environment 'exiting'." in " ".join(exited.stdout.split())
    with tempomesh_stack.api() as api:
        (listed,) = api.runs(project.name)
    run = project.ended(listed.run_id)
    assert (run.status, run.error_message) == ("preempted", f"Plan {plan_id} changed environment 'exiting'.")
    assert statuses(run) == {"slow": ["success"]}, "what was in flight has finished, nothing was started"
    Records(tempomesh_stack).nothing_is_held()

    assert project.ended(project.start_run()).status == "success"
    assert {model: days for (model, _), days in Records(tempomesh_stack).days("exiting").items()} == {
        "slow": 3,
        "after": 3,
        "added": 3,
    }
    Records(tempomesh_stack).nothing_is_held()
