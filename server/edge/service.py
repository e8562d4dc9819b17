"""A gRPC pass-through in front of Temporal: looks into each request, and sends on the very bytes that came."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

import grpc
import structlog

from server.edge.channel import LARGEST_REQUEST_BYTES, open_channel
from server.edge.rules import ALLOWED, refusal
from server.temporal_connection import TemporalConnection
from server.temporal_tokens import EdgePass

__all__ = ["serve_edge"]

_log = structlog.get_logger(__name__)
_GRACE_SECONDS = 2.0
_LONGEST_CALL_SECONDS = 180.0
"""Of a call without a deadline: SDKs set one, of a long poll a little more than a minute."""

_SENT_ON = frozenset({"client-name", "client-version", "supported-server-versions", "supported-features"})
"""Metadata of a request that Temporal gets to see."""

_SENT_BACK = "grpc-status-details-bin"
"""What Temporal says of an error, besides its status."""

_BEARER = "bearer "

Bearer = Callable[[str], Awaitable[EdgePass | None]]
"""Says what a token is good for; None if for nothing."""

Authorization = Callable[[], str | None]
"""The token that the server itself shows to Temporal, if it shows one."""


@asynccontextmanager
async def serve_edge(
    address: str, connection: TemporalConnection, bearer: Bearer, authorization: Authorization
) -> AsyncIterator[int]:
    """Serves the edge for as long as the context is open; yields its port.

    Args:
        address: Where it listens, `host:port`; without TLS, which is for the proxy in front of it.
        connection: Temporal.
        bearer: Whose token is whose.
        authorization: The server's own token.

    Raises:
        RuntimeError: If the address is taken.
    """
    channel = open_channel(connection)
    service = grpc.aio.server(
        handlers=[_Door(channel, connection, bearer, authorization)],
        options=[
            ("grpc.max_receive_message_length", LARGEST_REQUEST_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # The proxy in front passes its clients' pings on to nobody, but has its own.
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    port = service.add_insecure_port(address)
    await service.start()
    _log.info("edge_ready", address=address, temporal=connection.address)
    try:
        yield port
    finally:
        await service.stop(_GRACE_SECONDS)
        await channel.close()


class _Door(grpc.GenericRpcHandler):
    def __init__(
        self,
        channel: grpc.aio.Channel,
        connection: TemporalConnection,
        bearer: Bearer,
        authorization: Authorization,
    ):
        self._channel = channel
        self._metadata = tuple(connection.metadata.items())
        self._bearer = bearer
        self._authorization = authorization

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        if details.method in ALLOWED:
            return grpc.unary_unary_rpc_method_handler(partial(self._pass_on, details.method))
        # Whatever else there is, streams of reflection included.
        return grpc.stream_stream_rpc_method_handler(partial(self._refuse, details.method))

    async def _pass_on(self, method: str, body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        bearer = await self._who(context)
        reason = refusal(method, body, bearer)
        if reason is not None:
            await _deny(method, reason, bearer, context)
        remaining = context.time_remaining()
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        call = ask(
            body,
            timeout=_LONGEST_CALL_SECONDS if remaining is None else min(remaining, _LONGEST_CALL_SECONDS),
            metadata=self._sent_on(context, bearer),
        )
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            told = tuple((key, value) for key, value in error.trailing_metadata() if key == _SENT_BACK)
            # Of a Temporal that does not answer, gRPC's own words name its address, which is nobody's business outside.
            is_away = error.code() is grpc.StatusCode.UNAVAILABLE
            details = "Temporal does not answer." if is_away else error.details() or ""
            await context.abort(error.code(), details, told)
        return answer

    async def _refuse(
        self, method: str, _requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> None:
        bearer = await self._who(context)
        await _deny(method, refusal(method, b"", bearer) or "", bearer, context)

    async def _who(self, context: "grpc.aio.ServicerContext[bytes, bytes]") -> EdgePass:
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
                found = await self._bearer(value[len(_BEARER) :])
                if found is not None:
                    return found
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED, "This takes the token that the server gives to executors; none is valid."
        )
        raise AssertionError("abort raises")

    def _sent_on(
        self, context: "grpc.aio.ServicerContext[bytes, bytes]", bearer: EdgePass
    ) -> tuple[tuple[str, str | bytes], ...]:
        theirs = [(key, value) for key, value in context.invocation_metadata() or () if key in _SENT_ON]
        ours: list[tuple[str, str | bytes]] = [("temporal-namespace", bearer.project.namespace), *self._metadata]
        token = self._authorization()
        if token is not None:
            ours.append(("authorization", f"Bearer {token}"))
        return (*theirs, *ours)


async def _deny(
    method: str, reason: str, bearer: EdgePass, context: "grpc.aio.ServicerContext[bytes, bytes]"
) -> NoReturn:
    _log.warning(
        "edge_refused",
        method=method.rpartition("/")[2],
        reason=reason,
        identity=bearer.identity_id,
        project=bearer.project.namespace,
    )
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
    raise AssertionError("abort raises")
