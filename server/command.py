"""`tcloud server`."""

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from telemetry.logs import configure_logging

if TYPE_CHECKING:
    from server.settings import ServerSettings

__all__ = ["server"]

_SWITCH_SECONDS = 0.0005
_PREFIX = "TEMPOMESH_SERVER_"
_ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
"""Python's own 700 are less than one snapshot has; some ten megabytes of garbage in cycles are the price."""


@click.command()
def server() -> None:
    """Serve the HTTP API and SQLMesh's state; set up by TEMPOMESH_SERVER_… variables (docs/deployment.md)."""
    # SQLMesh's loader forks a process per core where it may; a server has threads and must not.
    os.environ.setdefault("MAX_FORK_WORKERS", "1")
    from server.settings import ServerSettings

    _refuse_unknown(ServerSettings.model_fields)
    try:
        settings = ServerSettings()
    except ValidationError as error:
        raise click.UsageError(_settings_line(error)) from error
    configure_logging(json=settings.log_json, secrets=_secrets(settings))
    from sqlmesh.core.analytics import disable_analytics
    from sqlmesh.utils.errors import SQLMeshError

    from server.app import create_app
    from server.database import Database
    from server.http_protocol import UVICORN
    from server.preparation import prepare
    from server.projects import parse_projects
    from tcloud.tracing import start_tracing

    try:
        projects = parse_projects(settings.projects)
    except ValueError as error:
        raise click.UsageError(f"TEMPOMESH_SERVER_PROJECTS: {error}") from error
    tracing = ExitStack()
    database = Database(settings.database_url.get_secret_value(), settings.database_pool_size, settings.cache_dir)
    try:
        try:
            prepare(database, projects, settings.clients)
        except OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise _NotReachable(f"PostgreSQL cannot be reached: {reason} (TEMPOMESH_SERVER_DATABASE_URL)") from error
        except SQLMeshError as error:
            raise click.ClickException(str(error)) from error
        tracing.enter_context(start_tracing("tempomesh-server"))
        app = create_app(settings, database, projects)
        disable_analytics()
        # A request that waits for the interpreter should not wait for most of its own time: by default, 5 ms.
        sys.setswitchinterval(_SWITCH_SECONDS)
        # What is imported by now lives as long as the process: every full collection would walk through it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, 20, 10)
        listening = _listen(settings.host, settings.port)
        config = uvicorn.Config(app, timeout_graceful_shutdown=5, **UVICORN)
        # uvicorn stops gracefully and then raises the signal once more: by then it has done its work.
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        tracing.close()
        database.close()


class _NotReachable(click.ClickException):
    exit_code = 4


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is spelled out because asyncio looks at it: without it, it leaves Nagle's algorithm on, and every
    # answer with a body waits 40 ms for the client's delayed acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise click.ClickException(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what does, or set TEMPOMESH_SERVER_PORT."
        ) from error
    return listening


def _refuse_unknown(known: Iterable[str]) -> None:
    expected = {f"{_PREFIX}{name.upper()}" for name in known}
    for name in sorted(os.environ):
        if name.upper().startswith(_PREFIX) and name.upper() not in expected:
            raise click.UsageError(f"{name} is not a setting of the server; see docs/deployment.md.")


def _settings_line(error: ValidationError) -> str:
    first = error.errors()[0]
    name = _PREFIX + "_".join(str(part).upper() for part in first["loc"])
    return f"{name}: {first['msg']}"


def _secrets(settings: "ServerSettings") -> Iterator[str]:
    url = settings.database_url.get_secret_value()
    yield url
    if (password := urlsplit(url).password) is not None:
        yield password
    yield from (key.get_secret_value() for key in settings.codec_keys.values())
    yield from (client.secret.get_secret_value() for client in settings.clients)
