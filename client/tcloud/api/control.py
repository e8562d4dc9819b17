"""What the control worker asks of the server: to record, and which schedules there should be."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import httpx
from pydantic import TypeAdapter

from tcloud.api.proxies import goes_through_proxies
from tcloud.api.trust import trusted_by
from tcloud.credentials import as_credentials
from tcloud.tracing import async_request_hooks
from tcloud.wire.environments import ScheduledEnvironment, UnscheduledCron
from tcloud.wire.executions import ConsoleEvent, ExecutionOutcome
from tcloud.wire.executors import Bootstrap
from tcloud.wire.plans import TablesHeld

__all__ = ["ControlApi"]

_SCHEDULED = TypeAdapter(list[ScheduledEnvironment])
_TIMEOUT_SECONDS = 20.0


class ControlApi:
    """Asynchronous client for a worker of the control plane.

    Args:
        url: The project's URL, `<server>/sqlmesh/<org>/<project>`.
        credentials: The worker's bearer token, or what gets one.

    Every method raises `httpx.HTTPError` if the server cannot be reached or refuses.
    """

    def __init__(self, url: str, credentials: httpx.Auth | str):
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/",
            auth=as_credentials(credentials),
            timeout=_TIMEOUT_SECONDS,
            trust_env=goes_through_proxies(url),
            verify=trusted_by(url),
            event_hooks={"request": async_request_hooks()},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def bootstrap(self) -> Bootstrap:
        """Where Temporal is, and the keys of its payloads."""
        return Bootstrap.model_validate_json((await self._get("bootstrap")).content)

    async def plan_status(self, plan_id: str, status: str, error_message: str | None) -> None:
        """Records how a plan stands."""
        await self._post(f"plans/{plan_id}/status", {"status": status, "error_message": error_message})

    async def stage_status(self, plan_id: str, index: int, status: str, error_message: str | None) -> None:
        """Records how a stage of a plan stands."""
        await self._post(f"plans/{plan_id}/stages/{index}/status", {"status": status, "error_message": error_message})

    async def hold_tables(self, plan_id: str, index: int) -> TablesHeld:
        """Keeps runs away from the tables that a promotion replaces."""
        response = (await self._http.post(f"plans/{plan_id}/stages/{index}/hold")).raise_for_status()
        return TablesHeld.model_validate_json(response.content)

    async def run_status(self, run_id: str, status: str, error_message: str | None) -> None:
        """Records how a run ended."""
        await self._post(f"runs/{run_id}/status", {"status": status, "error_message": error_message})

    async def begin_query(self, query_id: str) -> None:
        """Records that housekeeping begins; refused for as long as something stands in its way."""
        await self._post(f"queries/{query_id}/begin", {})

    async def query_status(self, query_id: str, status: str, error_message: str | None) -> None:
        """Records how a query ended."""
        await self._post(f"queries/{query_id}/status", {"status": status, "error_message": error_message})

    async def execution_outcome(self, execution_id: str, outcome: ExecutionOutcome) -> None:
        """Records the units of an execution that never started."""
        await self._post(f"executions/{execution_id}/outcome", outcome.model_dump(mode="json"))

    async def unscheduled(self, environment: str, left_out: Sequence[UnscheduledCron]) -> None:
        """Records which crons of an environment Temporal does not take."""
        body = [cron.model_dump(mode="json") for cron in left_out]
        (await self._http.put(f"environments/{environment}/unscheduled", json=body)).raise_for_status()

    async def owner_events(self, owner_id: str, events: Sequence[ConsoleEvent]) -> None:
        """Appends console events of a plan or run."""
        body = [event.model_dump(mode="json") for event in events]
        (await self._http.post(f"owners/{owner_id}/events", json=body)).raise_for_status()

    async def settle_pauses(self, environment: str, run_id: str) -> bytes:
        """Ends pauses of an environment whose time has come, and says which are in force, as JSON."""
        response = await self._http.post(f"environments/{environment}/pauses/settle", json={"run_id": run_id})
        return response.raise_for_status().content

    async def wanted_schedules(self) -> list[ScheduledEnvironment]:
        """The environments that are scheduled, with their crons."""
        response = (await self._http.post("schedules/wanted")).raise_for_status()
        return _SCHEDULED.validate_json(response.content)

    async def _get(self, path: str) -> httpx.Response:
        return (await self._http.get(path)).raise_for_status()

    async def _post(self, path: str, body: dict[str, object]) -> None:
        (await self._http.post(path, json=body)).raise_for_status()
