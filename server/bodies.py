"""Request bodies have a largest size and a slowest pace, whoever sends them."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LimitBodies", "admit"]

_TOO_SLOW = 408
_TOO_LARGE = 413
_UNKNOWN_BYTES = 16 * 1024 * 1024
"""Of a caller whom the door has not let in yet: FastAPI reads and parses the body of most routes before it asks who
calls. Plans and state, which are larger, are read by their routes behind the door."""

_PATIENCE_SECONDS = 30.0
_BYTES_A_SECOND = 4096
"""A body that comes more slowly, after the patience, is somebody's who holds connections and not a slow network."""


def admit(connection: HTTPConnection) -> None:
    """Notes that the door has let a caller in, who may now send as much as the server takes."""
    connection.state.is_admitted = True


class LimitBodies:
    """ASGI middleware that refuses a body once too many bytes of it have come; to be behind `GunzipRequests`.

    Args:
        app: The application behind it.
        limit: The largest body, in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int):
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0
        is_complete = False
        begun: float | None = None

        async def limited() -> Message:
            nonlocal received, is_complete, begun
            if is_complete:
                # What comes now is that the client has gone, whenever that may be.
                return await receive()
            begun = begun or asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(begun + _PATIENCE_SECONDS + received / _BYTES_A_SECOND):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(_TOO_SLOW, "the body does not arrive; send it again") from error
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body")
            limit = self._limit if scope.get("state", {}).get("is_admitted") else min(self._limit, _UNKNOWN_BYTES)
            if received > limit:
                raise HTTPException(_TOO_LARGE, _reason(limit, self._limit))
            return message

        await self._app(scope, limited, send)


def _reason(limit: int, configured: int) -> str:
    what = f"the body is larger than {limit} bytes, as much as"
    if limit < configured:
        return f"{what} this call takes"
    return f"{what} this server takes; plan fewer models at once, or have TEMPOMESH_SERVER_MAX_BODY_BYTES raised"
