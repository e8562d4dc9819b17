"""What an executor does about Python environments while nobody waits: builds, removes, tells what is there."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import httpx
import structlog

from activities.pythons import Pythons
from envmanager.errors import PythonUnavailableError
from envmanager.resolving import check_index
from envmanager.store import EnvironmentStore
from tcloud.api.executor import RefusedError
from tcloud.wire.executors import ExecutorHeartbeat

__all__ = ["PythonKeeper"]

_log = structlog.get_logger(__name__)
_PRUNE_SECONDS = 3600.0


class PythonKeeper:
    """Has the environments that are scheduled built before they are needed, and removes what nobody needs.

    Args:
        pythons: The environments of the project.
        store: Those that are built on this machine.
        keep: One that has not been in use for so long is removed.
        max_bytes: While all of them are larger, those that have been unused longest are removed.
    """

    def __init__(self, pythons: Pythons, store: EnvironmentStore, keep: timedelta, max_bytes: int):
        self._pythons = pythons
        self._store = store
        self._keep = keep
        self._max_bytes = max_bytes
        self._tried: set[str] = set()
        self._index_error: str | None = None

    async def run(self) -> None:
        """Says at once if no package index can be reached, and removes what is not needed every hour."""
        self._index_error = await check_index(self._store.uv)
        if self._index_error is not None:
            _log.warning("package_index_not_reached", reason=self._index_error)
        while True:
            try:
                removed = await asyncio.to_thread(self._store.prune, self._keep, self._max_bytes)
            except OSError as error:
                _log.warning("pythons_not_pruned", reason=str(error))
                removed = []
            for stored in removed:
                _log.info("python_removed", key=stored.key)
            await asyncio.sleep(_PRUNE_SECONDS)

    async def build(self, keys: Iterable[str]) -> None:
        """Builds the environments that are not here yet; one that cannot be built is tried once until it is needed."""
        wanted = set(keys)
        self._tried &= wanted
        for key in sorted(wanted - self._tried):
            self._tried.add(key)
            try:
                await self._pythons.build(key)
            except (PythonUnavailableError, RefusedError, httpx.HTTPError) as error:
                _log.warning("python_not_built", key=key, reason=str(error))

    async def add_to(self, heartbeat: ExecutorHeartbeat) -> ExecutorHeartbeat:
        """The executor's report with what there is of Python."""
        in_use, built = await self._pythons.report()
        return heartbeat.model_copy(
            update={"python_environments": in_use, "pythons": built, "package_index_error": self._index_error}
        )
