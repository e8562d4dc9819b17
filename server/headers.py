"""What every answer tells browsers: to show it in no frame, to guess no types, to keep nothing."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["SecurityHeaders"]

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Answers are somebody's in particular, and some are secrets: no cache on the way keeps them.
    "cache-control": "no-store",
    # The answers are data: a browser that is made to show one as a page runs and loads nothing.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_TLS_ONLY = "max-age=31536000"


class SecurityHeaders:
    """ASGI middleware that adds the headers which a route has not set itself.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", _TLS_ONLY)
            await send(message)

        await self._app(scope, receive, with_headers)
