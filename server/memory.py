"""Large requests give back what they took.

SQLMesh's reads of thousands of snapshots leave syntax trees full of cycles, hundreds of megabytes in all, and the C
library keeps what Python frees for the next request.
"""

import ctypes
import gc
import sys
import time
from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["GiveBackMemory"]

_LARGE_BYTES = 500_000
_SECONDS_BETWEEN = 5.0
"""A collection takes tenths of a second, in which nobody is served."""


class GiveBackMemory:
    """ASGI middleware that collects garbage after requests with a large body or answer; behind the compression.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._collected_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0

        async def counted_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal size
            size += len(message.get("body", b""))
            await send(message)

        await self._app(scope, counted_receive, counted_send)
        now = time.monotonic()
        if size >= _LARGE_BYTES and now - self._collected_at >= _SECONDS_BETWEEN:
            self._collected_at = now
            await run_in_threadpool(_collect)


def _collect() -> None:
    gc.collect()
    # glibc gives freed memory to the system when it is told to; other C libraries do it by themselves, or cannot.
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
