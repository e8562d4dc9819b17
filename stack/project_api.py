"""What the tour asks of the running server, as any administrator could."""

from types import TracebackType
from typing import Self

import httpx
from pydantic import TypeAdapter

from tcloud.wire.environments import Schedule
from tcloud.wire.runs import Run

__all__ = ["ProjectApi"]

TIMEOUT_SECONDS = 30.0

_SCHEDULES = TypeAdapter(list[Schedule])
_RUNS = TypeAdapter(list[Run])


class ProjectApi:
    """Asynchronous client for a person who watches a project.

    Args:
        url: the project's URL.
        token: a bearer token.

    Every method raises `httpx.HTTPError` if the server cannot be reached or refuses.
    """

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/",
            headers={"Authorization": f"Bearer {token}"},
            # It is on the loopback: no proxy knows the way.
            trust_env=False,
            timeout=TIMEOUT_SECONDS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def schedules(self) -> list[Schedule]:
        """The schedules of all environments."""
        return _SCHEDULES.validate_json(await self._get("schedules"))

    async def runs(self, environment: str) -> list[Run]:
        """The latest runs of an environment."""
        return _RUNS.validate_json(await self._get("runs", environment=environment, limit="20"))

    async def run(self, run_id: str) -> Run:
        """One run with its evaluations."""
        return Run.model_validate_json(await self._get(f"runs/{run_id}"))

    async def _get(self, path: str, **parameters: str) -> bytes:
        return (await self._http.get(path, params=parameters)).raise_for_status().content
