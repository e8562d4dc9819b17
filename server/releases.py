"""Tells a run that waits for a physical table that the table is free, so that it need not wait for its next attempt.

Only a hint: a run that hears nothing (Temporal was away, this server was restarted) asks again by itself.
"""

import asyncio
from threading import Lock

import anyio
import structlog

from server.errors import ApiError
from server.projects import Project
from server.temporal import TemporalGateway

__all__ = ["Releases"]

_log = structlog.get_logger(__name__)
_EVERY_SECONDS = 0.5
"""A table of many short units is released again and again: its waiting run is told no more often than this."""


class Releases:
    """Collects the runs to be told, from any thread; one signal a run goes out at a time.

    Args:
        temporal: Where the runs are.
    """

    def __init__(self, temporal: TemporalGateway):
        self._temporal = temporal
        self._waiting: set[tuple[Project, str]] = set()
        self._lock = Lock()

    def tell(self, project: Project, run_id: str) -> None:
        """Notes that a table is free that a run waits for."""
        with self._lock:
            self._waiting.add((project, run_id))

    async def keep_telling(self) -> None:
        """Sends what was noted, until it is cancelled."""
        while True:
            await anyio.sleep(_EVERY_SECONDS)
            with self._lock:
                waiting, self._waiting = self._waiting, set()
            await asyncio.gather(*(self._signal(project, run_id) for project, run_id in waiting))

    async def _signal(self, project: Project, run_id: str) -> None:
        try:
            await self._temporal.tell_of_release(project, run_id)
        except ApiError as error:
            _log.debug("release_not_told", project=project.namespace, run_id=run_id, reason=error.message)
