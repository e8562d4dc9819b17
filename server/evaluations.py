"""Evaluations of a plan or a run, as they are listed."""

from datetime import UTC, datetime

from sqlalchemy import Row, func, select

from server.database import Transaction
from server.schema import evaluations
from tcloud.wire.executions import OwnerKind
from tcloud.wire.runs import Evaluation
from tcloud.wire.statuses import Status

__all__ = ["evaluations_of"]


def evaluations_of(transaction: Transaction, kind: OwnerKind, owner_id: str, *, is_over: bool) -> list[Evaluation]:
    """The evaluations of a plan or run in the order in which they started, those that never did last.

    Args:
        transaction: An open transaction.
        kind: Whether the owner is a plan or a run.
        owner_id: Its id.
        is_over: Whether it has ended: what its executor left in the middle then counts as aborted.
    """
    rows = transaction.connection.execute(
        select(evaluations, (evaluations.c.lease_expires_at < func.now()).label("is_lost"))
        .where(evaluations.c.project == transaction.project.namespace, evaluations.c.owner_id == owner_id)
        .order_by(evaluations.c.start_at.nulls_last(), evaluations.c.execution_id, evaluations.c.unit)
    )
    return [_evaluation(row, kind, is_over=is_over) for row in rows]


def _evaluation(row: Row[tuple[object, ...]], kind: OwnerKind, *, is_over: bool) -> Evaluation:
    found = dict(row._mapping)
    if is_over and row.is_lost:
        # Its executor went away in the middle, and nobody takes it up again.
        found["status"] = Status.ABORTED.value
    return Evaluation.model_validate(
        {
            **found,
            f"{kind}_id": row.owner_id,
            "interval_start": _time(row.interval_start),
            "interval_end": _time(row.interval_end),
        }
    )


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
