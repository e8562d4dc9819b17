"""Console events of a task on their way to the server: gathered for a moment, sent while the task goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from activities.discretion import discreet_events
from tcloud.api.executor import ExecutorApi
from tcloud.wire.executions import ConsoleEvent

__all__ = ["ConsoleEvents"]

_GATHER_SECONDS = 0.05
"""Shorter than whoever watches would notice, longer than a view takes to be created."""


class ConsoleEvents:
    """The console events of one task of a plan or run, in their order.

    A call to the server for each would take longer than most of what they tell of.

    Args:
        api: The server.
        owner_id: The plan or run.
        keeps_home: Whether only names, counts and times are sent.
    """

    def __init__(self, api: ExecutorApi, owner_id: str, *, keeps_home: bool = False):
        self._keeps_home = keeps_home
        self._api = api
        self._owner_id = owner_id
        self._gathered: list[ConsoleEvent] = []
        self._closing = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def append(self, events: list[dict[str, Any]]) -> None:
        """Takes events; whatever kept earlier ones from the server is raised here, or when the task is over."""
        told = [ConsoleEvent.model_validate(event) for event in events]
        self._gathered.extend(discreet_events(told) if self._keeps_home else told)
        if self._sending is not None and self._sending.done():
            self._sending.result()
            self._sending = None
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    @asynccontextmanager
    async def delivered(self) -> AsyncIterator[None]:
        """For as long as the task goes on; at its end, however it ends, the server has all that it said."""
        try:
            yield
        except asyncio.CancelledError:
            if self._sending is not None:
                self._sending.cancel()
            raise
        except BaseException:
            await self._flush()
            raise
        await self._flush()

    async def _flush(self) -> None:
        self._closing.set()
        if self._sending is not None:
            await self._sending

    async def _send(self) -> None:
        while self._gathered:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _GATHER_SECONDS)
            events, self._gathered = self._gathered, []
            await self._api.owner_events(self._owner_id, events)
