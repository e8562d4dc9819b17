"""What the environment of a runner process says of SQLMesh: gateways, and who is notified of what.

SQLMesh reads `SQLMESH__…` variables, but has none for lists; `SQLMESH__NOTIFICATION_TARGETS` and `SQLMESH__USERS` are
JSON here, in the form that they have in a project's configuration.
"""

import json
import typing as t

from pydantic import ValidationError
from sqlmesh.core.config import Config
from sqlmesh.core.config.loader import load_config_from_env
from sqlmesh.utils.errors import ConfigError

__all__ = ["config_from_environment"]

_LISTS = ("notification_targets", "users")


def config_from_environment() -> Config:
    """SQLMesh's configuration, as far as variables say it.

    Raises:
        ConfigError: If one of the lists is malformed. What it holds, secrets, is not in the message.
    """
    said: dict[str, t.Any] = load_config_from_env()
    lists = {name: _parsed(name, said.pop(name)) for name in _LISTS if name in said}
    config = Config.model_validate(said)
    for name, value in lists.items():
        try:
            config = config.copy(update={name: getattr(Config.model_validate({name: value}), name)})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            raise ConfigError(f"{_variable(name)}: {where or 'it'}: {first['msg']}.") from None
    return config


def _parsed(name: str, text: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{_variable(name)} is not JSON: {error}.") from None


def _variable(name: str) -> str:
    return f"SQLMESH__{name.upper()}"
