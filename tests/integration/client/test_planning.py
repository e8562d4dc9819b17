"""Planning without a connection: SQLMesh's command line and its Python interface, against a real server."""

import json
from contextlib import closing

import pytest
from sqlmesh import Context
from sqlmesh.utils.errors import SQLMeshError

from tcloud.api.client import Api
from tcloud.scheduler import RemoteContext
from tcloud.scheduler.evaluator import RemotePlanEvaluator
from tcloud.wire.policies import EvaluationPolicy, ModelLimits
from tempomesh_runner.state import RemoteStateSync
from tests.integration.client.conftest import CATALOG, Machine

NO_TEMPORAL = "Temporal at 127.0.0.1:1 does not answer"
"""As far as a question to the warehouse gets here: it was put."""

COMMANDS: list[tuple[list[str], int, str]] = [
    (["fetchdf", "SELECT 1"], 4, NO_TEMPORAL),
    (["table_diff", "prod:nosuch", "demo.totals"], 1, "Could not find environment 'nosuch'"),
    (["ui"], 1, "works with the built-in scheduler only"),
    (["invalidate", "prod"], 1, "Cannot invalidate the production environment"),
    (["migrate"], 0, "nothing is left to migrate"),
    (["rollback"], 1, "restore the server's database from its backup"),
    (["info"], 0, "with the executors (gateway 'warehouse', postgres)"),
    (["table_name", "demo.totals"], 0, f"{CATALOG}.sqlmesh__demo.demo__totals__"),
    (["check_intervals"], 0, "demo.orders"),
    (["--gateway", "nope", "plan"], 1, "Missing gateway with name 'nope'"),
    (["plan", "--nonsense"], 2, "No such option"),
]


@pytest.fixture
def here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """This process is on the machine."""
    for name, value in machine.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(machine.folder / "project")
    machine.server.beat("warehouse")
    return machine


@pytest.fixture
def applied(here: Machine) -> Machine:
    """The project's first plan has been applied to `prod`, as far as state knows."""
    with closing(RemoteContext(paths=str(here.folder / "project"))) as context:
        plan = context.plan_builder("prod", skip_tests=True).build().to_evaluatable()
    with Api(here.server.url, "executor") as api:
        state = RemoteStateSync(api.state)
        state.push_snapshots(plan.new_snapshots)
        state.promote(plan.environment)
        state.finalize(plan.environment)
    return here


@pytest.mark.parametrize("kind", [Context, RemoteContext])
def test_a_plan_needs_no_connection(here: Machine, kind: type[Context]) -> None:
    with closing(kind(paths=str(here.folder / "project"))) as context:
        assert context.default_catalog == CATALOG
        plan = context.plan_builder("prod", skip_tests=True).build()
        assert {s.name for s in plan.new_snapshots} == {f'"{CATALOG}"."demo"."orders"', f'"{CATALOG}"."demo"."totals"'}
        with pytest.raises(SQLMeshError, match="has to run on an executor"):
            context.engine_adapter.execute("SELECT 1")


def test_a_python_config(here: Machine) -> None:
    project = here.folder / "project"
    (project / "config.yaml").unlink()
    (project / "config.py").write_text(
        "from sqlmesh.core.config import GatewayConfig, ModelDefaultsConfig\n"
        "from tobikodata.sqlmesh_enterprise.config import EnterpriseConfig, RemoteCloudSchedulerConfig\n"
        "config = EnterpriseConfig(\n"
        "    gateways={'warehouse': GatewayConfig(scheduler=RemoteCloudSchedulerConfig())},\n"
        "    default_gateway='warehouse',\n"
        "    model_defaults=ModelDefaultsConfig(dialect='postgres', start='2024-01-01'),\n"
        ")\n"
    )
    result = here.tcloud("sqlmesh", "plan", "--explain", "--no-prompts")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{CATALOG}.sqlmesh__demo" in result.stdout


def test_a_connection_beside_the_scheduler_is_not_opened(here: Machine) -> None:
    config = here.folder / "project" / "config.yaml"
    unreachable = "connection: {type: duckdb, database: /nowhere/at/all.db}"
    config.write_text(config.read_text().replace("    scheduler:", f"    {unreachable}\n    scheduler:"))
    result = here.tcloud("sqlmesh", "plan", "--explain", "--no-prompts")
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_the_project_asks_of_evaluations_goes_with_its_plans(here: Machine) -> None:
    config = here.folder / "project" / "config.yaml"
    asked = "type: cloud\n      retries: 2\n      models: {DEMO.Orders: {retries: 3, concurrent_evaluations: 1}}"
    config.write_text(config.read_text().replace("type: cloud", asked))
    with closing(RemoteContext(paths=str(here.folder / "project"))) as context:
        evaluator = context._scheduler.create_plan_evaluator(context)
    assert isinstance(evaluator, RemotePlanEvaluator)
    orders = f'"{CATALOG}"."demo"."orders"'
    own = ModelLimits(retries=3, concurrent_evaluations=1)
    assert evaluator._evaluation_policy == EvaluationPolicy(retries=2, models={orders: own})
    assert evaluator._evaluation_policy.of(orders) == own
    assert evaluator._evaluation_policy.of("another") == ModelLimits(retries=2)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("retris: 2", "retris"),
        ("models: {demo.orders: {retries: 1, timeout: 3}}", "timeout"),
        ("models: {demo.order: {retries: 1}}", "'demo.order' is no model of this project"),
    ],
)
def test_what_cannot_be_asked_of_evaluations(here: Machine, asked: str, says: str) -> None:
    config = here.folder / "project" / "config.yaml"
    config.write_text(config.read_text().replace("type: cloud", f"type: cloud\n      {asked}"))
    result = here.tcloud("sqlmesh", "plan", "--auto-apply", "--no-prompts")
    assert result.returncode in (1, 2), result.stdout + result.stderr
    assert says in result.stdout
    assert json.loads(here.tcloud("plans", "list", "-o", "json").stdout) == []


def test_another_scheduler_is_sqlmeshs_own(here: Machine) -> None:
    project = here.folder / "project"
    (project / "config.yaml").write_text(
        "gateways: {local: {connection: {type: duckdb, database: local.db}}}\n"
        "model_defaults: {dialect: duckdb, start: 2024-01-01}\n"
    )
    result = here.tcloud("sqlmesh", "plan", "--auto-apply", "--no-prompts")
    assert result.returncode == 0, result.stdout + result.stderr
    assert (project / "local.db").exists()
    assert here.tcloud("sqlmesh", "fetchdf", "SELECT id FROM demo.totals").returncode == 0
    assert "No models are ready to run" in here.tcloud("sqlmesh", "run").stdout


def test_every_command_of_sqlmesh(applied: Machine) -> None:
    for arguments, code, says in COMMANDS:
        result = applied.tcloud("sqlmesh", *arguments)
        output = result.stdout + result.stderr
        assert result.returncode == code, f"{arguments}: {output}"
        assert says in " ".join(output.split()), arguments
        assert "Traceback" not in output, arguments


def test_state_export(applied: Machine) -> None:
    file = applied.folder / "state.json"
    assert applied.tcloud("sqlmesh", "state", "export", "-o", str(file), "--no-confirm").returncode == 0
    exported = json.loads(file.read_text())
    assert list(exported["environments"]) == ["prod"]
    assert len(exported["snapshots"]) == 2


def test_without_temporal_a_plan_is_refused_and_forgotten(here: Machine) -> None:
    result = here.tcloud("sqlmesh", "plan", "--auto-apply", "--no-prompts")
    assert result.returncode == 4, result.stdout + result.stderr
    assert "Temporal" in result.stderr
    assert json.loads(here.tcloud("plans", "list", "-o", "json").stdout) == []


def test_a_wrong_token(here: Machine) -> None:
    result = here.tcloud("sqlmesh", "plan", role="nobody")
    assert result.returncode == 3
    assert "token" in result.stderr


def test_a_gateway_that_nobody_serves(here: Machine) -> None:
    config = here.folder / "project" / "config.yaml"
    config.write_text(config.read_text().replace("warehouse", "elsewhere"))
    result = here.tcloud("sqlmesh", "plan")
    assert result.returncode == 2
    assert "serves gateway 'elsewhere' (served: warehouse)" in result.stderr


def test_listings(here: Machine) -> None:
    assert json.loads(here.tcloud("runs", "list", "-o", "json").stdout) == []
    assert json.loads(here.tcloud("environments", "list", "-o", "json").stdout) == []
    (executor,) = json.loads(here.tcloud("executors", "list", "-o", "json").stdout)
    assert (executor["identity"], executor["kind"], executor["status"]) == ("executor@test", "apply", "ready")
    assert executor["last_seen_at"].endswith("Z")
    missing = here.tcloud("plans", "show", "nope")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "nope" in missing.stderr
