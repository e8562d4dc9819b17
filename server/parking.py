"""Who waits for a physical table that another plan or run holds: at most one run; a later one leaves the model out.

Plans take no part where they evaluate: a plan cannot leave a model out, and waits for as long as it takes. But one that
is about to promote goes before any run (`go_next`).
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, bindparam, delete, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.schema import evaluations, parkings
from tcloud.wire.executions import Execution, OwnerKind, SnapshotRef

__all__ = ["WAITING_RUN", "forget_parkings", "go_next", "goes_behind", "leave_parking", "park"]

_KEPT_FOR = timedelta(minutes=1)
"""A run that waits asks again every few seconds; one that no longer does has lost its place."""

WAITING_RUN: Select[str] = select(parkings.c.owner_id).where(
    parkings.c.project == bindparam("p_project"),
    parkings.c.model == bindparam("p_model"),
    parkings.c.version == bindparam("p_version"),
    parkings.c.expires_at >= func.now(),
)
"""The query for the run that waits for a table."""


def park(transaction: Transaction, execution: Execution, snapshot: SnapshotRef) -> str | None:
    """Lets a run wait for a table; returns the id of the run that does so already, None if this one may wait."""
    if not goes_behind(transaction, execution, snapshot):
        return None
    key = {"project": transaction.project.namespace, "model": snapshot.name, "version": snapshot.version or ""}
    place = {"owner_id": execution.owner_id, "expires_at": datetime.now(UTC) + _KEPT_FOR}
    taken = transaction.connection.execute(
        insert(parkings)
        .values(**key, **place)
        .on_conflict_do_update(
            index_elements=list(key),
            set_=place,
            where=or_(parkings.c.owner_id == execution.owner_id, parkings.c.expires_at < func.now()),
        )
        .returning(parkings.c.owner_id)
    ).scalar()
    if taken is not None:
        return None
    table = {f"p_{column}": value for column, value in key.items()}
    waiting: str | None = transaction.connection.execute(WAITING_RUN, table).scalar()
    return waiting


def go_next(transaction: Transaction, plan_id: str, model: str, version: str) -> None:
    """Puts a plan that is about to replace a table before any run that waits for it."""
    place = {"owner_id": plan_id, "expires_at": datetime.now(UTC) + _KEPT_FOR}
    transaction.connection.execute(
        insert(parkings)
        .values(project=transaction.project.namespace, model=model, version=version, **place)
        .on_conflict_do_update(index_elements=["project", "model", "version"], set_=place)
    )


def goes_behind(transaction: Transaction, execution: Execution, snapshot: SnapshotRef) -> bool:
    """Whether a run that waits for a table goes before this execution.

    It does not go before a plan, nor before a run that has already evaluated units of the table.
    """
    if execution.owner_kind is OwnerKind.PLAN:
        return False
    has_evaluated = exists().where(
        evaluations.c.project == transaction.project.namespace,
        evaluations.c.model == snapshot.name,
        evaluations.c.version == (snapshot.version or ""),
        evaluations.c.owner_id == execution.owner_id,
    )
    return not transaction.connection.execute(select(has_evaluated)).scalar()


def leave_parking(transaction: Transaction, owner_id: str, snapshot: SnapshotRef) -> None:
    """A run that has got the table waits no longer."""
    transaction.connection.execute(
        delete(parkings).where(
            parkings.c.project == transaction.project.namespace,
            parkings.c.model == snapshot.name,
            parkings.c.version == (snapshot.version or ""),
            parkings.c.owner_id == owner_id,
        )
    )


def forget_parkings(transaction: Transaction, owner_id: str) -> None:
    """A run that is over waits for nothing."""
    transaction.connection.execute(
        delete(parkings).where(parkings.c.project == transaction.project.namespace, parkings.c.owner_id == owner_id)
    )
