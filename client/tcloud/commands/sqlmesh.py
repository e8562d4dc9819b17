"""`tcloud sqlmesh` and `tcloud sqlmesh_cicd`: SQLMesh's own command lines, with the cloud scheduler plugged in."""

import gc
import os
from pathlib import Path

import click
from dotenv import dotenv_values

from tcloud.commands.access import project_name
from tcloud.errors import InvalidError, TcloudError, WorkFailedError
from tcloud.settings import load, variables

__all__ = ["sqlmesh", "sqlmesh_cicd"]

_SQLMESH_PREFIX = "SQLMESH_"
_GITHUB_PREFIX = "GITHUB_"
_PACKAGES = {"github": "PyGithub"}
"""Packages whose names are not those of their modules."""

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
    from sqlmesh.cli import main as sqlmesh_main

    from tcloud.scheduler import RemoteContext

    setattr(sqlmesh_main, "Context", RemoteContext)  # noqa: B010 (SQLMesh does not export what it imports)
    _add_ignore_pause(sqlmesh_main.cli)
    folders = _prepare(sqlmesh_main.cli, arguments)
    _refuse_ui(sqlmesh_main.cli, arguments, folders)
    _run(sqlmesh_main.cli, arguments, "tcloud sqlmesh", folders)


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
    add_help_option=False,
    short_help="SQLMesh's CI/CD bot, with the cloud scheduler.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sqlmesh_cicd(arguments: tuple[str, ...]) -> None:
    """SQLMesh's CI/CD bot: every command, option and exit code is SQLMesh's."""
    _set_sqlmesh_variables()
    from sqlmesh.cicd.bot import bot
    from sqlmesh.integrations.github.cicd import controller
    from sqlmesh.utils.errors import SQLMeshError

    from tcloud.scheduler import RemoteContext

    setattr(controller, "Context", RemoteContext)  # noqa: B010 (SQLMesh does not export what it imports)
    folders = _prepare(bot, arguments)
    try:
        _run(bot, arguments, "tcloud sqlmesh_cicd", folders)
    except SQLMeshError as error:
        raise WorkFailedError(" ".join(str(error).split())) from error
    except KeyError as error:
        # Its only way to say that it is not where it expects to be.
        if str(error.args[0]).startswith(_GITHUB_PREFIX):
            raise InvalidError(f"{error.args[0]} is not set: the bot runs in a workflow of GitHub Actions.") from error
        raise


def _prepare(command: click.Group, arguments: tuple[str, ...]) -> list[Path]:
    from tcloud.scheduler.session import select_project
    from tempomesh_runner.crons import remember_crons

    remember_crons()
    _collect_rarely()
    folders = _project_folders(command, arguments)
    select_project(project_name(), folders)
    _select_gateway(folders)
    return folders


def _run(command: click.Group, arguments: tuple[str, ...], name: str, folders: list[Path]) -> None:
    from ruamel.yaml.error import YAMLError

    try:
        exit_code = command.main(list(arguments), prog_name=name, standalone_mode=False)
    except YAMLError as error:
        # SQLMesh lets it through, and it does not say of which file it is.
        raise TcloudError(_describe(error, folders)) from error
    except ModuleNotFoundError as error:
        raise TcloudError(f"This needs the Python package '{_package(error)}': install it where tcloud is.") from error
    if isinstance(exit_code, int) and exit_code:
        raise click.exceptions.Exit(exit_code)


def _add_ignore_pause(cli: click.Group) -> None:
    """Gives SQLMesh's `run` the one option that it does not know: it knows no pauses."""
    from tcloud.scheduler.session import ignore_pauses

    option = click.Option(
        ["--ignore-pause"],
        is_flag=True,
        expose_value=False,
        callback=lambda _context, _parameter, value: ignore_pauses(value),
        help="Run whatever is paused; takes the role admin.",
    )
    command = cli.commands["run"]
    if not any(known.name == option.name for known in command.params):
        command.params.append(option)


def _package(error: ModuleNotFoundError) -> str:
    return _PACKAGES.get(error.name or "", error.name or "?")


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
