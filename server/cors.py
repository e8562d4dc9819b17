"""Cross-origin requests: Temporal's Web UI, and nobody else, may call the codec from a browser."""

import re
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from server.settings import ServerSettings

__all__ = ["CodecCors", "ui_origins"]

_CODEC = re.compile(r"/sqlmesh/[^/]+/[^/]+/api/codec/(encode|decode)\Z")


def ui_origins(settings: ServerSettings) -> list[str]:
    """The origins of Temporal's Web UI, as browsers spell them."""
    addresses = [*settings.codec_origins, *([settings.temporal_ui_url] if settings.temporal_ui_url else [])]
    return [f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, addresses)]


class CodecCors:
    """ASGI middleware that answers browsers' questions about the codec's routes; other routes answer none.

    Args:
        app: The application behind it.
        settings: Where the Web UI is.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings):
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=ui_origins(settings),
            allow_methods=["POST"],
            allow_headers=["Authorization", "Content-Type", "X-Namespace"],
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_codec = scope["type"] == "http" and _CODEC.match(scope["path"])
        await (self._cors if is_codec else self._app)(scope, receive, send)
