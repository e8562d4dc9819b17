"""Keeps the leases of what an executor has in flight, and stops what has lost its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import structlog

from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executions import LeaseRenewal

__all__ = ["LeaseKeeper", "LeaseLostError"]

_log = structlog.get_logger(__name__)
_RENEWALS_PER_LEASE = 4
_CHECKS_PER_LEASE = 16


class LeaseLostError(Exception):
    """Somebody else may write the physical table now: the evaluation was stopped before it could."""


@dataclass
class _Held:
    fence: int
    task: asyncio.Task[object]
    expires: float
    lost: bool = False


class LeaseKeeper:
    """Renews all leases of an executor in one call every few seconds.

    Args:
        api: The server.
        executor: This executor's identity.
    """

    def __init__(self, api: ExecutorApi, executor: str):
        self._api = api
        self._executor = executor
        self._held: dict[str, _Held] = {}
        self._lease_seconds = 30.0

    @contextmanager
    def holding(self, evaluation_id: str, fence: int, lease_seconds: float) -> Iterator[None]:
        """Keeps a lease while the body runs; cancels the body's task if the lease is lost.

        Raises:
            LeaseLostError: In place of the cancellation.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._lease_seconds = lease_seconds
        held = self._held[evaluation_id] = _Held(fence, task, _now() + lease_seconds)
        try:
            yield
        except asyncio.CancelledError:
            if held.lost and task.uncancel() == 0:
                raise LeaseLostError(
                    f"Executor {self._executor} lost its claim of the table: it was given away, or could not be kept."
                ) from None
            raise
        finally:
            del self._held[evaluation_id]

    async def run(self) -> None:
        """Renews until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_renewing())
            # Beside the renewals: one that gets no answer holds nobody up.
            tasks.create_task(self._keep_watch())

    async def _keep_renewing(self) -> None:
        per_lease = _RENEWALS_PER_LEASE
        while True:
            await asyncio.sleep(self._lease_seconds / per_lease)
            is_renewed = not self._held or await self._renew()
            per_lease = _RENEWALS_PER_LEASE if is_renewed else _CHECKS_PER_LEASE

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / _CHECKS_PER_LEASE)
            # An executor that cannot renew stops before the lease ends, not when it notices that it has.
            margin = self._lease_seconds / _RENEWALS_PER_LEASE
            for evaluation_id, held in self._held.items():
                if _now() > held.expires - margin:
                    self._lose(evaluation_id, held)

    async def _renew(self) -> bool:
        """Whether the server has answered."""
        asked = {evaluation_id: held.fence for evaluation_id, held in self._held.items()}
        at = _now()
        try:
            renewed = await asyncio.wait_for(
                self._api.renew_leases(LeaseRenewal(executor=self._executor, evaluations=asked)),
                self._lease_seconds / _RENEWALS_PER_LEASE,
            )
        except (httpx.HTTPError, RefusedError, TimeoutError) as error:
            _log.warning("leases_not_renewed", evaluations=len(asked), reason=str(error) or type(error).__name__)
            return False
        for evaluation_id in asked:
            held = self._held.get(evaluation_id)
            if held is None or held.fence != asked[evaluation_id]:
                continue
            if evaluation_id in renewed.lost:
                self._lose(evaluation_id, held)
            else:
                held.expires = at + self._lease_seconds
        return True

    def _lose(self, evaluation_id: str, held: _Held) -> None:
        if not held.lost:
            _log.warning("lease_lost", evaluation_id=evaluation_id)
            held.lost = True
            held.task.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
