"""The server's connections to Temporal: a client for each project's namespace, and what is said without an answer."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from fastapi.concurrency import run_in_threadpool
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError, RPCStatusCode

from server.errors import ApiError
from server.projects import Project
from server.settings import ServerSettings
from server.temporal_connection import TemporalConnection
from server.temporal_tokens import TemporalTokens
from tcloud.tracing import is_tracing
from telemetry.temporal_traces import temporal_interceptors
from workflows.codec import data_converter

__all__ = ["TemporalClients"]

_log = structlog.get_logger(__name__)
_HEALTH_TIMEOUT = timedelta(seconds=2)
_SERVER = "server"
"""The server's own name in its tokens."""

_NO_ANSWER = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


class TemporalClients:
    """Temporal, one namespace for each project; connected when it is first needed.

    Args:
        settings: The keys of its payloads, and whether it takes the server's tokens.
        connection: Where Temporal is.
        projects: Whose namespaces are called.
        tokens: Who issues the server's tokens.
    """

    def __init__(
        self,
        settings: ServerSettings,
        connection: TemporalConnection,
        projects: Iterable[Project],
        tokens: TemporalTokens,
    ):
        self._connection = connection
        self._projects = tuple(projects)
        self._tokens = tokens if settings.temporal_tokens else None
        self._token = self._fresh_token()
        keys = {key_id: base64.b64decode(key.get_secret_value()) for key_id, key in settings.codec_keys.items()}
        self._converter = data_converter(keys)
        self._clients: dict[Project, Client] = {}
        self._lock = asyncio.Lock()

    @property
    def codec(self) -> PayloadCodec:
        """What encrypts and decrypts the payloads of every project."""
        assert self._converter.payload_codec is not None  # noqa: S101 - it was made with one
        return self._converter.payload_codec

    @property
    def token(self) -> str | None:
        """What the server shows to Temporal: an API key, or a token that it has signed itself; None if neither."""
        return self._connection.api_key or self._token

    async def client(self, project: Project) -> Client:
        """The client of a project's namespace."""
        async with self._lock:
            if project not in self._clients:
                async with self.reached():
                    self._clients[project] = await Client.connect(
                        self._connection.address,
                        namespace=project.namespace,
                        data_converter=self._converter,
                        tls=self._connection.tls,
                        api_key=self.token,
                        rpc_metadata=self._connection.metadata,
                        interceptors=temporal_interceptors(is_tracing=is_tracing()),
                    )
            return self._clients[project]

    async def keep_signed_in(self) -> None:
        """Shows Temporal a fresh token in good time, for as long as it is not cancelled."""
        while self._tokens is not None:
            await asyncio.sleep(self._tokens.lifetime.total_seconds() / 2)
            self._token = await run_in_threadpool(self._fresh_token)
            for client in self._clients.values():
                client.api_key = self.token

    async def is_healthy(self, project: Project) -> bool:
        """Whether the project's frontend answers now."""
        client = await self.client(project)
        async with self.reached():
            return await client.service_client.check_health(timeout=_HEALTH_TIMEOUT)

    async def close(self) -> None:
        """Forgets the clients, so that their connections close before the loop does."""
        self._clients.clear()

    def _fresh_token(self) -> str | None:
        return self._tokens.for_frontend(self._projects, _SERVER) if self._tokens is not None else None

    async def unless_gone(self, call: Awaitable[None]) -> bool:
        """Says something to a workflow or schedule; False if Temporal has none of that id, or it is over."""
        async with self.reached():
            try:
                await call
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False
            return True

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[None]:
        """Turns what may go wrong with a call of Temporal into an `ApiError`."""
        try:
            yield
        except (RPCError, RuntimeError, TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            _log.warning("temporal_unreachable", address=self._connection.address, error=str(error))
            refused = isinstance(error, RPCError) and error.status not in _NO_ANSWER
            what = f"refused ({error})" if refused else "does not answer"
            raise ApiError(
                503,
                "TM-TEMPORAL",
                f"Temporal at {self._connection.address} {what}, so nothing was done: try again once it serves.",
            ) from error
