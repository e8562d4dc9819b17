"""What `tcloud connections add` reads and asks: a connection, and which gateways the project has."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tcloud.errors import InvalidError
from tempomesh_runner.hiding import is_secret_name

__all__ = ["ProjectGateways", "ask_connection", "as_text", "check_gateway", "project_gateways", "read_connection"]

_CONFIGURATIONS = ("config.yaml", "config.yml", "config.py")
_USUAL = ("user", "password")
"""Asked for wherever they are known: SQLMesh has them for optional where there are other ways to sign in."""


@dataclass(frozen=True)
class ProjectGateways:
    """The gateways that a project's configuration names."""

    folder: Path
    names: list[str]


def project_gateways(paths: Sequence[Path]) -> ProjectGateways | None:
    """The gateways of the project in these folders, or in this one; None if there is no project here.

    Raises:
        InvalidError: If the configuration cannot be read, or a folder that was named has none.
    """
    folders = [*paths] or [Path.cwd()]
    missing = [folder for folder in folders if not any((folder / name).is_file() for name in _CONFIGURATIONS)]
    if missing and paths:
        raise InvalidError(f"{missing[0]} is not the folder of a SQLMesh project: it has no config.yaml or config.py.")
    if missing:
        return None
    # A project may have `scheduler: {type: cloud}`, which SQLMesh knows once this has been imported.
    from sqlmesh.core.config import Config, load_configs

    import tcloud.scheduler  # noqa: F401

    try:
        configs = load_configs(None, Config, folders)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidError(f"The configuration in {folders[0]} cannot be read: {reason}") from error
    names = {
        name.lower(): None
        for config in configs.values()
        for name in (config.gateways if isinstance(config.gateways, dict) else {})
        if name
    }
    return ProjectGateways(folders[0], list(names)) if names else None


def check_gateway(gateway: str, known: ProjectGateways | None) -> None:
    """Checks that a project has a gateway.

    Raises:
        InvalidError: If it has others; they are named.
    """
    if known is not None and gateway.lower() not in known.names:
        raise InvalidError(
            f"The project in {known.folder} has no gateway '{gateway}': its configuration has {', '.join(known.names)}."
        )


def read_connection(file: Path) -> dict[str, Any]:
    """Reads a connection from a file, as SQLMesh reads its configuration: `{{ env_var('…') }}` is filled in.

    Raises:
        InvalidError: If it is not there, no YAML or no connection; nothing of what it holds is in the message.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from sqlmesh.utils import yaml
    from sqlmesh.utils.errors import SQLMeshError

    name = "standard input" if str(file) == "-" else str(file)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except OSError as error:
        raise InvalidError(f"{name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidError(f"{name} is not a text in UTF-8.") from None
    try:
        options = yaml.load(text)
    except MarkedYAMLError as error:
        # What YAML says quotes the line.
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidError(f"{name} is not valid YAML{where}.") from None
    except (YAMLError, SQLMeshError, ValueError):
        raise InvalidError(f"{name} is empty, or not valid YAML.") from None
    except Exception as error:
        raise InvalidError(f"{name} cannot be rendered as a template: {type(error).__name__}.") from None
    _parse(options, name)
    return options


def ask_connection(kind: str | None) -> dict[str, Any]:
    """Asks for a connection field by field, until SQLMesh takes it.

    Raises:
        InvalidError: If there is no such type.
    """
    from sqlmesh.utils.errors import ConfigError

    from tempomesh_runner.connections import check_connection, connection_class, connection_types

    kind = kind or click.prompt("type", type=click.Choice(connection_types()), err=True)
    try:
        fields = connection_class(kind).model_fields
    except ConfigError as error:
        raise InvalidError(str(error)) from None
    names = {field.alias or name: field for name, field in fields.items() if name != "type_"}
    options: dict[str, Any] = {"type": kind}
    for name, field in names.items():
        if field.is_required() or name in _USUAL:
            _ask(options, name, is_required=field.is_required())
    while True:
        others = sorted(names.keys() - options.keys())
        other = click.prompt("another field (? lists them, nothing ends)", default="", show_default=False, err=True)
        if other in names:
            _ask(options, other, is_required=False)
        elif other:
            click.echo(f"There are {', '.join(others)}.", err=True)
        else:
            try:
                check_connection(options)
            except ConfigError as error:
                click.echo(f"Not complete: {error}", err=True)
            else:
                return options


def as_text(options: Mapping[str, Any]) -> str:
    """A connection as JSON.

    Raises:
        InvalidError: If it holds what JSON has no form for.
    """
    try:
        return json.dumps(options)
    except (TypeError, ValueError):
        raise InvalidError("The connection has a value that JSON has no form for, such as a date.") from None


def _ask(options: dict[str, Any], name: str, *, is_required: bool) -> None:
    answer = click.prompt(
        name,
        default=None if is_required else "",
        show_default=False,
        hide_input=is_secret_name(name),
        err=True,
    )
    if answer:
        options[name] = answer


def _parse(options: Any, name: str) -> None:
    from sqlmesh.utils.errors import ConfigError

    from tempomesh_runner.connections import check_connection

    try:
        # The driver is needed where executors are.
        check_connection(options)
    except ConfigError as error:
        raise InvalidError(f"{name}: {error}") from None
