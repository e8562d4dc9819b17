"""What the walk of a run makes of what executors report, on a real Temporal; the executors are stand-ins."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from tests.eventually import eventually_async
from tests.fixtures.temporal import TemporalServer
from workflows.interfaces import CONTROL_QUEUE, ExecutorQueue
from workflows.payloads import (
    ExecutionRef,
    RunInput,
    RunNotice,
    RunOutcome,
    UnitGraph,
    UnitProgress,
    UnitRef,
    UnitResult,
)
from workflows.run import RunWorkflow
from workflows.units import UnitsWorkflow

Evaluate = Callable[[UnitRef], Coroutine[Any, Any, UnitResult]]


class Stack:
    """A worker that has both queues; what an evaluation comes to is the test's to say."""

    def __init__(self, client: Client, graph: UnitGraph, evaluate: Evaluate):
        self.client = client
        self.graph = graph
        self._evaluate = evaluate
        self.outcomes: list[ExecutionRef] = []
        self.notices: list[RunNotice] = []

    @activity.defn
    async def prepare_run(self, _: RunInput) -> UnitGraph:
        return self.graph

    @activity.defn
    async def evaluate(self, units: UnitRef) -> UnitResult:
        return await self._evaluate(units)

    @activity.defn
    async def notify_run(self, notice: RunNotice) -> None:
        self.notices.append(notice)
        raise ConnectionError("the mail server is away")

    @activity.defn
    async def record_outcome(self, execution: ExecutionRef) -> None:
        self.outcomes.append(execution)

    @activity.defn
    async def record_run_status(self, run: RunOutcome) -> None: ...

    @asynccontextmanager
    async def started(self) -> AsyncIterator[WorkflowHandle[RunWorkflow, RunOutcome]]:
        """A run that the worker has taken up."""
        runner = SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules("workflows", "pydantic")
        )
        async with (
            Worker(
                self.client,
                task_queue=CONTROL_QUEUE,
                workflows=[RunWorkflow],
                activities=[self.record_outcome, self.record_run_status],
                workflow_runner=runner,
            ),
            Worker(
                self.client, task_queue=ExecutorQueue.RUN, activities=[self.prepare_run, self.evaluate, self.notify_run]
            ),
        ):
            yield await self.client.start_workflow(
                RunWorkflow.run, RunInput(environment="prod"), id="run/prod-1", task_queue=CONTROL_QUEUE
            )


async def connected(temporal: TemporalServer) -> Client:
    namespace = await temporal.fresh_namespace("dispatch")
    return await Client.connect(temporal.address, namespace=namespace, data_converter=pydantic_data_converter)


def graph(count: int) -> UnitGraph:
    return UnitGraph(execution_id="prod-1", kinds="e" * count, dependencies=[[] for _ in range(count)])


async def test_a_unit_that_is_to_be_tried_again_says_how_often_it_was(temporal: TemporalServer) -> None:
    seen: list[tuple[list[int], dict[int, int]]] = []

    async def evaluate(units: UnitRef) -> UnitResult:
        seen.append((units.units, units.retried))
        if units.units == [0] and units.retried.get(0, 0) < 2:
            return UnitResult(reports="y", retry_waits={0: 0.01})
        return UnitResult(reports="d" * len(units.units))

    stack = Stack(await connected(temporal), graph(2), evaluate)
    async with stack.started() as run:
        outcome = await run.result()

    assert outcome.status == "success"
    assert [retried for units, retried in seen if units == [0]] == [{}, {0: 1}, {0: 2}]
    assert [retried for units, retried in seen if units == [1]] == [{}]


async def test_what_is_of_a_gateway_goes_to_executors_that_have_it(temporal: TemporalServer) -> None:
    seen: list[tuple[str, str, list[int]]] = []

    @activity.defn(name="prepare_run")
    async def prepare(_: RunInput) -> UnitGraph:
        queue = activity.info().task_queue
        seen.append(("prepare", queue, []))
        if queue == "run":
            return UnitGraph(elsewhere="Office")
        return graph(40).model_copy(update={"gateway": "office", "gateways": {"home": list(range(0, 40, 2))}})

    async def evaluate(units: UnitRef) -> UnitResult:
        seen.append(("evaluate", activity.info().task_queue, units.units))
        return UnitResult(reports="d" * len(units.units))

    stack = Stack(await connected(temporal), graph(40), evaluate)
    at_home = Worker(stack.client, task_queue="run/home", activities=[stack.evaluate])
    at_office = Worker(stack.client, task_queue="run/office", activities=[prepare, stack.evaluate])
    stack.prepare_run = prepare  # type: ignore[method-assign]
    async with at_home, at_office, stack.started() as run:
        assert (await run.result()).status == "success"
    assert [(what, queue) for what, queue, _ in seen if what == "prepare"] == [
        ("prepare", "run"),
        ("prepare", "run/office"),
    ]
    where = {unit: queue for what, queue, units in seen if what == "evaluate" for unit in units}
    assert where == {unit: "run/office" if unit % 2 else "run/home" for unit in range(40)}


async def test_what_a_long_unit_has_handed_back_is_given_out_once(temporal: TemporalServer) -> None:
    given = Counter[int]()
    first: list[int] = []
    others_have_them, others_may_go = asyncio.Event(), asyncio.Event()

    async def evaluate(units: UnitRef) -> UnitResult:
        given.update(units.units)
        if units.bundle == 1:
            first.extend(units.units)
            letters = "r" + "." * (len(first) - 1)
            handle = stack.client.get_workflow_handle("run/prod-1")
            await handle.signal(UnitsWorkflow.units_progress, UnitProgress(bundle=1, reports=letters))
            # They are in the hands of others when this bundle ends.
            await others_have_them.wait()
            return UnitResult(reports=letters.replace("r", "d"))
        if set(units.units) & set(first):
            if all(given[unit] == 2 for unit in first[1:]):
                others_have_them.set()
            await others_may_go.wait()
        return UnitResult(reports="d" * len(units.units))

    stack = Stack(await connected(temporal), graph(40), evaluate)
    async with stack.started() as run:
        await eventually_async(lambda: has_booked(run, bundle=1))
        others_may_go.set()
        outcome = await run.result()

    assert outcome.status == "success"
    assert len(first) > 1
    assert {unit: given[unit] for unit in first} == {first[0]: 1, **dict.fromkeys(first[1:], 2)}


@pytest.mark.parametrize(("report", "ended"), [("d", "run_end"), ("f", "run_failure"), (".", "run_stopped")])
async def test_a_run_is_told_of_once_even_if_that_fails(temporal: TemporalServer, report: str, ended: str) -> None:
    async def evaluate(_: UnitRef) -> UnitResult:
        return UnitResult(reports=report, stopped=report == ".")

    told = graph(1).model_copy(update={"has_notifications": True})
    stack = Stack(await connected(temporal), told, evaluate)
    async with stack.started() as run:
        outcome = await run.result()

    assert outcome.status == ("failed" if report == "f" else "success")
    assert [notice.event for notice in stack.notices] == ["run_start", ended]
    assert [notice.error for notice in stack.notices] == [None, outcome.error]


async def has_booked(run: WorkflowHandle[Any, Any], bundle: int) -> bool:
    """Whether the workflow has taken note of a bundle's end."""
    events = (await run.fetch_history()).events
    bundles = [e.event_id for e in events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED][1:]
    if len(bundles) < bundle:
        return False
    ended = [
        e.event_id
        for e in events
        if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        and e.activity_task_completed_event_attributes.scheduled_event_id == bundles[bundle - 1]
    ]
    later = [e.event_id for e in events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    return bool(ended) and max(later) > ended[0]


async def test_a_unit_asks_again_when_the_table_that_it_waits_for_is_free(temporal: TemporalServer) -> None:
    asked = 0

    async def evaluate(_: UnitRef) -> UnitResult:
        nonlocal asked
        asked += 1
        return UnitResult(reports="c" if asked < 6 else "d")

    stack = Stack(await connected(temporal), graph(1), evaluate)
    async with stack.started() as run:
        result = asyncio.create_task(run.result())
        while not result.done():
            with suppress(RPCError):
                await run.signal(RunWorkflow.table_released)
            await asyncio.wait([result], timeout=0.2)

    assert (await result).status == "success"
    kinds = [event.event_type async for event in run.fetch_history_events()]
    assert EventType.EVENT_TYPE_TIMER_CANCELED in kinds, "no wait was cut short"
