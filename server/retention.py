"""What only progress needed is thrown away some time after the plan or run is over; its record stays."""

from collections.abc import Iterable
from datetime import timedelta

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import case, delete, exists, func, or_, select, union_all

from server.connections import expire_candidates
from server.database import Database, Transaction
from server.documents import DocumentKind
from server.projects import Project
from server.queries import expire_queries
from server.rounds import keep_doing
from server.schema import documents, event_streams, events, executors, plans, runs

__all__ = ["expire", "keep_expiring"]

_log = structlog.get_logger(__name__)
_EVERY = timedelta(hours=1)
_AT_ONCE = 100
"""Owners a transaction: short ones, so that nobody waits for their locks."""


async def keep_expiring(database: Database, projects: Iterable[Project], age: timedelta) -> None:
    """Expires what is older than `age`, now and every hour, until it is cancelled.

    With an age of zero only answers to queries expire.
    """

    async def expire_all(project: Project) -> None:
        if expired := await run_in_threadpool(_expire_all, database, project, age):
            _log.info("expired", project=project.namespace, plans_and_runs=expired, age_days=age.days)

    await keep_doing(expire_all, projects, every=_EVERY, failed="not_expired")


def expire(transaction: Transaction, age: timedelta) -> int:
    """Deletes the events and documents of plans and runs that ended longer ago, and executors not seen for as long.

    Returns:
        Of how many plans and runs; there may be more to be expired, unless it is 0.
    """
    project = transaction.project.namespace
    before = func.now() - age
    over = union_all(
        select(plans.c.plan_id.label("owner_id"), plans.c.end_at).where(plans.c.project == project),
        select(runs.c.run_id.label("owner_id"), runs.c.end_at).where(runs.c.project == project),
    ).subquery()
    # A stage's or an execution's document is `<plan or run id>.<number>`, a promotion's `<environment>.<plan id>`;
    # none of them has a dot in it.
    part = case((documents.c.kind == DocumentKind.PROMOTION.value, 2), else_=1)
    owner_of_document = func.split_part(documents.c.document_id, ".", part)
    found = transaction.connection.execute(
        select(over.c.owner_id)
        .where(
            over.c.end_at < before,
            or_(
                exists().where(event_streams.c.project == project, event_streams.c.owner_id == over.c.owner_id),
                exists().where(
                    documents.c.project == project,
                    documents.c.created_at < before,
                    owner_of_document == over.c.owner_id,
                ),
            ),
        )
        .limit(_AT_ONCE)
    ).scalars()
    ids = list(found)
    if ids:
        for table in (events, event_streams):
            transaction.connection.execute(delete(table).where(table.c.project == project, table.c.owner_id.in_(ids)))
        transaction.connection.execute(
            delete(documents).where(
                documents.c.project == project, documents.c.created_at < before, owner_of_document.in_(ids)
            )
        )
    transaction.connection.execute(
        delete(executors).where(executors.c.project == project, executors.c.last_seen_at < before)
    )
    return len(ids)


def _expire_all(database: Database, project: Project, age: timedelta) -> int:
    with database.transaction(project) as transaction:
        expire_queries(transaction, age or None)
        expire_candidates(transaction)
    if not age:
        return 0
    total = 0
    while True:
        with database.transaction(project) as transaction:
            expired = expire(transaction, age)
        total += expired
        if not expired:
            return total
