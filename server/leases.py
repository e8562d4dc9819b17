"""Leases of evaluations in flight: renewed by executors that live, lost by those that do not."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, select, tuple_, update

from server.database import Transaction
from server.owners import final_status
from server.schema import claims, evaluations
from server.slots import renew_slots, slot_holder
from tcloud.wire.executions import LeaseRenewal, LeasesRenewed
from tcloud.wire.statuses import Status

__all__ = ["renew_leases"]


def renew_leases(transaction: Transaction, renewal: LeaseRenewal, lease: timedelta) -> LeasesRenewed:
    """Renews what an executor has in flight, and says which evaluations are no longer its own."""
    if not renewal.evaluations:
        return LeasesRenewed()
    expires = datetime.now(UTC) + lease
    project = transaction.project.namespace
    mine = (
        evaluations.c.project == project,
        evaluations.c.status == Status.IN_PROGRESS.value,
        tuple_(evaluations.c.evaluation_id, evaluations.c.fence).in_(list(renewal.evaluations.items())),
    )
    claimed = transaction.connection.execute(
        select(claims.c.model, claims.c.version, claims.c.owner_id)
        .where(
            claims.c.project == project,
            exists().where(
                *mine,
                evaluations.c.model == claims.c.model,
                evaluations.c.version == claims.c.version,
                evaluations.c.owner_id == claims.c.owner_id,
            ),
        )
        # One order for all who lock several: no two of them can wait for each other.
        .order_by(claims.c.model, claims.c.version)
        .with_for_update()
    ).all()
    over = {owner_id for owner_id in {row.owner_id for row in claimed} if _is_called_off(transaction, owner_id)}
    held = [tuple(row) for row in claimed if row.owner_id not in over]
    if not held:
        return LeasesRenewed(lost=sorted(renewal.evaluations))
    transaction.connection.execute(
        update(claims)
        .where(claims.c.project == project, tuple_(claims.c.model, claims.c.version, claims.c.owner_id).in_(held))
        .values(lease_expires_at=expires)
    )
    renewed = transaction.connection.execute(
        update(evaluations)
        .where(*mine, tuple_(evaluations.c.model, evaluations.c.version, evaluations.c.owner_id).in_(held))
        .values(lease_expires_at=expires)
        .returning(evaluations.c.evaluation_id, evaluations.c.execution_id, evaluations.c.unit)
    ).all()
    renew_slots(transaction, (slot_holder(row.execution_id, row.unit) for row in renewed), expires)
    return LeasesRenewed(lost=sorted(renewal.evaluations.keys() - {row.evaluation_id for row in renewed}))


def _is_called_off(transaction: Transaction, owner_id: str) -> bool:
    """Whether what is in flight is to be stopped; where a plan changed the environment it may finish."""
    ended = final_status(transaction, owner_id)
    return ended is not None and ended[0] != Status.PREEMPTED
