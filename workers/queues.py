"""The task queues that an executor serves: that of its kind, and one more for each of its gateways."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from temporalio.worker import Worker

from tcloud.wire.executors import ExecutorKind, Gateway
from workflows.interfaces import ExecutorQueue, queue_of

__all__ = ["GatewayQueues"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Served:
    worker: Worker
    task: asyncio.Task[None]
    at_once: int

    async def end(self) -> None:
        if not self.task.done():
            await self.worker.shutdown()
        await asyncio.gather(self.task, return_exceptions=True)


class GatewayQueues:
    """Serves the queues of gateways, which come and go with the project's vault.

    Args:
        kind: Of the executor.
        worker: Makes a worker of a queue that has so much at work at a time.
        at_once: How much of a gateway is at work at a time; as much as the gateway says if None.
    """

    def __init__(self, kind: ExecutorKind, worker: Callable[[str, int], Worker], at_once: int | None):
        self._kind = ExecutorQueue(kind.value)
        self._worker = worker
        self._at_once = at_once
        self._served: dict[str, _Served] = {}
        self._is_open = True

    def open(self) -> None:
        """Has queues served again after `close`."""
        self._is_open = True

    async def follow(self, gateways: Iterable[Gateway]) -> None:
        """Serves the queues of these gateways and no others; what is at work of one that is gone is finished first."""
        if not self._is_open:
            return
        wanted = {queue_of(self._kind, gateway.name): self._at_once or gateway.concurrent_tasks for gateway in gateways}
        over = {
            queue: served
            for queue, served in self._served.items()
            if served.task.done() or wanted.get(queue) != served.at_once
        }
        for queue, served in over.items():
            del self._served[queue]
            if served.task.done() and not served.task.cancelled() and (error := served.task.exception()) is not None:
                # It is served anew, here and now.
                _log.error("queue_given_up", queue=queue, error=str(error))
        for queue in wanted.keys() - self._served.keys():
            worker = self._worker(queue, wanted[queue])
            self._served[queue] = _Served(worker, asyncio.create_task(worker.run()), wanted[queue])
        await asyncio.gather(*(served.end() for served in over.values()))

    async def close(self) -> None:
        """Serves nothing more; what is at work is finished, within the workers' grace."""
        self._is_open = False
        ending = list(self._served.values())
        self._served = {}
        await asyncio.gather(*(served.end() for served in ending))
