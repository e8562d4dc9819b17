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
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._is_open = True

    def open(self) -> None:
        """Has queues served again after `close`."""
        self._is_open = True

    def follow(self, gateways: Iterable[Gateway]) -> None:
        """Serves the queues of these gateways and no others, as far as that can be now; to be called again and again.

        A queue that is over finishes what is at work, within its worker's grace. Until then Temporal's SDK takes no
        other worker of it: one that only has another number of tasks is served again by a later call.
        """
        if not self._is_open:
            return
        wanted = {queue_of(self._kind, gateway.name): self._at_once or gateway.concurrent_tasks for gateway in gateways}
        self._ending = {queue: task for queue, task in self._ending.items() if not task.done()}
        for queue, served in list(self._served.items()):
            if served.task.done():
                _log.error("queue_given_up", queue=queue, error=_reason(served.task))
                del self._served[queue]
            elif wanted.get(queue) != served.at_once:
                self._ending[queue] = asyncio.create_task(served.end())
                del self._served[queue]
        for queue in wanted.keys() - self._served.keys() - self._ending.keys():
            worker = self._worker(queue, wanted[queue])
            self._served[queue] = _Served(worker, asyncio.create_task(worker.run()), wanted[queue])

    @property
    def trouble(self) -> str | None:
        """The queue that nobody serves although it should be; None if there is none."""
        given_up = next((queue for queue, served in self._served.items() if served.task.done()), None)
        return None if given_up is None else f"it does not ask Temporal for work of queue '{given_up}'"

    async def close(self) -> None:
        """Serves nothing more; what is at work is finished, within the workers' grace."""
        self._is_open = False
        self._ending |= {queue: asyncio.create_task(served.end()) for queue, served in self._served.items()}
        self._served = {}
        await asyncio.gather(*self._ending.values())


def _reason(task: asyncio.Task[None]) -> str:
    error = None if task.cancelled() else task.exception()
    return str(error).splitlines()[0] if error is not None else "it ended"
