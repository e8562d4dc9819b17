"""Records whose workflow is over without having said so: somebody terminated it, or Temporal has lost it.

Left open, such a record would keep what it has claimed, and plans, runs and the janitor would wait for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Column, ColumnElement, Select, String, func, literal, select, union_all

from server.database import Database, Transaction
from server.plans import set_plan_status
from server.projects import Project
from server.queries import set_query_status
from server.rounds import keep_doing
from server.runs import set_run_status
from server.schema import plans, queries, runs
from server.temporal import TemporalGateway
from tcloud.wire.queries import QueryKind
from tcloud.wire.statuses import Status

__all__ = ["end_lost", "keep_ending_lost"]

_log = structlog.get_logger(__name__)
_EVERY = timedelta(minutes=1)
_OPEN = (Status.SCHEDULED.value, Status.IN_PROGRESS.value)
_HOUSEKEEPING = tuple(kind.value for kind in QueryKind if kind.is_housekeeping)
_PLAN, _RUN, _QUERY = "plan", "run", "query"


@dataclass(frozen=True)
class _Open:
    kind: str
    owner_id: str
    workflow_id: str


async def keep_ending_lost(database: Database, temporal: TemporalGateway, projects: Iterable[Project]) -> None:
    """Ends such records, now and every minute, until it is cancelled."""

    async def end(project: Project) -> None:
        await end_lost(database, temporal, project, older_than=_EVERY)

    await keep_doing(end, projects, every=_EVERY, failed="lost_workflows_not_looked_for")


async def end_lost(database: Database, temporal: TemporalGateway, project: Project, *, older_than: timedelta) -> None:
    """Ends the open records of a project whose workflow has been over for so long.

    Plans that wait are left alone: they are submitted again. So is housekeeping, which plans look after.

    Raises:
        ApiError: 503 if Temporal cannot be reached.
    """

    def found() -> list[_Open]:
        with database.transaction(project) as transaction:
            return _open(transaction, older_than)

    def end(owner: _Open) -> None:
        with database.transaction(project) as transaction:
            _end(transaction, owner)

    for owner in await run_in_threadpool(found):
        if await temporal.is_over(project, owner.workflow_id, since=older_than):
            await run_in_threadpool(end, owner)
            _log.warning("workflow_lost", project=project.namespace, workflow_id=owner.workflow_id)


def _open(transaction: Transaction, older_than: timedelta) -> list[_Open]:
    project = transaction.project.namespace
    # A run of a schedule is recorded when it begins, and a workflow's start follows its record within seconds.
    old = func.now() - older_than
    rows = transaction.connection.execute(
        union_all(
            _records(_PLAN, plans.c.plan_id, literal("plan/") + plans.c.environment + "/" + plans.c.plan_id).where(
                plans.c.project == project, plans.c.status == Status.IN_PROGRESS.value, plans.c.start_at < old
            ),
            _records(_RUN, runs.c.run_id, literal("run/") + runs.c.run_id).where(
                runs.c.project == project, runs.c.status.in_(_OPEN), runs.c.start_at < old
            ),
            _records(_QUERY, queries.c.query_id, literal("query/") + queries.c.query_id).where(
                queries.c.project == project,
                queries.c.status.in_(_OPEN),
                queries.c.kind.not_in(_HOUSEKEEPING),
                queries.c.created_at < old,
            ),
        )
    )
    return [_Open(row.kind, row.owner_id, row.workflow_id) for row in rows]


def _records(kind: str, owner_id: Column[str], workflow_id: ColumnElement[str]) -> Select[str, str, str]:
    return select(literal(kind, String).label("kind"), owner_id.label("owner_id"), workflow_id.label("workflow_id"))


def _end(transaction: Transaction, owner: _Open) -> None:
    reason = f"Its workflow '{owner.workflow_id}' was ended in Temporal by somebody, or is not there any more."
    match owner.kind:
        case "plan":
            set_plan_status(transaction, owner.owner_id, Status.ABORTED, reason)
        case "run":
            set_run_status(transaction, owner.owner_id, Status.ABORTED, reason)
        case _:
            set_query_status(transaction, owner.owner_id, Status.ABORTED, reason)
