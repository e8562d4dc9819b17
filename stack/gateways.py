"""The connections of somebody's own project, as the variables from which executors read them.

Run as a program it loads the project's configuration with SQLMesh and prints them as JSON: the project's `config.py` is
somebody else's code, and SQLMesh is large, so neither gets into the process that supervises the stack.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.errors import StackError

if TYPE_CHECKING:
    from sqlmesh.core.config import Config

__all__ = ["connection_variables", "project_variables"]

FILE_CATALOGS = ("duckdb", "ducklake", "sqlite")
"""What DuckDB attaches that is a file."""


def connection_variables(gateway: str, connection: Mapping[str, str]) -> dict[str, str]:
    """The variables of one gateway, which becomes the default."""
    variables = {"SQLMESH__DEFAULT_GATEWAY": gateway}
    for option, value in connection.items():
        variables[f"SQLMESH__GATEWAYS__{gateway.upper()}__CONNECTION__{option.upper()}"] = value
    return variables


def project_variables(project: Path) -> dict[str, str]:
    """The variables for every gateway of a project that has a connection.

    Raises:
        StackError: if SQLMesh cannot load the project's configuration, no gateway has a connection, or a connection has
            an option that an environment variable cannot carry.
    """
    if not project.is_dir():
        raise StackError(f"{project} is not a directory: --project takes that of a SQLMesh project.", exit_code=2)
    result = subprocess.run(
        [sys.executable, "-P", "-m", "stack.gateways", str(project.resolve())],
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise StackError(f"The configuration of {project} cannot be used: {reason}", exit_code=2)
    variables: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return variables


def _read_project(project: Path) -> dict[str, str]:
    import_module("tcloud.scheduler")  # A project may have `scheduler: {type: cloud}` beside its connection.
    from sqlmesh.core.config import Config
    from sqlmesh.core.config.loader import load_configs

    config = load_configs(config=None, config_type=Config, paths=[project])[project]
    variables: dict[str, str] = {}
    gateways = config.gateways if isinstance(config.gateways, dict) else {"": config.gateways}
    for name, gateway in gateways.items():
        if gateway.connection is not None:
            prefix = f"SQLMESH__GATEWAYS__{name.upper()}__CONNECTION"
            variables.update(_flatten(prefix, _options(gateway.connection, project)))
    if not variables and config.default_connection is not None:
        variables.update(_flatten("SQLMESH__DEFAULT_CONNECTION", _options(config.default_connection, project)))
    if not variables:
        raise StackError("no gateway has a connection; add one, or start without --project.")
    variables["SQLMESH__DEFAULT_GATEWAY"] = _default_gateway(config)
    variables.update(_notifications(config))
    return variables


def _notifications(config: "Config") -> Iterator[tuple[str, str]]:
    """Who is notified of what, for `tempomesh_runner.configuration`."""
    for name in ("notification_targets", "users"):
        said = [
            item.dict(exclude_computed_fields=True, exclude_none=True, by_alias=True) for item in getattr(config, name)
        ]
        if said:
            yield f"SQLMESH__{name.upper()}", json.dumps(said, default=_plain)
    if config.username:
        yield "SQLMESH__USERNAME", config.username


def _plain(value: Any) -> Any:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else sorted(value)


def _default_gateway(config: "Config") -> str:
    if config.default_gateway:
        return config.default_gateway
    return next(iter(config.gateways)) if isinstance(config.gateways, dict) else ""


def _options(connection: Any, project: Path) -> dict[str, Any]:
    """What the project says about the connection, with DuckDB's files found from wherever an executor runs."""
    options: dict[str, Any] = {
        "type": connection.type_,
        **connection.dict(exclude_computed_fields=True, exclude_unset=True),
    }
    if connection.type_ == "duckdb":
        if options.get("database"):
            options["database"] = _absolute(options["database"], project)
        options["catalogs"] = {
            name: _absolute(catalog, project) if isinstance(catalog, str) else _attached(catalog, project)
            for name, catalog in (options.get("catalogs") or {}).items()
        }
    return options


def _attached(catalog: dict[str, Any], project: Path) -> dict[str, Any]:
    if catalog["type"] not in FILE_CATALOGS:
        return catalog
    paths = {option: _absolute(catalog[option], project) for option in ("path", "data_path") if catalog.get(option)}
    return {**catalog, **paths}


def _absolute(database: str, project: Path) -> str:
    is_file = database != ":memory:" and ":" not in database
    return str(project / Path(database).expanduser()) if is_file else database


def _flatten(prefix: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for option, value in options.items():
        name = f"{prefix}__{option.upper()}"
        match value:
            case None:
                continue
            case dict():
                yield from _flatten(name, value)
            case bool():
                yield name, str(value).lower()
            case str() | int() | float():
                yield name, str(value)
            case list() | tuple() | set() if not value:
                continue
            case _:
                raise StackError(
                    f"the option {option!r} is a list or an object, which no environment variable can carry."
                )


def _main() -> None:
    os.environ["MAX_FORK_WORKERS"] = "1"
    # Projects say `scheduler: {type: cloud}`, which is known to SQLMesh only once this has been imported.
    import tcloud.scheduler  # noqa: F401

    try:
        variables = _read_project(Path(sys.argv[1]))
    except Exception as error:
        sys.exit(" ".join(str(error).split()))
    sys.stdout.write("\n" + json.dumps(variables))


if __name__ == "__main__":
    _main()
