"""The queues of gateways come and go while there is work: nothing is lost, and no queue is left without a worker."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tcloud.wire.executors import ExecutorKind, Gateway
from tests.eventually import eventually_async
from tests.fixtures.temporal import TemporalServer
from workers.queues import GatewayQueues

CONTROL = "control-of-queues"


@workflow.defn
class Evaluate:
    @workflow.run
    async def run(self, queue: str) -> int:
        limit = timedelta(seconds=60)
        done: int = await workflow.execute_activity("evaluate", task_queue=queue, start_to_close_timeout=limit)
        return done


class Executor:
    """Serves whatever it is told to; what it evaluates takes until it may end."""

    def __init__(self, client: Client):
        self._client = client
        self.at_work: list[int] = []
        self.may_end = asyncio.Event()

    def worker(self, queue: str, at_once: int) -> Worker:
        @activity.defn(name="evaluate")
        async def evaluate() -> int:
            self.at_work.append(at_once)
            await self.may_end.wait()
            return at_once

        grace = timedelta(seconds=30)
        return Worker(
            self._client,
            task_queue=queue,
            activities=[evaluate],
            max_concurrent_activities=at_once,
            graceful_shutdown_timeout=grace,
        )


def gateway(name: str, concurrent_tasks: int) -> Gateway:
    return Gateway(name=name, type="duckdb", dialect="duckdb", concurrent_tasks=concurrent_tasks, is_default=False)


async def test_a_gateway_that_changes_while_it_is_at_work(temporal: TemporalServer) -> None:
    namespace = await temporal.fresh_namespace()
    client = await Client.connect(temporal.address, namespace=namespace)
    executor = Executor(client)
    queues = GatewayQueues(ExecutorKind.RUN, executor.worker, None)

    async def start(queue: str) -> WorkflowHandle[Evaluate, int]:
        return await client.start_workflow(Evaluate.run, queue, id=uuid4().hex, task_queue=CONTROL)

    control = Worker(client, task_queue=CONTROL, workflows=[Evaluate], workflow_runner=UnsandboxedWorkflowRunner())
    async with control:
        queues.follow([gateway("Home", 3)])
        first = await start("run/home")
        await eventually_async(_is(lambda: executor.at_work == [3]), 30)

        # Another number of tasks: Temporal's SDK would refuse a second worker while the first one is at work.
        changed = [gateway("home", 2), gateway("office", 1)]
        queues.follow(changed)
        second, elsewhere = await start("run/home"), await start("run/office")
        await eventually_async(_is(lambda: executor.at_work == [3, 1]), 30)
        executor.may_end.set()
        assert await first.result() == 3
        assert await elsewhere.result() == 1

        async def is_served() -> bool:
            queues.follow(changed)
            return 2 in executor.at_work

        await eventually_async(is_served, 30)
        assert await second.result() == 2
        assert queues.trouble is None

        # A stop in the middle waits for what is at work of queues that were over before it, too; afterwards nothing is
        # served until it is said to be.
        executor.may_end.clear()
        third = await start("run/home")
        await eventually_async(_is(lambda: executor.at_work.count(2) == 2), 30)
        queues.follow([])
        closing = asyncio.create_task(queues.close())
        await asyncio.sleep(0)
        executor.may_end.set()
        await closing
        assert await third.result() == 2
        queues.follow(changed)
        fourth = await start("run/home")
        queues.open()
        queues.follow(changed)
        assert await fourth.result() == 2
        await queues.close()


def _is(holds: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        return holds()

    return asked
