"""What operators see of a project at work: health, metrics, one trace from the command to the query, versions.

One server in this process, a control worker and an executor as processes of their own, and one plan.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client

from activities.control import ServerBackedControlActivities
from activities.schedules import EnvironmentSchedules
from stack.ports import free_ports
from stack.processes import tcloud_command
from tcloud.api.control import ControlApi
from tcloud.tracing import start_tracing
from tests.eventually import eventually, eventually_async
from tests.fixtures.collectors import CollectedSpan, Collector, trace_collector
from tests.fixtures.databases import Database
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import RunningServer, serving
from workers.connections import temporal_of
from workers.control import _worker
from workers.settings import WorkerSettings
from workers.versions import known_versions, make_current

DEPLOYMENT = "tempomesh"
START_SECONDS = 90
CONFIG = """
gateways:
  warehouse:
    scheduler: {type: cloud}
default_gateway: warehouse
model_defaults: {dialect: duckdb, start: 2026-01-01, cron: '@daily'}
"""
MODEL = "MODEL (name watched.ones, kind FULL); SELECT 1 AS one"


@dataclass(frozen=True)
class AtWork:
    """A project whose processes run."""

    server: RunningServer
    collector: Collector
    metrics: int
    """The server's port of metrics."""
    worker: tuple[int, int]
    """Its ports of health and metrics."""
    executor: tuple[int, int]
    variables: Mapping[str, str]


@pytest.fixture
async def at_work(
    database: Database, temporal: TemporalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AtWork]:
    namespace = await temporal.fresh_namespace()
    server_metrics, *ports = free_ports(5)
    worker, executor = (ports[0], ports[1]), (ports[2], ports[3])
    with ExitStack() as stack:
        collector = stack.enter_context(trace_collector())
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        for name, value in traces.items():
            monkeypatch.setenv(name, value)
        stack.enter_context(start_tracing("tempomesh-server"))
        running = stack.enter_context(
            serving(database.url, tmp_path, namespace, temporal.address, metrics_port=server_metrics)
        )
        variables = {**traces, "TCLOUD_URL": running.url, "TCLOUD_HOME": str(tmp_path / "home")}
        of_worker = {"TCLOUD_TOKEN": "worker-token", "TCLOUD_WORKER_DEPLOYMENT": DEPLOYMENT}
        of_worker["TCLOUD_WORKER_BUILD_ID"] = "1"
        of_executor = {
            "TCLOUD_TOKEN": "executor-token",
            "SQLMESH__GATEWAYS__WAREHOUSE__CONNECTION__TYPE": "duckdb",
            "SQLMESH__GATEWAYS__WAREHOUSE__CONNECTION__DATABASE": str(tmp_path / "warehouse.db"),
        }
        for command, own, (health, metrics) in (
            (("worker",), of_worker, worker),
            (("executor", "apply"), of_executor, executor),
        ):
            probed = {"TCLOUD_HEALTH_PORT": str(health), "TCLOUD_METRICS_PORT": str(metrics)}
            stack.enter_context(process(tmp_path / f"{command[0]}.log", command, {**variables, **own, **probed}))
        for health, _ in (worker, executor):
            await eventually_async(partial(probe, health, "/readyz", 200), START_SECONDS)
        yield AtWork(running, collector, server_metrics, worker, executor, variables)


@contextmanager
def process(output: Path, command: tuple[str, ...], variables: Mapping[str, str]) -> Iterator[None]:
    """A process of Tempomesh's, while the body runs."""
    with output.open("wb") as file:
        started = subprocess.Popen(
            [*tcloud_command(), *command], env={**os.environ, **variables}, stdout=file, stderr=file
        )
    try:
        yield
    finally:
        started.terminate()
        started.wait(60)


async def probe(port: int, path: str, status: int) -> str | None:
    """What a process answers; None if it is not this status."""
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}{path}", timeout=10)
    except httpx.HTTPError:
        return None
    return answer.text if answer.status_code == status else None


@pytest.mark.timeout(300)
async def test_what_operators_see(at_work: AtWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project" / "models").mkdir(parents=True)
    (tmp_path / "project" / "config.yaml").write_text(CONFIG)
    (tmp_path / "project" / "models" / "ones.sql").write_text(MODEL)
    planned = await asyncio.to_thread(
        subprocess.run,
        [*tcloud_command(), "sqlmesh", "-p", str(tmp_path / "project"), "plan", "--auto-apply", "--no-prompts"],
        env={**os.environ, **at_work.variables, "TCLOUD_TOKEN": "admin-token"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert planned.returncode == 0, planned.stdout + planned.stderr

    await one_trace(at_work.collector)
    await metrics_of_all(at_work)
    await versions(at_work)
    await outdated(at_work, monkeypatch)


async def one_trace(collector: Collector) -> None:
    """From the command through server, workflow and activity to the query, each below the one before."""
    way = (
        ("tcloud", "tcloud sqlmesh"),
        ("tempomesh-server", "POST plans"),
        ("tempomesh-worker", "RunWorkflow:PlanWorkflow"),
        ("tempomesh-executor-apply", "RunActivity:evaluate"),
        ("tempomesh-executor-apply", "evaluate"),
        ("tempomesh-executor-apply", "query CREATE"),
    )

    async def found() -> list[list[CollectedSpan]]:
        steps = [[span for span in collector.spans if (span.service, span.name) == step] for step in way]
        assert all(steps), sorted({(span.service, span.name) for span in collector.spans})
        return steps

    command, *later = await eventually_async(found, 30)
    assert len(command) == 1
    for step in later:
        assert command[0].trace_id in {span.trace_id for span in step}, step
    parents = {span.span_id: span.parent_id for span in collector.spans}
    query = next(span for span in later[-1] if span.trace_id == command[0].trace_id)
    ancestors, above = [], query.parent_id
    while above in parents:
        ancestors.append(above)
        above = parents[above]
    assert command[0].span_id in ancestors, "the query is below the command"


async def metrics_of_all(at_work: AtWork) -> None:
    project = ".".join(at_work.server.url.split("/")[-2:])
    expected = {
        at_work.metrics: (
            f'tempomesh_executors{{kind="apply",project="{project}",status="ready"}} 1.0',
            f'tempomesh_executors{{kind="run",project="{project}",status="ready"}} 0.0',
            f'tempomesh_control_workers{{project="{project}"}} 1.0',
            f'tempomesh_plans{{project="{project}",status="in_progress"}} 0.0',
            f'tempomesh_plan_last_end_timestamp_seconds{{environment="prod",project="{project}",status="success"}}',
            f'tempomesh_queue_backlog{{project="{project}",queue="apply"}} 0.0',
            f'tempomesh_queue_backlog{{project="{project}",queue="apply/warehouse"}} 0.0',
            "tempomesh_measured_timestamp_seconds",
        ),
        at_work.worker[1]: ("temporal_workflow_completed_total",),
        at_work.executor[1]: ("tempomesh_evaluations_total", "tempomesh_evaluation_duration_seconds_bucket"),
    }
    for port, lines in expected.items():

        async def has_all(port: int = port, lines: tuple[str, ...] = lines) -> bool:
            text = await probe(port, "/metrics", 200) or ""
            return all(line in text for line in lines)

        await eventually_async(has_all, 40)
    assert await probe(at_work.worker[0], "/healthz", 200) == "ok\n"
    assert await probe(at_work.worker[0], "/nothing", 404)


async def versions(at_work: AtWork) -> None:
    """The first version is current by itself, the next one when somebody says so."""
    settings = WorkerSettings.model_validate(
        {"url": at_work.server.url, "token": "worker-token", "worker_deployment": DEPLOYMENT, "worker_build_id": "2"}
    )
    client: Client = await temporal_of(settings, "test")
    assert await known_versions(settings, client) == [("1", "current")]
    async with ControlApi(settings.url, settings.credentials) as api:
        activities = ServerBackedControlActivities(api, EnvironmentSchedules(client))
        async with _worker(settings, client, activities):
            assert await make_current(settings, client) == "2"
            now = dict(await known_versions(settings, client))
            assert now["2"] == "current"
            assert now["1"] in ("draining", "drained", "inactive")
    previous = settings.model_copy(update={"worker_build_id": "1"})
    assert await make_current(previous, client) == "1"


async def outdated(at_work: AtWork, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor that is running when the server gets another SQLMesh, and when the server is taken back."""
    with monkeypatch.context() as patched, at_work.server.client() as admin:
        for module in ("server.executors", "server.api.executors"):
            patched.setattr(f"{module}.SQLMESH_VERSION", "99.0.0")
        trouble = await eventually_async(lambda: probe(at_work.executor[0], "/readyz", 503), 30)
        assert trouble is not None
        assert "outdated" in trouble
        assert [each["status"] for each in admin.get("executors").json()] == ["outdated"]
        assert admin.get("gateways").json() == []
    assert await eventually_async(lambda: probe(at_work.executor[0], "/readyz", 200), 30)
    with at_work.server.client() as admin:
        eventually(lambda: [each["status"] for each in admin.get("executors").json()] == ["ready"])
