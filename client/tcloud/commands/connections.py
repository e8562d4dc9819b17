"""`tcloud connections`."""

import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import click
from pydantic import SecretStr

from tcloud.api.client import Api
from tcloud.api.events import End
from tcloud.api.waiting import telling_of_executors
from tcloud.commands.access import project_api
from tcloud.errors import TcloudError, WorkFailedError
from tcloud.output import Format, as_json, output_option, show, show_many
from tcloud.wire.connections import Connection, ConnectionRequest, ConnectionTestRequest
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.queries import Query
from tcloud.wire.statuses import Status

__all__ = ["connections"]

_FIELDS = ("gateway", "type", "dialect", "default_catalog", "concurrent_tasks", "changed_by", "changed_at", "executors")
_ALL_FIELDS = (*_FIELDS, "created_by", "created_at")
_SERVED_WITHIN_SECONDS = 20.0
_POLL_SECONDS = 0.5
_READY = "ready"


@click.group()
def connections() -> None:
    """Connections of gateways, kept by the server for executors; nobody can read one back."""


@connections.command("add")
@click.argument("gateway")
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="A YAML file with what stands below `connection:` in SQLMesh's configuration; - is standard input.",
)
@click.option("--type", "kind", metavar="TYPE", help="The type to be asked for, such as postgres, without --file.")
@click.option(
    "-p",
    "--paths",
    multiple=True,
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="The project's folder, whose gateways the name has to be one of; default: this folder, if it is one.",
)
@output_option
def add_connection(gateway: str, file: Path | None, kind: str | None, paths: tuple[Path, ...], output: Format) -> None:
    """Add the connection of a gateway, or change it: an executor tests it, and it is kept if it leads somewhere.

    Without --file the fields are asked for, and what is secret is not shown while it is typed.
    """
    from tcloud.commands.connecting import as_text, ask_connection, check_gateway, project_gateways, read_connection

    known = project_gateways(paths)
    check_gateway(gateway, known)
    options = read_connection(file) if file is not None else ask_connection(kind)
    with project_api() as api:
        query_id = uuid4().hex
        request = ConnectionRequest(
            query_id=query_id,
            connection=SecretStr(as_text(options)),
            project_gateways=None if known is None else known.names,
        )
        _follow(api, api.put_connection(gateway, request), f"The connection of gateway '{gateway}' was not kept")
        kept = _served(api, gateway)
    show(as_json(kept, _ALL_FIELDS), output)


@connections.command("list")
@output_option
def list_connections(output: Format) -> None:
    """List the connections."""
    with project_api() as api:
        show_many(api.connections(), _ALL_FIELDS, _FIELDS, output)


@connections.command("show")
@click.argument("gateway")
@output_option
def show_connection(gateway: str, output: Format) -> None:
    """Show one connection: of what type it is, who added it, which executors serve it."""
    with project_api() as api:
        show(as_json(api.connection(gateway), _ALL_FIELDS), output)


@connections.command("test")
@click.argument("gateway")
@output_option
def test_connection(gateway: str, output: Format) -> None:
    """Have an executor test a connection that is there."""
    with project_api() as api:
        query = api.test_connection(gateway, ConnectionTestRequest(query_id=uuid4().hex))
        _follow(api, query, f"The connection of gateway '{gateway}' failed its test")
        found = api.connection(gateway)
    click.echo("The warehouse answers.", err=True)
    show(as_json(found, _ALL_FIELDS), output)


@connections.command("delete")
@click.argument("gateway")
@click.option("--force", is_flag=True, help="Also while scheduled environments have models of the gateway.")
@output_option
def delete_connection(gateway: str, force: bool, output: Format) -> None:
    """Delete a connection; executors forget it within seconds."""
    with project_api() as api:
        deleted = api.delete_connection(gateway, force=force)
    show(as_json(deleted, _ALL_FIELDS), output)


def _follow(api: Api, query: Query, failure: str) -> None:
    def say(line: str) -> None:
        click.echo(line, err=True)

    try:
        with telling_of_executors(api, ExecutorKind.APPLY, say):
            for event in api.query_events(query.query_id):
                if isinstance(event, End):
                    if event.status != Status.SUCCESS:
                        raise WorkFailedError(f"{failure}. {event.error_message or 'The executor gave no reason.'}")
                    return
                if event.type == "log_status_update":
                    say(str(event.payload.get("message", "")))
    except KeyboardInterrupt:
        with suppress(TcloudError):
            api.cancel_query(query.query_id)
        raise


def _served(api: Api, gateway: str) -> Connection:
    """The connection, when all executors that are alive serve it; or as it is after a while."""
    until = time.monotonic() + _SERVED_WITHIN_SECONDS
    while True:
        found = api.connection(gateway)
        alive = {executor.identity for executor in api.executors() if executor.status == _READY}
        missing = sorted(alive - set(found.executors))
        if not missing:
            return found
        if time.monotonic() > until:
            click.echo(f"Not served yet by {', '.join(missing)}: their logs say why.", err=True)
            return found
        time.sleep(_POLL_SECONDS)
