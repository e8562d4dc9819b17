"""Slots of gateways: `concurrent_tasks` holds over all executors together, not for each of them.

A slot is a lease like a claim, renewed together with the evaluation that holds it. The limit of a model needs no slots
of its own: its evaluations in flight are counted.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import and_, bindparam, exists, func, not_, select, text, update

from server.database import Transaction
from server.schema import evaluations, slots
from tcloud.wire.executions import SnapshotRef, StartUnit
from tcloud.wire.executors import Gateway
from tcloud.wire.statuses import Status

__all__ = ["has_room", "provide_slots", "release_slot", "renew_slots", "slot_holder", "take_slot"]

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
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:model, 0))")
_IN_FLIGHT = (
    select(func.count())
    .select_from(evaluations)
    .where(
        evaluations.c.project == bindparam("p_project"),
        evaluations.c.model == bindparam("p_model"),
        evaluations.c.status == text(f"'{Status.IN_PROGRESS.value}'"),
        evaluations.c.lease_expires_at > func.now(),
        # An earlier attempt at the unit itself is not in its way.
        not_(
            and_(
                evaluations.c.execution_id == bindparam("p_execution"),
                evaluations.c.unit == bindparam("p_unit"),
            )
        ),
    )
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


def has_room(transaction: Transaction, start: StartUnit, snapshot: SnapshotRef) -> bool:
    """Whether a unit's model takes one more evaluation; until the transaction ends nobody else is told so."""
    if snapshot.concurrent_evaluations is None:
        return True
    project = transaction.project.namespace
    transaction.connection.execute(_ONE_AT_A_TIME, {"model": f"{project} {snapshot.name}"})
    parameters = {
        "p_project": project,
        "p_model": snapshot.name,
        "p_execution": start.execution_id,
        "p_unit": start.unit,
    }
    in_flight = transaction.connection.execute(_IN_FLIGHT, parameters).scalar_one()
    return bool(in_flight < snapshot.concurrent_evaluations)


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
