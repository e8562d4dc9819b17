"""Every line that is logged while a request is served says which project, environment, plan or run it is about."""

import re

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["RequestLogs"]

_PATH = re.compile(r"/sqlmesh/(?P<org>[^/]+)/(?P<project>[^/]+)(?:/api/(?P<group>\w+)/(?P<id>[^/]+))?")
_NAMES = {
    "plans": "plan_id",
    "runs": "run_id",
    "environments": "environment",
    "executions": "execution_id",
    "owners": "owner_id",
    "queries": "query_id",
    "evaluations": "evaluation_id",
}


class RequestLogs:
    """ASGI middleware that binds the ids of a request's path to structlog's context.

    Args:
        app: The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.match(scope["path"]) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        ids = {"project": f"{found['org']}.{found['project']}"}
        if found["group"] in _NAMES:
            ids[_NAMES[found["group"]]] = found["id"]
        with structlog.contextvars.bound_contextvars(**ids):
            await self._app(scope, receive, send)
