"""What stands in the way of a connection that is to be added, or deleted."""

import re
from collections.abc import Collection

from sqlalchemy import select

from server.database import Transaction
from server.environments import scheduled_plans
from server.errors import ApiError
from server.executors import live_executors
from server.scheduling import ScheduledEnvironments
from server.schema import connections, plans

__all__ = ["check_name", "check_not_brought", "scheduled_with"]

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,99}")


def check_name(transaction: Transaction, gateway: str, project_gateways: Collection[str] | None) -> None:
    """Checks that the project has a gateway of a name.

    Args:
        transaction: The project.
        gateway: The name, in lower case.
        project_gateways: The gateways of the project's configuration, if somebody has looked.

    Raises:
        ApiError: 422 if it has not, as far as anybody knows; it names those there are.
    """
    if not _NAME.fullmatch(gateway):
        raise ApiError(
            422, "TM-GATEWAY", "A gateway's name has letters, digits, '_', '-' and '.', and no more than 100 of them."
        )
    if project_gateways is not None:
        _refuse_other(gateway, {name.lower() for name in project_gateways}, "The project's configuration has")
        return
    project = transaction.project.namespace
    named = {
        name.lower()
        for name in transaction.connection.execute(
            select(plans.c.gateway).where(plans.c.project == project).distinct()
        ).scalars()
    }
    held = set(
        transaction.connection.execute(select(connections.c.gateway).where(connections.c.project == project)).scalars()
    )
    if named and gateway not in held:
        _refuse_other(
            gateway, named, "Without the project's configuration (`--paths`) all that is known is what plans name:"
        )


def check_not_brought(transaction: Transaction, gateway: str) -> None:
    """Checks that no executor that is alive brings the gateway's connection itself.

    Raises:
        ApiError: 409 if one does.
    """
    bringing = [
        executor.identity
        for executor in live_executors(transaction)
        if any(served.name == gateway and served.revision is None for served in executor.gateways)
    ]
    if bringing:
        raise ApiError(
            409,
            "TM-CONNECTION",
            f"Executor {', '.join(bringing)} brings the connection of gateway '{gateway}' itself "
            "(SQLMESH__GATEWAYS__… variables): the server holds none for it. Take the variables away there first.",
        )


def scheduled_with(transaction: Transaction, scheduled: ScheduledEnvironments, gateway: str) -> list[str]:
    """The scheduled environments that have models of a gateway."""
    planned = scheduled_plans(transaction, scheduled)
    rows = transaction.connection.execute(
        select(plans.c.plan_id, plans.c.gateway).where(
            plans.c.project == transaction.project.namespace, plans.c.plan_id.in_(planned.values())
        )
    )
    gateways = {row.plan_id: row.gateway for row in rows}
    return sorted(
        name
        for name, plan_id in planned.items()
        if gateways.get(plan_id, "").lower() == gateway or gateway in _of_models(transaction, name)
    )


def _of_models(transaction: Transaction, environment: str) -> set[str]:
    found = transaction.state.get_environment(environment)
    infos = found.snapshots if found is not None else []
    return {info.model_gateway.lower() for info in infos if info.model_gateway}


def _refuse_other(gateway: str, known: set[str], where: str) -> None:
    if gateway not in known:
        raise ApiError(422, "TM-GATEWAY", f"There is no gateway '{gateway}'. {where} {', '.join(sorted(known))}.")
