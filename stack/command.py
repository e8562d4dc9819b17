"""`tcloud dev` and `tcloud quickstart`.

What they do is imported when they are called: `tcloud` itself has to start fast.
"""

from pathlib import Path

import click

__all__ = ["dev", "quickstart"]

DEFAULT_DATA_DIR = Path("~/.tempomesh")
DEFAULT_PORT = 7280

_PORT = click.IntRange(1, 65535)


@click.command(short_help="Run all of Tempomesh on this machine, in the foreground.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Where everything is kept: stop, start again, and all of it is still there.",
)
@click.option("--port", type=_PORT, default=DEFAULT_PORT, show_default=True, help="Port of the server.")
@click.option("--temporal-port", type=_PORT, help="Port of Temporal's frontend.  [default: see temporal-dev.yaml]")
@click.option("--temporal-ui-port", type=_PORT, help="Port of Temporal's Web UI.  [default: see temporal-dev.yaml]")
@click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Use the connections of this SQLMesh project, in place of a PostgreSQL of its own as the gateway `warehouse`.",
)
@click.option("--log-json", is_flag=True, help="Log as JSON, for a machine to read.")
def dev(
    data_dir: Path,
    port: int,
    temporal_port: int | None,
    temporal_ui_port: int | None,
    project: Path | None,
    log_json: bool,
) -> None:
    """Run Temporal, PostgreSQL, the server, the worker and two executors on this machine, in the foreground.

    Prints a line `ready` once all of it serves, and writes DATA_DIR/client.env with the variables of an administrator:

    \b
        set -a; . DATA_DIR/client.env; set +a
        tcloud sqlmesh plan

    Ctrl-C stops it in an orderly way; a second one at once.
    """
    from stack.dev import run_dev

    raise SystemExit(run_dev(data_dir, port, temporal_port, temporal_ui_port, project, log_json=log_json))


@click.command(short_help="See it work, from nothing, in less than two minutes.")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, until Ctrl-C.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to keep everything.  [default: a temporary directory, removed at the end]",
)
def quickstart(keep: bool, data_dir: Path | None) -> None:
    """Start all of Tempomesh on this machine, apply the example project, watch its first scheduled run, and stop."""
    from stack.quickstart import run_quickstart

    raise SystemExit(run_quickstart(data_dir, keep=keep, port=DEFAULT_PORT))
