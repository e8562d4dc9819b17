"""Slots of gateways: `concurrent_tasks` holds over all executors together, not for each of them.

A slot is a lease like a claim, renewed together with the evaluation that holds it.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import exists, select, text, update

from server.database import Transaction
from server.schema import slots
from tcloud.wire.executors import Gateway

__all__ = ["provide_slots", "release_slot", "renew_slots", "slot_holder", "take_slot"]

_PROVIDE = text(
    """
    INSERT INTO tempomesh.slots (project, gateway, number)
    SELECT :project, :gateway, number FROM generate_series(0, :count - 1) AS number
    ON CONFLICT DO NOTHING
    """
)
_TAKE = text(
    """
    UPDATE tempomesh.slots SET holder = :holder, lease_expires_at = :expires
    WHERE (project, gateway, number) = (
        SELECT project, gateway, number FROM tempomesh.slots
        WHERE project = :project AND gateway = :gateway AND lease_expires_at < now()
        ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING number
    """
)


def slot_holder(execution_id: str, unit: int) -> str:
    """How an evaluation is named as the holder of a slot."""
    return f"{execution_id}/{unit}"


def provide_slots(transaction: Transaction, gateways: Iterable[Gateway]) -> None:
    """Makes as many slots as each gateway takes tasks; where it takes fewer than before, the last ones go."""
    project = transaction.project.namespace
    for gateway in gateways:
        parameters = {"project": project, "gateway": gateway.name, "count": gateway.concurrent_tasks}
        transaction.connection.execute(_PROVIDE, parameters)
        transaction.connection.execute(
            slots.delete().where(
                slots.c.project == project,
                slots.c.gateway == gateway.name,
                slots.c.number >= gateway.concurrent_tasks,
            )
        )


def take_slot(transaction: Transaction, gateway: str, holder: str, expires: datetime) -> bool:
    """Takes a slot of a gateway; False if all are taken. A gateway that nobody has told of has no limit."""
    project = transaction.project.namespace
    parameters = {"project": project, "gateway": gateway, "holder": holder, "expires": expires}
    if transaction.connection.execute(_TAKE, parameters).first() is not None:
        return True
    is_limited = exists().where(slots.c.project == project, slots.c.gateway == gateway)
    return not transaction.connection.execute(select(is_limited)).scalar()


def renew_slots(transaction: Transaction, holders: Iterable[str], expires: datetime) -> None:
    """Renews the slots of evaluations whose leases have been renewed."""
    transaction.connection.execute(
        update(slots)
        .where(
            slots.c.project == transaction.project.namespace,
            slots.c.holder.in_(sorted(holders)),
        )
        .values(lease_expires_at=expires)
    )


def release_slot(transaction: Transaction, holder: str) -> None:
    """Gives the slot of an evaluation back."""
    transaction.connection.execute(
        update(slots)
        .where(slots.c.project == transaction.project.namespace, slots.c.holder == holder)
        .values(holder=None, lease_expires_at=text("'-infinity'"))
    )
