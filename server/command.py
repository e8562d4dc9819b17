"""`tcloud server`."""

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError, ProgrammingError

from tcloud.output import Format, output_option
from telemetry.logs import configure_logging

if TYPE_CHECKING:
    from server.database import Database
    from server.projects import Project
    from server.settings import ServerSettings

__all__ = ["load_settings", "open_database", "server"]

_SWITCH_SECONDS = 0.0005
_PREFIX = "TEMPOMESH_SERVER_"
_ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
"""Python's own 700 are less than one snapshot has; some ten megabytes of garbage in cycles are the price."""


@click.group(invoke_without_command=True)
@click.pass_context
def server(context: click.Context) -> None:
    """Serve the HTTP API and SQLMesh's state; set up by TEMPOMESH_SERVER_… variables (docs/deployment.md)."""
    if context.invoked_subcommand is None:
        _serve()


@server.command()
@click.option("--name", default="admin", show_default=True, help="The administrator's name.")
@click.option("--service", is_flag=True, help="Make a client with a secret, not a person with a password.")
@click.option(
    "--again",
    is_flag=True,
    help="Though there is an administrator: make another one, or give the one of this name a new secret.",
)
@output_option
def init(name: str, service: bool, again: bool, output: Format) -> None:
    """Make the first administrator in the server's database, and print the secret once."""
    from server.accounts import AccountError
    from server.identities import IdentityKind
    from server.initialization import make_administrator

    settings = load_settings()
    with open_database(settings) as (database, projects):
        kind = IdentityKind.SERVICE if service else IdentityKind.PERSON
        try:
            secret = make_administrator(database, projects, name, kind, is_again=again)
        except AccountError as error:
            raise click.ClickException(str(error)) from error
    if output is Format.JSON:
        click.echo(json.dumps({"identity_id": name, "kind": kind.value, "secret": secret}, indent=2))
    elif service:
        click.echo(f"Made the administrator '{name}'. Its secret is not shown again:\n\n    {secret}\n")
    else:
        click.echo(f"Made the administrator '{name}'. The first password, to be replaced at the first sign-in:\n")
        click.echo(f"    {secret}\n\nSign in with `tcloud auth login`.")


@server.command("rotate-key")
def rotate_key() -> None:
    """Seal what is sealed with older keys again, with the first key of TEMPOMESH_SERVER_SECRET_KEYS.

    Servers that run have to have both keys by then. Afterwards the older ones can be taken away.
    """
    settings = load_settings()
    from server.database import Database
    from server.rotation import seal_again
    from server.sealing import KeyRing, SealingError

    database = Database(settings.database_url.get_secret_value(), 1, settings.cache_dir)
    try:
        with database.engine.begin() as connection:
            counts = seal_again(connection, KeyRing(settings.secret_keys))
    except OperationalError as error:
        raise _not_reached(error) from error
    except ProgrammingError as error:
        raise click.ClickException(
            "The database has no tables of this version: start `tcloud server` first."
        ) from error
    except SealingError as error:
        raise click.ClickException(f"Nothing was changed: {error}.") from error
    finally:
        database.close()
    newest = next(iter(settings.secret_keys))
    for what, (again, all_of_them) in counts.items():
        click.echo(f"{what}: {again} of {all_of_them} sealed again with key '{newest}'.")


def load_settings() -> "ServerSettings":
    """The server's settings, with logging set up as they say.

    Raises:
        click.UsageError: If a variable is unknown or malformed.
    """
    # SQLMesh's loader forks a process per core where it may; a server has threads and must not.
    os.environ.setdefault("MAX_FORK_WORKERS", "1")
    from server.settings import ServerSettings

    _refuse_unknown(ServerSettings.model_fields)
    try:
        settings = ServerSettings()
    except ValidationError as error:
        raise click.UsageError(_settings_line(error)) from error
    configure_logging(json=settings.log_json, secrets=_secrets(settings))
    return settings


@contextmanager
def open_database(settings: "ServerSettings") -> "Iterator[tuple[Database, list[Project]]]":
    """The server's database, migrated, and its projects.

    Raises:
        click.ClickException: If PostgreSQL cannot be reached, or what is there cannot be migrated.
        click.UsageError: If a project's name is none.
    """
    from sqlmesh.utils.errors import SQLMeshError

    from server.database import Database
    from server.preparation import MigrationRefusedError, prepare
    from server.projects import parse_projects

    try:
        projects = parse_projects(settings.projects)
    except ValueError as error:
        raise click.UsageError(f"TEMPOMESH_SERVER_PROJECTS: {error}") from error
    database = Database(settings.database_url.get_secret_value(), settings.database_pool_size, settings.cache_dir)
    try:
        try:
            prepare(database, projects, settings.clients, beside_work=settings.migrate_beside_work)
        except OperationalError as error:
            raise _not_reached(error) from error
        except (SQLMeshError, MigrationRefusedError) as error:
            raise click.ClickException(str(error)) from error
        yield database, projects
    finally:
        database.close()


def _serve() -> None:
    settings = load_settings()
    from sqlmesh.core.analytics import disable_analytics

    from server.app import create_app
    from server.http_protocol import UVICORN
    from tcloud.tracing import start_tracing

    with start_tracing("tempomesh-server"), open_database(settings) as (database, projects):
        try:
            app = create_app(settings, database, projects)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        disable_analytics()
        # A request that waits for the interpreter should not wait for most of its own time: by default, 5 ms.
        sys.setswitchinterval(_SWITCH_SECONDS)
        # What is imported by now lives as long as the process: every full collection would walk through it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, 20, 10)
        listening = _listen(settings.host, settings.port)
        if settings.edge_port is not None:
            # It is opened by another library, whose complaint would be no line for a person.
            _listen(settings.edge_host, settings.edge_port, "EDGE_PORT").close()
        config = uvicorn.Config(app, timeout_graceful_shutdown=5, **UVICORN)
        # uvicorn stops gracefully and then raises the signal once more: by then it has done its work.
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listening])


class _NotReachable(click.ClickException):
    exit_code = 4


def _not_reached(error: OperationalError) -> _NotReachable:
    reason = str(error.orig).strip().splitlines()[0]
    return _NotReachable(f"PostgreSQL cannot be reached: {reason} (TEMPOMESH_SERVER_DATABASE_URL)")


def _listen(host: str, port: int, setting: str = "PORT") -> socket.socket:
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
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what does, or set {_PREFIX}{setting}."
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
    said = first["msg"] if first["loc"] else first["msg"].removeprefix("Value error, ")
    return f"{name}: {said}" if first["loc"] else f"{_PREFIX}{said}"


def _secrets(settings: "ServerSettings") -> Iterator[str]:
    url = settings.database_url.get_secret_value()
    yield url
    if (password := urlsplit(url).password) is not None:
        yield password
    yield from (key.get_secret_value() for key in (*settings.codec_keys.values(), *settings.secret_keys.values()))
    yield from (client.secret.get_secret_value() for client in settings.clients)
    if settings.provider is not None:
        yield settings.provider.client_secret.get_secret_value()
