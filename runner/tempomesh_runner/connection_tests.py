"""Whether a connection that nobody uses yet leads to its warehouse."""

import typing as t
from collections.abc import Callable

from sqlmesh.utils.errors import ConfigError, SQLMeshError

from tempomesh_runner.connections import parse_connection
from tempomesh_runner.gateways import Gateways
from tempomesh_runner.hiding import Hiding, secret_values

__all__ = ["test_connection"]


def test_connection(gateway: str, connection: dict[str, t.Any], *, say: Callable[[str], None]) -> dict[str, t.Any]:
    """Opens a connection and asks the warehouse for its catalog.

    Args:
        gateway: The gateway that it is to be of.
        connection: What stands below `connection:` in SQLMesh's configuration.
        say: Is told what is waited for.

    Returns:
        What planners have to know of the gateway, as `gateway`.

    Raises:
        SQLMeshError: If it is not valid here, or does not lead anywhere; without a secret in it.
    """
    hide = Hiding(secret_values([connection]))
    try:
        gateways = Gateways({gateway: parse_connection(connection)})
        with gateways.turn(say):
            return {"gateway": gateways.describe()["gateways"][0]}
    except ConfigError as error:
        raise SQLMeshError(f"The connection is not valid: {hide(str(error))}") from None
    except Exception as error:
        reason = hide(" ".join(str(error).split())) or type(error).__name__
        raise SQLMeshError(f"The warehouse cannot be reached: {reason}") from None
