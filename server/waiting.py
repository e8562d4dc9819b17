"""Plans that wait: an accepted plan gets into its environment's queue, whatever was away when it came.

Temporal keeps an update that no worker has seen in memory only. If it restarts before a worker comes, the record here
is all that is left of the plan, and it is submitted again.
"""

from collections.abc import Iterable
from datetime import timedelta

import structlog
from fastapi.concurrency import run_in_threadpool

from server.database import Database
from server.plans import waiting_plans
from server.projects import Project
from server.rounds import keep_doing
from server.temporal import TemporalGateway

__all__ = ["keep_submitting", "submit_waiting"]

_log = structlog.get_logger(__name__)
_EVERY = timedelta(seconds=30)


async def keep_submitting(database: Database, temporal: TemporalGateway, projects: Iterable[Project]) -> None:
    """Submits forgotten plans again, now and every half minute, until it is cancelled."""

    async def submit(project: Project) -> None:
        await submit_waiting(database, temporal, project, older_than=_EVERY)

    await keep_doing(submit, projects, every=_EVERY, failed="waiting_plans_not_submitted")


async def submit_waiting(
    database: Database, temporal: TemporalGateway, project: Project, *, older_than: timedelta
) -> None:
    """Submits the plans that wait but are in no queue, in the order in which they came.

    A plan whose turn has come meanwhile is not applied twice: it is refused when it is to begin.

    Raises:
        ApiError: 503 if Temporal cannot be reached.
    """

    def waiting() -> list[tuple[str, str]]:
        with database.transaction(project) as transaction:
            return waiting_plans(transaction, older_than)

    queues: dict[str, list[str]] = {}
    for environment, plan_id in await run_in_threadpool(waiting):
        if environment not in queues:
            queues[environment] = await temporal.queue(project, environment)
        if plan_id in queues[environment]:
            continue
        if await temporal.submit_plan(project, environment, plan_id) is None:
            # Without a worker the others would wait for nothing as well.
            return
        _log.info("plan_submitted_again", project=project.namespace, environment=environment, plan_id=plan_id)
