"""Health of a process that nobody calls: a port that says whether it lives, and whether it is at work."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from telemetry.metrics import start_runtime
from workers.connections import CannotStartError
from workers.settings import WorkerSettings

__all__ = ["Health", "serving_health", "start_metrics", "temporal_trouble"]

_PROBE_SECONDS = 5.0


class Health:
    """What is known of a process's health.

    Nothing is ready before the process says what readiness is.
    """

    def __init__(self) -> None:
        self._troubles: Callable[[], Awaitable[str | None]] = _starting

    def ready_means(self, troubles: Callable[[], Awaitable[str | None]]) -> None:
        """Takes what is asked for whether the process is at work; it returns what is in the way, None if nothing is."""
        self._troubles = troubles

    async def alive(self) -> str | None:
        """Answers as long as the event loop goes round."""
        return None

    async def ready(self) -> str | None:
        """What is in the way of work, None if nothing is."""
        return await self._troubles()


async def _starting() -> str | None:
    return "starting"


@contextmanager
def serving_health(settings: WorkerSettings, health: Health) -> Iterator[None]:
    """Serves `/healthz` and `/readyz` while the body runs, if the settings name a port; to be used in the event loop.

    Raises:
        CannotStartError: If somebody else listens there.
    """
    if settings.health_port is None:
        yield
        return
    loop = asyncio.get_running_loop()
    checks = {"/healthz": health.alive, "/readyz": health.ready}

    class Handler(BaseHTTPRequestHandler):
        timeout = _PROBE_SECONDS

        def do_GET(self) -> None:
            check = checks.get(self.path)
            if check is None:
                self._answer(404, "There are /healthz and /readyz.")
                return
            try:
                # The event loop is asked in either case: one that is stuck makes a process that is not alive.
                trouble = asyncio.run_coroutine_threadsafe(_awaited(check), loop).result(_PROBE_SECONDS)
            except FutureTimeoutError:
                trouble = f"no answer within {_PROBE_SECONDS:g} seconds"
            self._answer(503 if trouble else 200, trouble or "ok")

        def _answer(self, status: int, line: str) -> None:
            body = f"{line}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds and are worth no line."""

    try:
        server = ThreadingHTTPServer((settings.health_host, settings.health_port), Handler)
    except OSError as error:
        raise CannotStartError(
            f"Cannot listen on {settings.health_host}:{settings.health_port}: {error.strerror}. Stop what does, or "
            "set TCLOUD_HEALTH_PORT."
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def _awaited(check: Callable[[], Awaitable[str | None]]) -> str | None:
    return await check()


def start_metrics(settings: WorkerSettings) -> None:
    """Serves metrics if the settings name a port, and sets Temporal's SDK up; before the process connects to it.

    Raises:
        CannotStartError: If somebody else listens there.
    """
    try:
        start_runtime(None if settings.metrics_port is None else (settings.health_host, settings.metrics_port))
    except (ValueError, RuntimeError) as error:
        raise CannotStartError(
            f"Metrics cannot be served at {settings.health_host}:{settings.metrics_port}: {error}. Stop what does, or "
            "set TCLOUD_METRICS_PORT."
        ) from error


async def temporal_trouble(client: Client) -> str | None:
    """Why Temporal cannot be asked for work; None if it can."""
    try:
        # Not the standard health check: the edge lets executors call nothing that a worker would not.
        request = DescribeNamespaceRequest(namespace=client.namespace)
        await client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=_PROBE_SECONDS - 1))
    except RPCError as error:
        return f"Temporal does not answer: {error.message}"
    return None
