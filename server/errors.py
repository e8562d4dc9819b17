"""Errors that the server answers with: a status, a stable code and one line that says what to do."""

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ApiError", "UnexpectedErrors", "in_one_line"]

_log = structlog.get_logger(__name__)


class ApiError(Exception):
    """An answer that is not the one that was asked for.

    Args:
        status: HTTP status.
        code: Stable code, `TM-…`, that scripts may rely on.
        message: What, where, and what to do; one line for a person.
        error_type: Name of SQLMesh's exception class, where SQLMesh raised it.
    """

    def __init__(self, status: int, code: str, message: str, error_type: str | None = None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.error_type = error_type


def in_one_line(text: str) -> str:
    """A message as one line for a terminal, whatever of the request it quotes."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


class UnexpectedErrors:
    """ASGI middleware that logs what nobody expected and answers it with one line.

    Starlette's own handler raises the error again after its answer, whereupon the connection is closed under a client
    that is about to use it again.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            # In the middle of its request: nobody is left to be answered.
            _log.info("client_gone", method=scope["method"], path=scope["path"])
        except Exception as error:
            _log.error("request_failed", method=scope["method"], path=scope["path"], exc_info=error)
            if has_started:
                raise
            message = in_one_line(f"The server failed on {scope['method']} {scope['path']}; its log has the details.")
            await JSONResponse({"code": "TM-INTERNAL", "message": message}, status_code=500)(scope, receive, send)
