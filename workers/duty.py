"""Whether an executor may take work: not while the server has another SQLMesh than it has itself."""

import asyncio

import structlog

__all__ = ["OUTDATED", "READY", "Duty"]

_log = structlog.get_logger(__name__)

READY, OUTDATED = "ready", "outdated"


class Duty:
    """Follows the server's version as reports bring it.

    Args:
        sqlmesh_version: The executor's own.
    """

    def __init__(self, sqlmesh_version: str):
        self._own = sqlmesh_version
        self._is_outdated = asyncio.Event()
        self._is_fit = asyncio.Event()
        self._is_fit.set()
        self._not_reported: str | None = None

    @property
    def status(self) -> str:
        """What the executor reports of itself."""
        return OUTDATED if self._is_outdated.is_set() else READY

    @property
    def trouble(self) -> str | None:
        """Why the executor is not at work, as far as the server has a say in it; None if it is."""
        if self._is_outdated.is_set():
            return "outdated: the server has another version of SQLMesh"
        return None if self._not_reported is None else f"the server was not told of it: {self._not_reported}"

    def not_reported(self, reason: str) -> None:
        """Takes note that a report has not reached the server."""
        self._not_reported = reason

    def server_has(self, sqlmesh_version: str | None) -> None:
        """Takes note that a report was answered, and of the server's version; None says nothing."""
        self._not_reported = None
        is_outdated = sqlmesh_version not in (None, self._own)
        if is_outdated == self._is_outdated.is_set():
            return
        if is_outdated:
            _log.error(
                "outdated",
                reason=f"The server has SQLMesh {sqlmesh_version} now, this executor {self._own}: it takes no more "
                f"work. Run `pip install sqlmesh=={sqlmesh_version}` in its Python environment and start it again.",
            )
            self._is_fit.clear()
            self._is_outdated.set()
        else:
            self._is_outdated.clear()
            self._is_fit.set()

    async def over(self) -> None:
        """Returns once the executor may take no more work."""
        await self._is_outdated.wait()

    async def again(self) -> None:
        """Returns once it may take work."""
        await self._is_fit.wait()
