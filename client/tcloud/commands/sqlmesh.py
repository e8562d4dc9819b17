"""`tcloud sqlmesh`: SQLMesh's own command line, with the cloud scheduler plugged in."""

import gc
import os
from pathlib import Path

import click
from dotenv import dotenv_values

from tcloud.commands.access import project_name
from tcloud.errors import InvalidError, TcloudError
from tcloud.settings import load, variables

__all__ = ["sqlmesh"]

_SQLMESH_PREFIX = "SQLMESH_"
_UI = "ui"
_NO_UI = (
    "SQLMesh's browser UI, which is deprecated, works with the built-in scheduler only: use SQLMesh's extension for "
    "VS Code to edit, `tcloud plans` and `tcloud runs` to watch, and Temporal's Web UI to see what is going on."
)
_ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000
"""Of objects that may be in cycles: some ten megabytes, where Python's own 700 are less than one expression has."""


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    add_help_option=False,
    short_help="SQLMesh's own command line, with the cloud scheduler.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sqlmesh(arguments: tuple[str, ...]) -> None:
    """SQLMesh's own command line: every command, option and exit code is SQLMesh's."""
    _set_sqlmesh_variables()
    from ruamel.yaml.error import YAMLError
    from sqlmesh.cli import main as sqlmesh_main

    from tcloud.scheduler import RemoteContext
    from tcloud.scheduler.session import select_project
    from tempomesh_runner.crons import remember_crons

    remember_crons()
    _collect_rarely()
    folders = _project_folders(sqlmesh_main.cli, arguments)
    select_project(project_name(), folders)
    _select_gateway(folders)
    setattr(sqlmesh_main, "Context", RemoteContext)  # noqa: B010 (SQLMesh does not export what it imports)
    _refuse_ui(sqlmesh_main.cli, arguments, folders)
    try:
        exit_code = sqlmesh_main.cli.main(list(arguments), prog_name="tcloud sqlmesh", standalone_mode=False)
    except YAMLError as error:
        # SQLMesh lets it through, and it does not say of which file it is.
        raise TcloudError(_describe(error, folders)) from error
    except ModuleNotFoundError as error:
        raise TcloudError(f"This needs the Python package '{error.name}': install it where tcloud is.") from error
    if isinstance(exit_code, int) and exit_code:
        raise click.exceptions.Exit(exit_code)


def _collect_rarely() -> None:
    # A project's models stay until the end, and to look through all of them for garbage again and again takes a tenth
    # of the time that a plan takes; the processes that SQLMesh's loader forks inherit this.
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, 20, 100)


def _describe(error: Exception, folders: list[Path]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    broken = "A file of the project"
    for path in (folder / name for folder in folders for name in ("config.yaml", "config.yml")):
        try:
            if path.is_file():
                YAML(typ="safe").load(path.read_text())
        except YAMLError:
            broken = str(path)
            break
    return f"{broken} is not valid YAML: {' '.join(str(error).split())}."


def _set_sqlmesh_variables() -> None:
    path = variables().env_file
    if path is None:
        return
    if not path.is_file():
        raise InvalidError(f"TCLOUD_ENV_FILE: {path} is not a file.")
    for name, value in dotenv_values(path).items():
        if name.startswith(_SQLMESH_PREFIX) and value is not None:
            os.environ.setdefault(name, value)


def _project_folders(command: click.Command, arguments: tuple[str, ...]) -> list[Path]:
    parsed = command.make_context("sqlmesh", list(arguments), resilient_parsing=True)
    return [Path(path) for path in parsed.params.get("paths") or ["."]]


def _refuse_ui(command: click.Group, arguments: tuple[str, ...], folders: list[Path]) -> None:
    """SQLMesh's UI makes contexts of its own, which would run models where there is no warehouse."""
    parsed = command.make_context("sqlmesh", list(arguments), resilient_parsing=True)
    if not parsed._protected_args or parsed._protected_args[0] != _UI:
        return
    from sqlmesh.core.config import load_configs
    from sqlmesh.core.context import Context

    from tcloud.scheduler import RemoteCloudSchedulerConfig

    configs = load_configs(parsed.params.get("config"), Context.CONFIG_TYPE, [str(folder) for folder in folders])
    gateway = parsed.params.get("gateway") or os.environ.get("SQLMESH_GATEWAY")
    if any(isinstance(config.get_scheduler(gateway), RemoteCloudSchedulerConfig) for config in configs.values()):
        raise TcloudError(_NO_UI)


def _select_gateway(folders: list[Path]) -> None:
    try:
        gateway = load(project_name(), folders).gateway
    except InvalidError:
        # Which project is meant matters only where the scheduler is the cloud's; it is asked again there.
        if project_name():
            raise
        return
    if gateway:
        os.environ.setdefault("SQLMESH_GATEWAY", gateway)
