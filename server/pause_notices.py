"""What environments' workflows are told of pauses: kept with the pause, until Temporal has it.

A pause is in force without anybody being told. What follows from it (Temporal's schedules, the run that catches up) is
its workflow's to do, also if Temporal was away, or the server died, in this very moment.
"""

from collections.abc import Iterable
from datetime import timedelta

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Row, delete, insert, select

from server.database import Database, Transaction
from server.projects import Project
from server.rounds import keep_doing
from server.schema import pause_notices
from server.temporal import TemporalGateway
from workflows.payloads import PauseRef, ResumeRef

__all__ = ["deliver_notices", "keep_delivering", "leave_notice"]

_EVERY = timedelta(seconds=10)


def leave_notice(transaction: Transaction, environment: str, signal: str, body: PauseRef | ResumeRef) -> None:
    """Keeps a signal that is to be sent once the transaction is committed."""
    transaction.connection.execute(
        insert(pause_notices).values(
            project=transaction.project.namespace,
            environment=environment,
            signal=signal,
            body=body.model_dump(mode="json"),
        )
    )


async def deliver_notices(database: Database, temporal: TemporalGateway, project: Project) -> None:
    """Sends what has not been sent, in its order. What is sent twice means the same: workflows ask how things stand.

    Raises:
        ApiError: 503 if Temporal cannot be reached; what is left is sent later.
    """

    def left() -> list[Row[tuple[object, ...]]]:
        with database.transaction(project) as transaction:
            query = select(pause_notices).where(pause_notices.c.project == project.namespace)
            return list(transaction.connection.execute(query.order_by(pause_notices.c.number)))

    def sent(number: int) -> None:
        with database.transaction(project) as transaction:
            transaction.connection.execute(
                delete(pause_notices).where(
                    pause_notices.c.project == project.namespace, pause_notices.c.number == number
                )
            )

    for row in await run_in_threadpool(left):
        kind = PauseRef if row.signal == "pause" else ResumeRef
        await temporal.tell_environment(project, row.environment, row.signal, kind.model_validate(row.body))
        await run_in_threadpool(sent, row.number)


async def keep_delivering(database: Database, temporal: TemporalGateway, projects: Iterable[Project]) -> None:
    """Sends what could not be sent at once, every few seconds, until it is cancelled."""

    async def deliver(project: Project) -> None:
        await deliver_notices(database, temporal, project)

    await keep_doing(deliver, projects, every=_EVERY, failed="pause_notices_not_delivered")
