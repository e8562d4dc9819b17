"""Plans and runs in what they share: they own executions, claims and console events."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Text, case, cast, func, literal, null, select, union_all, update

from server.claims import let_go, lock_claims, release_idle_claims
from server.database import Transaction
from server.errors import ApiError
from server.parking import forget_parkings
from server.schema import evaluations, plans, queries, runs
from tcloud.wire.queries import QueryKind
from tcloud.wire.statuses import Status

__all__ = ["NOTHING_TO_DO", "Owner", "close_owner", "final_status", "owner_of"]

_HOUSEKEEPING = tuple(kind.value for kind in QueryKind if kind.is_housekeeping)
NOTHING_TO_DO = "nothing_to_do"
"""How a run ends, for whoever watches, if nothing was due; its record says `success`."""


def final_status(transaction: Transaction, owner_id: str) -> tuple[str, str | None] | None:
    """Status and error of a plan, run or query that is over; None while it is not, or if there is none."""
    project = transaction.project.namespace
    row = transaction.connection.execute(
        union_all(
            select(plans.c.status, plans.c.error_message, literal(value=False).label("nothing_to_do")).where(
                plans.c.project == project, plans.c.plan_id == owner_id
            ),
            select(runs.c.status, runs.c.error_message, runs.c.nothing_to_do).where(
                runs.c.project == project, runs.c.run_id == owner_id
            ),
            select(queries.c.status, queries.c.error_message, literal(value=False)).where(
                queries.c.project == project, queries.c.query_id == owner_id
            ),
        )
    ).first()
    if row is None or not Status(row.status).is_final:
        return None
    return (NOTHING_TO_DO if row.nothing_to_do else row.status), row.error_message


@dataclass(frozen=True)
class Owner:
    """Whose a plan, run or query is."""

    environment: str | None
    """None for queries, which are of no environment."""
    asked_by: str | None
    """Who put a query; None for plans, runs and the janitor's work, which are everybody's."""


def owner_of(transaction: Transaction, owner_id: str) -> Owner:
    """The environment of a plan or run, or who asked a query.

    Raises:
        ApiError: 404 if there is none.
    """
    project = transaction.project.namespace
    found = transaction.connection.execute(
        union_all(
            select(plans.c.environment.label("environment"), cast(null(), Text).label("asked_by")).where(
                plans.c.project == project, plans.c.plan_id == owner_id
            ),
            select(runs.c.environment, cast(null(), Text)).where(runs.c.project == project, runs.c.run_id == owner_id),
            select(
                cast(null(), Text), case((queries.c.kind.in_(_HOUSEKEEPING), None), else_=queries.c.created_by)
            ).where(queries.c.project == project, queries.c.query_id == owner_id),
        )
    ).first()
    if found is None:
        raise ApiError(404, "TM-OWNER", f"There is no plan, run or query '{owner_id}' in {project}.")
    return Owner(found.environment, found.asked_by)


def close_owner(transaction: Transaction, owner_id: str) -> None:
    """Ends what is left of a plan or run that is over: records that nobody will close, and its claims.

    What an executor still has in flight keeps its claim until it has stopped, or its lease runs out.
    """
    lock_claims(transaction, owner_id)
    let_go(transaction, owner_id)
    _abort_lost_evaluations(transaction, owner_id)
    release_idle_claims(transaction, owner_id)
    forget_parkings(transaction, owner_id)


def _abort_lost_evaluations(transaction: Transaction, owner_id: str) -> None:
    ended = final_status(transaction, owner_id)
    why = (ended[1] or f"What it belongs to ended ({ended[0]}).") if ended is not None else "It was stopped."
    was_lost = func.concat("Executor ", evaluations.c.executor, " was lost in the middle of it. ", why)
    transaction.connection.execute(
        update(evaluations)
        .where(
            evaluations.c.project == transaction.project.namespace,
            evaluations.c.owner_id == owner_id,
            evaluations.c.status.in_([Status.IN_PROGRESS.value, Status.SCHEDULED.value]),
            func.coalesce(evaluations.c.lease_expires_at, func.now()) <= func.now(),
        )
        .values(
            status=Status.ABORTED.value,
            end_at=datetime.now(UTC),
            lease_expires_at=None,
            error_message=case((evaluations.c.status == Status.IN_PROGRESS.value, was_lost), else_=why),
        )
    )
