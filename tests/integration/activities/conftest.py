"""What a schedule's ticks are, asked of a real Temporal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleHandle,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
)

from tests.fixtures.loops import RunInLoop, loop_in_thread
from tests.fixtures.temporal import TemporalServer

_MOST = 1000
"""Temporal says no more of them at once."""


class Ticks:
    """A schedule whose spec is changed at will, and whose ticks Temporal's server says."""

    def __init__(self, client: Client, handle: ScheduleHandle, run: RunInLoop) -> None:
        self._client = client
        self._handle = handle
        self._run = run

    def between(self, spec: ScheduleSpec, after: datetime, until: datetime) -> list[datetime]:
        """The ticks of a spec after a moment and until another."""

        async def ask() -> list[datetime]:
            await self._set(spec)
            return await self._ticks(after, until)

        return self._run(ask())

    def missing(self, spec: ScheduleSpec, instants: Sequence[datetime]) -> list[datetime]:
        """The instants at which the spec does not tick."""

        async def ask() -> list[datetime]:
            await self._set(spec)
            # One after another: Temporal lets no more than a few queries of one workflow wait.
            return [at for at in instants if await self._ticks(at - timedelta(seconds=1), at) != [at]]

        return self._run(ask())

    async def _set(self, spec: ScheduleSpec) -> None:
        await self._handle.update(lambda _: ScheduleUpdate(schedule=paused(spec)))

    async def _ticks(self, after: datetime, until: datetime) -> list[datetime]:
        answer = await self._client.workflow_service.list_schedule_matching_times(
            ListScheduleMatchingTimesRequest(
                namespace=self._client.namespace,
                schedule_id=self._handle.id,
                start_time=_timestamp(after),
                end_time=_timestamp(until),
            )
        )
        ticks = [found.ToDatetime(UTC) for found in answer.start_time]
        assert len(ticks) < _MOST, "there are more ticks than Temporal says at once: ask for a shorter time"
        return ticks


@pytest.fixture(scope="session")
def ticks(temporal: TemporalServer) -> Iterator[Ticks]:
    """The ticks of schedules on a real server."""
    with loop_in_thread() as run:

        async def start() -> Ticks:
            client = await Client.connect(temporal.address, namespace=await temporal.fresh_namespace("ticks"))
            return Ticks(client, await client.create_schedule("ticks", paused(ScheduleSpec())), run)

        yield run(start())


def paused(spec: ScheduleSpec) -> Schedule:
    """A schedule that never starts anything."""
    return Schedule(
        action=ScheduleActionStartWorkflow("Never", id="never", task_queue="nobody"),
        spec=spec,
        state=ScheduleState(paused=True),
    )


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
