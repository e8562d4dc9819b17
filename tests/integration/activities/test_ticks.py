"""Ticks that waited: of those for a control worker the last is run, of those for an executor the first."""

from datetime import timedelta

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.control import ServerBackedControlActivities
from activities.schedules import EnvironmentSchedules
from tcloud.api.control import ControlApi
from tests.eventually import eventually_async
from tests.fixtures.temporal import TemporalServer
from workflows import ticks
from workflows.attributes import ENVIRONMENT, KIND, RUN_ID, TRIGGER
from workflows.codec import data_converter
from workflows.interfaces import CONTROL_QUEUE, ExecutorQueue
from workflows.payloads import RunInput, RunOutcome, UnitGraph
from workflows.run import RunWorkflow

NAMES = ["prod-2027-01-01T00:00:00Z", "prod-2027-01-01T00:05:00Z", "prod-2027-01-01T00:10:00Z"]
PASSING_THROUGH = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("workflows")
)


async def connected(temporal: TemporalServer) -> Client:
    return await Client.connect(
        temporal.address,
        namespace=await temporal.fresh_namespace("ticks"),
        data_converter=data_converter({"test": bytes(32)}),
    )


async def tick(client: Client, name: str) -> WorkflowHandle[RunWorkflow, RunOutcome]:
    attributes = [
        SearchAttributePair(KIND, "run"),
        SearchAttributePair(ENVIRONMENT, "prod"),
        SearchAttributePair(TRIGGER, "schedule"),
    ]
    return await client.start_workflow(
        RunWorkflow.run,
        RunInput(environment="prod"),
        id=f"run/{name}",
        task_queue=CONTROL_QUEUE,
        search_attributes=TypedSearchAttributes(attributes),
    )


async def test_of_ticks_that_waited_only_the_last_is_run(
    temporal: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "_LATE", timedelta())
    client = await connected(temporal)
    for name in NAMES:
        await tick(client, name)

    async def all_wait() -> bool:
        return (await client.count_workflows("ExecutionStatus = 'Running'")).count == len(NAMES)

    await eventually_async(all_wait)
    async with ControlApi("http://127.0.0.1:9/sqlmesh/local/main", "nobody asks the server") as api:
        control = ServerBackedControlActivities(api, EnvironmentSchedules(client))
        async with Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[RunWorkflow],
            activities=[control.has_later_tick],
            workflow_runner=PASSING_THROUGH,
        ):
            for name in NAMES[:-1]:
                outcome = await client.get_workflow_handle_for(RunWorkflow.run, f"run/{name}").result()
                assert outcome.status == "nothing_to_do"
            last = client.get_workflow_handle(f"run/{NAMES[-1]}")

            async def is_prepared() -> bool:
                described = await last.describe()
                pending = [activity.activity_type.name for activity in described.raw_description.pending_activities]
                assert described.status is WorkflowExecutionStatus.RUNNING
                assert described.typed_search_attributes.get(RUN_ID) == NAMES[-1]
                return pending == ["prepare_run"]

            await eventually_async(is_prepared)


class Executor:
    """Finds nothing due, and keeps what it was asked."""

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.recorded: list[RunOutcome] = []

    @activity.defn
    async def prepare_run(self, _: RunInput) -> UnitGraph:
        self.prepared.append(activity.info().workflow_id or "")
        return UnitGraph(nothing_to_do=True)

    @activity.defn
    async def record_run_status(self, run: RunOutcome) -> None:
        self.recorded.append(run)


async def test_of_ticks_that_wait_for_an_executor_only_the_first_is_run(
    temporal: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "_FIRST_WAITS", 100 * (timedelta(milliseconds=200),))
    client = await connected(temporal)
    executor = Executor()
    async with ControlApi("http://127.0.0.1:9/sqlmesh/local/main", "nobody asks the server") as api:
        control = ServerBackedControlActivities(api, EnvironmentSchedules(client))
        async with Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[RunWorkflow],
            activities=[control.has_waiting_tick, executor.record_run_status],
            workflow_runner=PASSING_THROUGH,
        ):
            first = await tick(client, NAMES[0])
            for name in NAMES[1:]:
                # One after another, as ticks come: those that end side by side are recorded in any order.
                assert (await (await tick(client, name)).result()).status == "nothing_to_do"
            assert (await first.describe()).status is WorkflowExecutionStatus.RUNNING

            async with Worker(client, task_queue=ExecutorQueue.RUN, activities=[executor.prepare_run]):
                assert (await first.result()).status == "nothing_to_do"
                # Whoever comes now waits for nobody.
                assert (await (await tick(client, "prod-2027-01-01T00:15:00Z")).result()).status == "nothing_to_do"

    assert executor.prepared == [f"run/{NAMES[0]}", "run/prod-2027-01-01T00:15:00Z"]
    # They leave no record behind, whatever an executor that was lost may have recorded of them.
    assert [(run.run_id, run.status) for run in executor.recorded] == [(name, "nothing_to_do") for name in NAMES[1:]]
