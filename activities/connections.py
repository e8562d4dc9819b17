"""Tests of connections, before the vault keeps them or when somebody asks."""

import asyncio
import base64
from typing import Any

from activities.runner_calls import RunnerCalls
from envmanager.connections import ManagedConnections, SealedEnvelope
from envmanager.errors import RunnerCrashedError, TaskFailedError
from tcloud.api.executor import ExecutorApi
from tcloud.wire.connections import SealedConnection
from vault.opening import EnvelopeError

__all__ = ["ConnectionTests", "envelope_of"]

_LONGEST_SECONDS = 60.0
"""A warehouse that has not answered by then is out of reach for whoever waits."""


class ConnectionTests:
    """Has connections tested in runner processes.

    Args:
        api: The server.
        runners: The processes.
        managed: Opens what is sealed.
    """

    def __init__(self, api: ExecutorApi, runners: RunnerCalls, managed: ManagedConnections):
        self._api = api
        self._runners = runners
        self._managed = managed

    async def test(self, query_id: str) -> dict[str, Any]:
        """Opens the connection that a query is to test, and says what gateway it makes, as `answer`.

        Raises:
            TaskFailedError: If it leads nowhere; without a secret in it.
        """
        found = await self._api.connection_to_test(query_id)
        try:
            connection = self._managed.open(envelope_of(found))
        except EnvelopeError as error:
            raise _failed(str(error)) from None
        arguments = {"gateway": found.gateway, "connection": connection}
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                return {"answer": await self._runners.once("test_connection", arguments, query_id)}
        except RunnerCrashedError as error:
            # Not what it printed: nothing of this connection is known to those who hide secrets.
            raise _failed(f"The connection cannot be used: {error.reason[0].lower()}{error.reason[1:]}") from None
        except TimeoutError:
            raise _failed(
                f"The warehouse cannot be reached: it has not answered for {_LONGEST_SECONDS:.0f} seconds."
            ) from None


def envelope_of(connection: SealedConnection) -> SealedEnvelope:
    """A connection as the server sends it."""
    return SealedEnvelope(
        gateway=connection.gateway,
        type=connection.type,
        revision=connection.revision,
        sealed=base64.b64decode(connection.sealed),
        data_key=base64.b64decode(connection.data_key.get_secret_value()),
    )


def _failed(message: str) -> TaskFailedError:
    return TaskFailedError(message, "SQLMeshError", retryable=False, cause={})
