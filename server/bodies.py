"""Request bodies have a largest size, whoever sends them."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LimitBodies"]

_TOO_LARGE = 413


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

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(
                    _TOO_LARGE,
                    f"the body is larger than {self._limit} bytes, as much as this server takes; plan fewer models at "
                    "once, or have TEMPOMESH_SERVER_MAX_BODY_BYTES raised",
                )
            return message

        await self._app(scope, limited, send)
