"""Spans of requests, children of their senders'; the server has this only while traces are on."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tcloud.tracing import continued, span

__all__ = ["RequestSpans"]

_PARTS_BEFORE_GROUP = 5
"""`/sqlmesh/<org>/<project>/api/<group>/…`."""


class RequestSpans:
    """ASGI middleware that opens a span for each request of a project.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = scope["path"].split("/") if scope["type"] == "http" else []
        if len(parts) <= _PARTS_BEFORE_GROUP:
            await self._app(scope, receive, send)
            return
        # Of few values: ids are in no name of a span.
        name = f"{scope['method']} {parts[_PARTS_BEFORE_GROUP]}"
        with continued(Headers(scope=scope)), span(name, "server", **{"tempomesh.project": ".".join(parts[2:4])}):
            await self._app(scope, receive, send)
