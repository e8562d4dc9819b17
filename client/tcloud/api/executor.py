"""What an executor asks of the server."""

import gzip
import json
from types import TracebackType
from typing import Self

import httpx
from pydantic import BaseModel, TypeAdapter

from tcloud.api.proxies import goes_through_proxies
from tcloud.api.trust import trusted_by
from tcloud.credentials import SignInError, as_credentials
from tcloud.tracing import async_request_hooks
from tcloud.wire.connections import SealedConnection, SealedConnections
from tcloud.wire.environments import Environment
from tcloud.wire.executions import (
    ConsoleEvent,
    LeaseRenewal,
    LeasesRenewed,
    TurnAnswer,
    UnitTurn,
    UnitTurns,
)
from tcloud.wire.executors import Bootstrap, ExecutorHeartbeat, ExecutorKind, HeartbeatAnswer
from tcloud.wire.plans import Plan
from tcloud.wire.pythons import PinnedPython, PlanPython, PythonRequest
from tcloud.wire.runs import Run, RunOptions

__all__ = ["ExecutorApi", "RefusedError"]

_ANSWERS = TypeAdapter(list[TurnAnswer])
_TIMEOUT_SECONDS = 120.0
_TURN_TIMEOUT_SECONDS = 15.0
"""Of a turn, which takes the server milliseconds: on a connection that died in silence it has to be repeated before the
lease of what it records ends."""

_COMPRESSED_FROM_BYTES = 4096
_CONNECTIONS = 100


class RefusedError(Exception):
    """The server answered, and the answer is no.

    Args:
        status: HTTP status.
        code: The server's code, `TM-…`.
        message: One line for a person.
        error_type: Name of SQLMesh's exception class, where SQLMesh said no.
    """

    def __init__(self, status: int, code: str, message: str, error_type: str | None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.error_type = error_type


class ExecutorApi:
    """Asynchronous client for an executor.

    Args:
        url: The project's URL, `<server>/sqlmesh/<org>/<project>`.
        credentials: The executor's bearer token, or what gets one.

    Every method raises `RefusedError` if the server says no to the request itself, and `httpx.HTTPError` if it
    cannot be reached or is in trouble: that may be tried again.
    """

    def __init__(self, url: str, credentials: httpx.Auth | str):
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/",
            auth=as_credentials(credentials),
            timeout=_TIMEOUT_SECONDS,
            trust_env=goes_through_proxies(url),
            verify=trusted_by(url),
            event_hooks={"request": async_request_hooks()},
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def bootstrap(self, kind: ExecutorKind) -> Bootstrap:
        """Where Temporal is, a token for it, the keys of its payloads, and the server's SQLMesh version."""
        return Bootstrap.model_validate_json(await self._send("GET", f"bootstrap?queue={kind.value}"))

    async def register(self, heartbeat: ExecutorHeartbeat) -> HeartbeatAnswer:
        """Says that this executor lives, and what it serves."""
        return HeartbeatAnswer.model_validate_json(await self._post("executors", heartbeat))

    async def connections(self) -> SealedConnections:
        """The connections of the project's vault, with what opens them."""
        return SealedConnections.model_validate_json(await self._send("GET", "sealed-connections"))

    async def connection_to_test(self, query_id: str) -> SealedConnection:
        """The connection that a query is to test."""
        return SealedConnection.model_validate_json(await self._send("GET", f"queries/{query_id}/connection"))

    async def state(self, method: str, body: bytes) -> bytes:
        """One call of the state contract."""
        return await self._send("POST", f"state/{method}", body)

    async def plan(self, plan_id: str) -> Plan:
        """A plan's record."""
        return Plan.model_validate_json(await self._send("GET", f"plans/{plan_id}"))

    async def evaluatable(self, plan_id: str) -> bytes:
        """A plan as it was submitted: the JSON of SQLMesh's `EvaluatablePlan`."""
        return await self._send("GET", f"plans/{plan_id}/evaluatable")

    async def put_plan_python(self, plan_id: str, python: PlanPython) -> None:
        """Notes which Python environment a plan's models run in."""
        await self._send("PUT", f"plans/{plan_id}/python-environment", python.model_dump_json().encode())

    async def python_environment(self, key: str) -> PinnedPython:
        """A pinned set by its key."""
        return PinnedPython.model_validate_json(await self._send("GET", f"python-environments/{key}"))

    async def python_environment_for(self, request: PythonRequest) -> PinnedPython | None:
        """What a request was resolved to, if it ever was."""
        try:
            return PinnedPython.model_validate_json(await self._send("GET", f"python-requests/{request.key}"))
        except RefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    async def put_python_environment(self, pinned: PinnedPython) -> PinnedPython:
        """Keeps what a request was resolved to, and returns what is kept: the first answer to a request stays."""
        body = pinned.model_dump_json().encode()
        return PinnedPython.model_validate_json(await self._send("PUT", f"python-requests/{pinned.request.key}", body))

    async def put_stages(self, plan_id: str, body: bytes) -> None:
        """Keeps the stages of a plan and their documents."""
        await self._send("PUT", f"plans/{plan_id}/stages", body)

    async def stage(self, plan_id: str, index: int) -> bytes:
        """The document of one stage."""
        return await self._send("GET", f"plans/{plan_id}/stages/{index}")

    async def environment(self, name: str) -> Environment | None:
        """An environment; None if there is none of that name."""
        try:
            return Environment.model_validate_json(await self._send("GET", f"environments/{name}"))
        except RefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    async def run(self, run_id: str) -> Run:
        """A run's record."""
        return Run.model_validate_json(await self._send("GET", f"runs/{run_id}"))

    async def begin_run(self, run_id: str, environment: str, trigger: str) -> RunOptions:
        """Records that a run is being prepared, and returns its options."""
        body = json.dumps({"environment": environment, "trigger": trigger}).encode()
        return RunOptions.model_validate_json(await self._send("POST", f"runs/{run_id}/begin", body))

    async def query(self, query_id: str) -> bytes:
        """What a query asks: JSON of the arguments of the runner's task."""
        return await self._send("GET", f"queries/{query_id}/question")

    async def put_answer(self, query_id: str, body: bytes) -> None:
        """Keeps the answer to a query, until whoever asked has read it."""
        await self._send("PUT", f"queries/{query_id}/answer", body)

    async def put_execution(self, execution_id: str, body: bytes) -> None:
        """Keeps an execution's document."""
        await self._send("PUT", f"executions/{execution_id}", body)

    async def execution(self, execution_id: str) -> bytes:
        """An execution's document: the JSON of `Execution`."""
        return await self._send("GET", f"executions/{execution_id}")

    async def tell_progress(self, execution_id: str, workflow_run_id: str, body: bytes) -> None:
        """Tells the workflow of an execution how far a bundle has come: JSON of the workflow's signal."""
        await self._send("POST", f"executions/{execution_id}/progress/{workflow_run_id}", body, _TURN_TIMEOUT_SECONDS)

    async def owner_events(self, owner_id: str, events: list[ConsoleEvent]) -> None:
        """Appends console events of a plan or run."""
        body = json.dumps([event.model_dump() for event in events]).encode()
        await self._send("POST", f"owners/{owner_id}/events", body)

    async def take_turns(self, turns: list[UnitTurn]) -> list[TurnAnswer]:
        """Records the ends of units, and claims and opens others; an answer for each turn, in their order."""
        body = UnitTurns(turns=turns).model_dump_json(exclude_defaults=True).encode()
        return _ANSWERS.validate_json(await self._send("POST", "units", body, _TURN_TIMEOUT_SECONDS))

    async def renew_leases(self, renewal: LeaseRenewal) -> LeasesRenewed:
        """Renews the leases of what is in flight."""
        return LeasesRenewed.model_validate_json(await self._post("leases", renewal))

    async def _post(self, path: str, body: BaseModel) -> bytes:
        return await self._send("POST", path, body.model_dump_json().encode())

    async def _send(
        self, method: str, path: str, body: bytes | None = None, seconds: float = _TIMEOUT_SECONDS
    ) -> bytes:
        headers = {"Content-Type": "application/json"}
        if body is not None and len(body) >= _COMPRESSED_FROM_BYTES:
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        try:
            response = await self._http.request(method, path, content=body, headers=headers, timeout=seconds)
        except SignInError as error:
            if error.is_refusal:
                raise RefusedError(error.status, "TM-TOKEN", str(error), None) from error
            raise
        if response.is_client_error and response.status_code != httpx.codes.TOO_MANY_REQUESTS:
            raise _refusal(response)
        return response.raise_for_status().content


def _refusal(response: httpx.Response) -> RefusedError:
    try:
        body = response.json()
    except ValueError:
        body = {}
    url = response.request.url
    message = body.get(
        "message", f"No Tempomesh server answers at {url}: whoever does said {response.status_code}. Check TCLOUD_URL."
    )
    return RefusedError(response.status_code, body.get("code", "TM-HTTP"), message, body.get("error_type"))
