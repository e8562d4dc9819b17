"""A cron that Temporal does not take: the others are scheduled, and who planned is told."""

import json
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client

from activities.control import ServerBackedControlActivities
from activities.schedules import EnvironmentSchedules
from server.plans import accept_plan, read_submission
from server.projects import Project, Role
from tcloud.api.control import ControlApi
from tests.eventually import eventually_async
from tests.fixtures.databases import Database
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import CODEC_KEYS, RunningServer, report_gateway, serving
from tests.integration.server.states import promoted, snapshot_of
from workflows.codec import data_converter
from workflows.payloads import EnvironmentRef

MARS = "Mars/Olympus"


@pytest.fixture
def _mars(tmp_path: Path) -> Iterator[None]:
    """A timezone that Python knows here, and Temporal does not."""
    (tmp_path / "Mars").mkdir()
    utc = next(Path(folder) / "UTC" for folder in zoneinfo.TZPATH if (Path(folder) / "UTC").exists())
    (tmp_path / MARS).write_bytes(utc.read_bytes())
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(tmp_path), *before])
    yield
    zoneinfo.reset_tzpath(before)


def plan_of_prod(server: RunningServer, namespace: str) -> None:
    plan = json.dumps({"environment": {"name": "prod", "plan_id": "plan-1", "previous_plan_id": "plan-1"}}).encode()
    with server.database.transaction(Project.parse(namespace)) as transaction:
        accept_plan(
            transaction,
            read_submission(plan),
            plan,
            gateway="warehouse",
            default_catalog=None,
            sqlmesh_version="0.236.4",
            created_by="x",
        )


def first_event(viewer: httpx.Client) -> str:
    with viewer.stream("GET", "plans/plan-1/events") as answer:
        return next(line for line in answer.iter_lines() if line.startswith("data:"))


@pytest.mark.usefixtures("_mars")
async def test_left_out_and_told(
    database: Database, temporal: TemporalServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    namespace = await temporal.fresh_namespace()
    keys = {key_id: bytes(32) for key_id in CODEC_KEYS}
    client = await Client.connect(temporal.address, namespace=namespace, data_converter=data_converter(keys))
    with (
        serving(database.url, tmp_path_factory.mktemp("cache"), namespace, temporal.address) as server,
        server.client(Role.EXECUTOR) as executor,
        server.client(Role.VIEWER) as viewer,
    ):
        report_gateway(executor)
        promoted(executor, [snapshot_of("trips"), snapshot_of("odd", "@hourly", MARS)], "plan-1")
        plan_of_prod(server, namespace)
        async with ControlApi(server.url, f"{Role.WORKER}-token") as api:
            control = ServerBackedControlActivities(api, EnvironmentSchedules(client))
            await control.sync_schedules(EnvironmentRef(environment="prod", plan_id="plan-1"))

        async def are_listed() -> bool:
            return len(viewer.get("schedules").json()) == 2

        await eventually_async(are_listed)
        daily, hourly = sorted(viewer.get("schedules").json(), key=lambda schedule: schedule["cron"])
        assert daily["error_message"] is None
        assert daily["next_run_at"] is not None
        assert f"Cron '@hourly' in {MARS} cannot be scheduled" in hourly["error_message"]
        assert hourly["next_run_at"] is None
        assert ["odd" in model for model in hourly["models"]] == [True]
        told = first_event(viewer)
        assert "log_warning" in told
        assert "do not run by themselves" in told
