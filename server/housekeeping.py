"""The janitor and plans stay out of each other's way: whichever begins second waits for the end of the first.

Both record that they begin; the lock here makes one of them see the other's record. A plan that has begun is never
stopped by it, and the janitor, which takes seconds, does not keep plans from beginning before it has begun itself.
"""

from sqlalchemy import select, text, update

from server.database import Transaction
from server.errors import ApiError
from server.queries import one_query, set_query_status
from server.schema import plans, queries, runs
from tcloud.wire.queries import QueryKind
from tcloud.wire.statuses import Status

__all__ = ["abandon_housekeeping", "begin_housekeeping", "lock_against_plans", "what_plans_wait_for"]

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:project, 7263548113))")
_HOUSEKEEPING = tuple(kind.value for kind in QueryKind if kind.is_housekeeping)


def what_plans_wait_for(transaction: Transaction) -> str | None:
    """What keeps a plan from beginning now; until the transaction ends, no housekeeping begins."""
    _lock(transaction)
    row = transaction.connection.execute(
        select(queries.c.kind, queries.c.created_by).where(
            queries.c.project == transaction.project.namespace,
            queries.c.kind.in_(_HOUSEKEEPING),
            queries.c.status == Status.IN_PROGRESS.value,
        )
    ).first()
    return f"Waiting: the janitor is at work ({row.kind}, started by {row.created_by})." if row else None


def begin_housekeeping(transaction: Transaction, query_id: str) -> str | None:
    """Records that housekeeping begins, or returns what it has to wait for.

    Raises:
        ApiError: As `set_query_status` does.
    """
    _lock(transaction)
    query = one_query(transaction, query_id)
    if query.status is Status.IN_PROGRESS:
        return None
    if reason := _in_progress(transaction, also_runs=query.kind is QueryKind.DESTROY):
        return reason
    set_query_status(transaction, query_id, Status.IN_PROGRESS, None)
    return None


def lock_against_plans(transaction: Transaction) -> None:
    """Keeps plans and housekeeping from beginning until the transaction ends.

    Raises:
        ApiError: 409 if one of them has begun.
    """
    reason = what_plans_wait_for(transaction) or _in_progress(transaction, also_runs=True)
    if reason:
        what = reason.removeprefix("Waiting: ")
        raise ApiError(409, "TM-BUSY", f"{what[0].upper()}{what[1:]} Try again after that.")


def abandon_housekeeping(transaction: Transaction) -> None:
    """Ends the records of housekeeping that Temporal does not know any more: somebody terminated it."""
    _lock(transaction)
    transaction.connection.execute(
        update(queries)
        .where(
            queries.c.project == transaction.project.namespace,
            queries.c.kind.in_(_HOUSEKEEPING),
            queries.c.status == Status.IN_PROGRESS.value,
        )
        .values(
            status=Status.ABORTED.value, end_at=text("now()"), error_message="Its workflow was terminated in Temporal."
        )
    )


def _lock(transaction: Transaction) -> None:
    transaction.connection.execute(_LOCK, {"project": transaction.project.namespace})


def _in_progress(transaction: Transaction, *, also_runs: bool) -> str | None:
    project = transaction.project.namespace
    plan = transaction.connection.execute(
        select(plans.c.plan_id, plans.c.environment).where(
            plans.c.project == project, plans.c.status == Status.IN_PROGRESS.value
        )
    ).first()
    if plan is not None:
        return f"Waiting: plan '{plan.plan_id}' of environment '{plan.environment}' is being applied."
    if not also_runs:
        return None
    run = transaction.connection.execute(
        select(runs.c.run_id).where(runs.c.project == project, runs.c.status == Status.IN_PROGRESS.value)
    ).first()
    return f"Waiting: run '{run.run_id}' is in progress." if run is not None else None
