"""What a person can do wrong with a stack that works: SQLMesh's words and exit codes, nothing half done."""

import json
import os
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from stack.ports import free_ports
from stack.processes import tcloud_command
from tests.acceptance.projects import scheduled_config
from tests.eventually import eventually
from tests.fixtures.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

CONFIG = scheduled_config("2026-01-01")


class Project:
    """A project of its own, in an environment of its own, of the stack that all tests share."""

    def __init__(self, stack: RunningStack, folder: Path):
        self.stack = stack
        self.folder = folder
        self.name = f"bad_{uuid4().hex[:8]}"
        (folder / "models").mkdir(parents=True)
        (folder / "config.yaml").write_text(CONFIG)

    def write(self, model: str, kind: str, query: str) -> None:
        text = f"MODEL (name {self.name}.{model}, kind {kind}); {query}"
        (self.folder / "models" / f"{model}.sql").write_text(text)

    @property
    def plan_command(self) -> list[str]:
        return ["sqlmesh", "-p", str(self.folder), "plan", self.name, "--include-unmodified", "--no-prompts"]

    def plan(self) -> subprocess.CompletedProcess[str]:
        return self.stack.tcloud(*self.plan_command, "--auto-apply")

    def plans(self) -> list[dict[str, object]]:
        listed = self.stack.tcloud("plans", "list", "--environment", self.name, "-o", "json")
        found: list[dict[str, object]] = json.loads(listed.stdout)
        return found


@pytest.fixture
def project(tempomesh_stack: RunningStack, tmp_path: Path) -> Project:
    return Project(tempomesh_stack, tmp_path / "project")


def test_a_model_whose_sql_fails(project: Project) -> None:
    project.write("good", "FULL", "SELECT 0 AS zero")
    project.write("bad", "FULL", f"SELECT 1 / zero AS x FROM {project.name}.good")
    planned = project.plan()
    assert planned.returncode == 1
    assert "division by zero" in planned.stdout
    assert "Plan application failed." in planned.stdout + planned.stderr
    (plan,) = project.plans()
    assert (plan["status"], plan["error_message"]) == ("failed", "Plan application failed.")
    shown = json.loads(project.stack.tcloud("plans", "show", str(plan["plan_id"]), "-o", "json").stdout)
    by_model = {e["model"].split('"')[-2]: e for e in shown["evaluations"]}
    assert {name: e["status"] for name, e in by_model.items()} == {"good": "success", "bad": "failed"}
    assert "division by zero" in by_model["bad"]["error_message"]
    cancelled = project.stack.tcloud("plans", "cancel", str(plan["plan_id"]))
    assert (cancelled.returncode, cancelled.stdout) == (1, "")
    assert "is over (failed): there is nothing to cancel" in cancelled.stderr
    # The environment was never made.
    assert project.stack.tcloud("environments", "show", project.name).returncode == 2


def test_an_audit_that_fails(project: Project) -> None:
    project.write("audited", "FULL", "SELECT NULL::INT AS id")
    model = project.folder / "models" / "audited.sql"
    model.write_text(model.read_text().replace("kind FULL", "kind FULL, audits (not_null(columns := (id)))"))
    planned = project.plan()
    assert planned.returncode == 1
    assert "'not_null' audit error: 1 row failed" in planned.stdout
    (plan,) = project.plans()
    shown = json.loads(project.stack.tcloud("plans", "show", str(plan["plan_id"]), "-o", "json").stdout)
    (evaluation,) = shown["evaluations"]
    assert [(audit["name"], audit["status"]) for audit in evaluation["audits"]] == [("not_null", "failed")]


def test_a_run_whose_model_fails(project: Project) -> None:
    # It fails with the rows of the second day, which a plan up to the first does not evaluate.
    query = "SELECT @start_ds::DATE AS day, 1 / (DATE '2026-01-02' - @start_ds::DATE) AS x"
    project.write("later", "INCREMENTAL_BY_TIME_RANGE (time_column day, batch_size 1)", query)
    at = ("--execution-time", "2026-01-02 01:00:00")
    planned = project.stack.tcloud(*project.plan_command, "--auto-apply", *at)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    until = ("--end", "2026-01-02", "--ignore-cron")
    for run in (
        project.stack.tcloud("sqlmesh", "-p", str(project.folder), "run", project.name, *until),
        project.stack.tcloud("runs", "start", "--environment", project.name, *until),
    ):
        assert run.returncode == 1, run.stdout + run.stderr
        assert "division by zero" in run.stdout
        assert "Traceback" not in run.stdout + run.stderr


def test_a_plan_whose_environment_moves_on(project: Project) -> None:
    project.write("one", "FULL", "SELECT 1 AS id")
    stack = project.stack
    output = project.folder / "slow.out"
    with output.open("wb") as file:
        undecided = subprocess.Popen(
            [*tcloud_command(), *[part for part in project.plan_command if part != "--no-prompts"]],
            env={**os.environ, **stack.client_environment, "TCLOUD_HOME": str(stack.data_dir / "client")},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
        )
    try:
        eventually(lambda: "[y/n]" in output.read_text() or undecided.poll() is not None, 120)
        assert undecided.poll() is None, output.read_text()
        planned = project.plan()
        assert planned.returncode == 0, planned.stdout + planned.stderr
        (plan,) = project.plans()
        undecided.communicate(b"y\n" * 5, timeout=120)
    finally:
        undecided.kill()
        undecided.wait()
    said = " ".join(output.read_text().split())
    assert undecided.returncode == 1, said
    assert f"Another plan ({plan['plan_id']}) was applied by admin to the target environment '{project.name}'" in said
    assert "Please re-apply your plan to resolve this error." in said
    assert project.plans() == [plan]


@pytest.mark.parametrize(
    ("config", "exit_code", "says"),
    [
        (None, 2, "SQLMesh project config could not be found"),
        ("gateways: [", 2, "cannot be used: while parsing"),
        (CONFIG, 2, "no gateway has a connection; add one, or start without --project"),
        (
            "gateways: {warehouse: {connection: {type: postgres, host: 127.0.0.1, port: 1, user: u, password: canary, "
            "database: d}, scheduler: {type: cloud}}}\nmodel_defaults: {dialect: postgres}\n",
            4,
            "The warehouse cannot be reached: gateway 'warehouse' (postgres): ",
        ),
    ],
)
def test_dev_with_a_project_that_cannot_be_used(tmp_path: Path, config: str | None, exit_code: int, says: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    if config is not None:
        (folder / "config.yaml").write_text(config)
    server, temporal, ui = (str(port) for port in free_ports(3))
    result = subprocess.run(
        [
            *(*tcloud_command(), "dev", "--data-dir", str(tmp_path / "data"), "--project", str(folder)),
            *("--port", server, "--temporal-port", temporal, "--temporal-ui-port", ui),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == exit_code, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert says in lines[0]
    assert "canary" not in result.stdout + result.stderr
