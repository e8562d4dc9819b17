"""`tcloud python-environments`: what executors have built on this machine; works without a server."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from envmanager.store import EnvironmentStore, StoredEnvironment
from tcloud.output import Format, cell, output_option, print_table
from workers.settings import cache_folder

__all__ = ["python_environments"]

_FIELDS = ("key", "python_version", "size_bytes", "used_at", "is_in_use")

_cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    envvar="TCLOUD_EXECUTOR_CACHE",
    help="The folder of the executors' environments; default: $TCLOUD_EXECUTOR_CACHE.",
)


@click.group("python-environments")
def python_environments() -> None:
    """Python environments that executors have built on this machine."""


@python_environments.command("list")
@_cache_option
@output_option
def list_environments(cache: Path | None, output: Format) -> None:
    """List them, the one first that has been in use last."""
    _show(_store(cache).stored(), output)


@python_environments.command("prune")
@click.option("--unused-days", type=click.FloatRange(min=0), default=14, help="Unused for so long (default: 14).")
@click.option("--max-gigabytes", type=click.FloatRange(min=0), help="Also the longest unused ones, down to so much.")
@_cache_option
@output_option
def prune(unused_days: float, max_gigabytes: float | None, cache: Path | None, output: Format) -> None:
    """Remove those that nobody has used for a while; never one that is in use."""
    max_bytes = None if max_gigabytes is None else int(max_gigabytes * 1e9)
    _show(_store(cache).prune(timedelta(days=unused_days), max_bytes), output)


def _store(cache: Path | None) -> EnvironmentStore:
    return EnvironmentStore(cache or cache_folder(), {})


def _show(stored: list[StoredEnvironment], output: Format) -> None:
    if output is Format.TABLE:
        print_table(_FIELDS, [[cell(_value(found, field)) for field in _FIELDS] for found in stored])
        return
    listed = [{field: _value(found, field) for field in _FIELDS} for found in stored]
    click.echo(json.dumps(listed, indent=2, default=lambda time: time.isoformat().replace("+00:00", "Z")))


def _value(stored: StoredEnvironment, field: str) -> object:
    value = getattr(stored, field)
    return datetime.fromtimestamp(value, UTC) if field == "used_at" else value
