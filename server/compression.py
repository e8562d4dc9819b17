"""Request bodies that arrive compressed: a plan of a thousand models is a tenth of its size on the wire."""

import zlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["GunzipRequests"]

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1024 * 1024
"""Unpacked at a time: whoever limits bodies stops one that grows a thousandfold before it has."""


class GunzipRequests:
    """ASGI middleware that unpacks bodies with `Content-Encoding: gzip`, piece by piece.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or Headers(scope=scope).get("content-encoding") != "gzip":
            await self._app(scope, receive, send)
            return
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        is_more_packed, is_more_unpacked = True, False

        async def unpacked() -> Message:
            nonlocal is_more_packed, is_more_unpacked
            packed = unpacker.unconsumed_tail
            if not is_more_unpacked:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                packed, is_more_packed = message.get("body", b""), message.get("more_body", False)
            try:
                body = unpacker.decompress(packed, _PIECE_BYTES)
            except zlib.error as error:
                raise HTTPException(400, f"the body is not gzip ({error})") from error
            is_more_unpacked = len(body) == _PIECE_BYTES and not unpacker.eof
            is_more = is_more_packed or is_more_unpacked
            if not is_more and not unpacker.eof:
                raise HTTPException(400, "the body was cut on its way, and nothing of it is kept; send it again")
            return {"type": "http.request", "body": body, "more_body": is_more}

        headers = MutableHeaders(scope=scope)
        del headers["content-encoding"]
        del headers["content-length"]
        await self._app(scope, unpacked, send)
