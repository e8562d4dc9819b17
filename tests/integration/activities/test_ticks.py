"""Ticks that waited for a control worker: the last of them is run."""

from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
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
from workflows.interfaces import CONTROL_QUEUE
from workflows.payloads import RunInput
from workflows.run import RunWorkflow

NAMES = ["prod-2027-01-01T00:00:00Z", "prod-2027-01-01T00:05:00Z", "prod-2027-01-01T00:10:00Z"]


async def test_of_ticks_that_waited_only_the_last_is_run(
    temporal: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "_LATE", timedelta())
    client = await Client.connect(
        temporal.address,
        namespace=await temporal.fresh_namespace("ticks"),
        data_converter=data_converter({"test": bytes(32)}),
    )
    attributes = [
        SearchAttributePair(KIND, "run"),
        SearchAttributePair(ENVIRONMENT, "prod"),
        SearchAttributePair(TRIGGER, "schedule"),
    ]
    for name in NAMES:
        await client.start_workflow(
            RunWorkflow.run,
            RunInput(environment="prod"),
            id=f"run/{name}",
            task_queue=CONTROL_QUEUE,
            search_attributes=TypedSearchAttributes(attributes),
        )

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
            workflow_runner=SandboxedWorkflowRunner(
                restrictions=SandboxRestrictions.default.with_passthrough_modules("workflows")
            ),
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
