"""HTTP as uvicorn speaks it, for clients that may mean ill: the head of a request has a size and a time to come in."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["UVICORN", "GuardedProtocol"]

_HEAD_SECONDS = 15.0
_HEAD_BYTES = 64 * 1024
_CLOSED = b"content-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """A connection that is closed if the head of its next request is too slow or too large.

    uvicorn itself waits for ever for the rest of a head, and keeps all of it. Bodies are `LimitBodies`' matter; a
    connection between two requests is closed by uvicorn (`timeout_keep_alive`).
    """

    _is_in_head = True
    _head_bytes = 0
    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > _HEAD_BYTES:
            self._close("431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._is_in_head = True
        if self._giving_up is None:
            self._giving_up = self.loop.call_later(_HEAD_SECONDS, self._close, "408 Request Timeout")

    def _head_is_there(self) -> None:
        self._is_in_head, self._head_bytes = False, 0
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _close(self, status: str) -> None:
        self._head_is_there()
        if not self.transport.is_closing():
            self.transport.write(f"HTTP/1.1 {status}\r\n".encode() + _CLOSED)
            self.transport.close()


UVICORN: dict[str, Any] = {
    "http": GuardedProtocol,
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "ws": "none",
}
"""How uvicorn serves this server, wherever it does."""
