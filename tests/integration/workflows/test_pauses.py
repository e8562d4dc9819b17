"""What follows from a pause in Temporal: a real server and a real control worker, which may be away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client, ScheduleDescription
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.control import ServerBackedControlActivities
from activities.schedules import EnvironmentSchedules
from server.projects import Role
from tcloud.api.control import ControlApi
from tcloud.wire.environments import CronGroup
from tests.eventually import eventually_async
from tests.fixtures.databases import Database
from tests.fixtures.temporal import TemporalServer
from tests.integration.server.conftest import CODEC_KEYS, RunningServer, serving
from tests.integration.server.states import dag_of, promoted
from workflows.codec import data_converter
from workflows.environment import EnvironmentWorkflow
from workflows.interfaces import CONTROL_QUEUE
from workflows.payloads import EnvironmentState
from workflows.run import RunWorkflow

SCHEDULE = "schedule/prod/@daily/UTC"


@pytest.fixture
async def namespace(temporal: TemporalServer) -> str:
    return await temporal.fresh_namespace("pauses")


@pytest.fixture
def server(database: Database, tmp_path: Path, temporal: TemporalServer, namespace: str) -> Iterator[RunningServer]:
    with serving(database.url, tmp_path / "cache", namespace, temporal.address) as running:
        yield running


@pytest.fixture
async def client(temporal: TemporalServer, namespace: str) -> Client:
    keys = {name: bytes(32) for name in CODEC_KEYS}
    return await Client.connect(temporal.address, namespace=namespace, data_converter=data_converter(keys))


@asynccontextmanager
async def control_worker(client: Client, server: RunningServer) -> AsyncIterator[EnvironmentSchedules]:
    """A control worker, with the schedules of `prod` as a plan leaves them."""
    schedules = EnvironmentSchedules(client)
    async with ControlApi(server.url, f"{Role.WORKER}-token") as api:
        activities = ServerBackedControlActivities(api, schedules)
        worker = Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[EnvironmentWorkflow, RunWorkflow],
            activities=[activities.settle_pauses, activities.record_run_status],
            workflow_runner=SandboxedWorkflowRunner(
                restrictions=SandboxRestrictions.default.with_passthrough_modules("workflows", "pydantic")
            ),
        )
        async with worker:
            yield schedules


async def described(client: Client) -> ScheduleDescription:
    return await client.get_schedule_handle(SCHEDULE).describe()


async def state(client: Client) -> EnvironmentState:
    return await client.get_workflow_handle_for(EnvironmentWorkflow.run, "environment/prod").query(
        EnvironmentWorkflow.state
    )


async def test_schedules_follow_and_the_run_that_catches_up_is_started(client: Client, server: RunningServer) -> None:
    with server.client(Role.EXECUTOR) as executor, server.client(Role.ADMIN) as admin:
        promoted(executor, dag_of({"orders": []}), "plan-1")
        with server.client(Role.WORKER) as worker:
            (wanted,) = worker.post("schedules/wanted").json()
        async with control_worker(client, server) as schedules:
            await schedules.sync("prod", [CronGroup.model_validate(group) for group in wanted["crons"]])
        note = (await described(client)).schedule.state.note

        # The control worker is away.
        answer = await asyncio.to_thread(
            admin.post, "environments/prod/pause", json={"reason": "warehouse upgrade", "lasts": "PT1H"}
        )
        pause_id = answer.raise_for_status().json()["pause"]["pause_id"]
        async with control_worker(client, server):

            async def is_paused() -> bool:
                return (await described(client)).schedule.state.paused

            await eventually_async(is_paused)
            shown = (await described(client)).schedule.state.note or ""
            assert shown.startswith("The environment is paused by admin until ")
            assert f"warehouse upgrade (pause {pause_id})." in shown
            assert shown.endswith(note or "-")
            (known,) = (await state(client)).pauses
            assert (known.pause_id, known.reason) == (pause_id, "warehouse upgrade")

            await asyncio.to_thread(
                admin.post, "environments/prod/pause", json={"reason": "only a little more", "lasts": "PT3S"}
            )

            async def is_settled() -> bool:
                now = await state(client)
                return not now.is_unsettled and [pause.reason for pause in now.pauses] == ["only a little more"]

            await eventually_async(is_settled)

        # It ends by a timer, also if that goes off while the control worker is away again.
        async with control_worker(client, server):

            async def is_resumed() -> bool:
                return not (await described(client)).schedule.state.paused and not (await state(client)).pauses

            await eventually_async(is_resumed)
            assert (await described(client)).schedule.state.note == note
            (run,) = admin.get("runs").json()
            assert (run["trigger"], run["status"]) == ("resume", "scheduled")

            async def is_started() -> bool:
                listed = [found.id async for found in client.list_workflows("WorkflowType = 'RunWorkflow'")]
                return listed == [f"run/{run['run_id']}"]

            await eventually_async(is_started)


async def test_what_it_carries_over_is_done(client: Client, server: RunningServer) -> None:
    with server.client(Role.EXECUTOR) as executor:
        promoted(executor, dag_of({"orders": []}), "plan-1")
    carried = EnvironmentState(environment="prod", runs_to_start=["prod-resume-1"], is_unsettled=True)
    async with control_worker(client, server):
        await client.start_workflow(EnvironmentWorkflow.run, carried, id="environment/prod", task_queue=CONTROL_QUEUE)

        async def is_done() -> bool:
            listed = [found.id async for found in client.list_workflows("WorkflowType = 'RunWorkflow'")]
            now = await state(client)
            return listed == ["run/prod-resume-1"] and not now.runs_to_start and not now.is_unsettled

        await eventually_async(is_done)
