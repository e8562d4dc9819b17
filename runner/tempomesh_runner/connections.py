"""Connections in the form that they have in SQLMesh's configuration, below `connection:`."""

import typing as t
from collections.abc import Mapping
from contextlib import suppress

from pydantic import ValidationError
from sqlmesh.core.config.connection import CONNECTION_CONFIG_TO_TYPE, ConnectionConfig
from sqlmesh.utils.errors import ConfigError

from tempomesh_runner.hiding import Hiding, secret_values

__all__ = ["check_connection", "connection_class", "connection_types", "parse_connection"]

_CHECK_IMPORT = "check_import"
"""SQLMesh's option of connections: whether the driver is looked for."""

_OF_GATEWAYS = ("connection", "state_connection", "test_connection", "state_schema", "scheduler", "variables")
_OF_CONFIGURATIONS = ("gateways", "default_gateway", "default_connection", "model_defaults")


def parse_connection(options: t.Any) -> ConnectionConfig:
    """Reads a connection with SQLMesh's own class for its type.

    Args:
        options: What stands below `connection:`.

    Raises:
        ConfigError: If it is not one, in one line without a secret; also if the warehouse's driver is not installed.
    """
    try:
        return _read(options)
    except ModuleNotFoundError as error:
        raise ConfigError(f"The Python package '{error.name}' is not installed, which the warehouse needs.") from None


def check_connection(options: t.Any) -> None:
    """Checks a connection where it is not used, and the warehouse's driver need not be installed.

    Raises:
        ConfigError: As `parse_connection` does.
    """
    with suppress(ModuleNotFoundError):
        # Of some types the class itself asks the driver; whoever uses the connection does it again.
        _read(options, needs_driver=False)


def connection_class(kind: t.Any) -> type[ConnectionConfig]:
    """SQLMesh's class for a type of connection.

    Raises:
        ConfigError: If SQLMesh has none; it names those there are.
    """
    if not kind:
        raise ConfigError(f"It has no `type`: SQLMesh knows {', '.join(connection_types())}.")
    found = CONNECTION_CONFIG_TO_TYPE.get(kind) if isinstance(kind, str) else None
    if found is None:
        known = ", ".join(connection_types())
        raise ConfigError(f"SQLMesh has no connection of type '{kind}': it knows {known}.")
    return found


def connection_types() -> list[str]:
    """The types that SQLMesh knows."""
    return sorted(CONNECTION_CONFIG_TO_TYPE)


def _read(options: t.Any, *, needs_driver: bool = True) -> ConnectionConfig:
    if not isinstance(options, Mapping) or not options:
        raise ConfigError("It is no mapping: give what stands below `connection:` in SQLMesh's configuration.")
    _refuse_others(options)
    kind = connection_class(options.get("type"))
    hide = Hiding(secret_values([options]))
    try:
        return kind(**(options if needs_driver else {**options, _CHECK_IMPORT: False}))
    except ValidationError as error:
        errors = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = [found for found in errors if found["loc"] != (_CHECK_IMPORT,)]
        if not wrong:
            # A type that has no driver to look for does not know the option.
            return _read(options)
        first = wrong[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise ConfigError(hide(f"{where}: {reason}." if where else f"{reason}.")) from None
    except ModuleNotFoundError:
        raise
    except Exception as error:
        # SQLMesh's own checks, and those of libraries that it asks.
        raise ConfigError(hide(" ".join(str(error).split()) or type(error).__name__)) from None


def _refuse_others(options: Mapping[str, t.Any]) -> None:
    for name in (*_OF_GATEWAYS, *_OF_CONFIGURATIONS):
        if name in options:
            whose = "a gateway's" if name in _OF_GATEWAYS else "a project's"
            raise ConfigError(
                f"`{name}` is {whose} and not a connection's: give only what stands below `connection:`, "
                "the state is kept by the server."
            )
