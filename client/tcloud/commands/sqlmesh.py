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
    _add_ignore_pause(sqlmesh_main.cli)
    setattr(sqlmesh_main, "Context", RemoteContext)  # noqa: B010 (SQLMesh does not export what it imports)
    try:
        exit_code = sqlmesh_main.cli.main(list(arguments), prog_name="tcloud sqlmesh", standalone_mode=False)
    except YAMLError as error:
        # SQLMesh lets it through, and it does not say of which file it is.
        raise TcloudError(_describe(error, folders)) from error
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
