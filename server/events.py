"""Console events of plans and runs, in the order in which they became true."""

from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from server.database import Transaction
from server.schema import event_streams, events
from tcloud.wire.executions import ConsoleEvent

__all__ = ["append_events", "events_after"]


def append_events(transaction: Transaction, owner_id: str, appended: Sequence[ConsoleEvent]) -> None:
    """Appends events to a plan's or run's stream.

    The stream's row stays locked until the transaction ends, so a number that a reader has seen is never followed
    by a smaller one that commits later. To be called last in a transaction.
    """
    if not appended:
        return
    project = transaction.project.namespace
    statement = upsert(event_streams).values(project=project, owner_id=owner_id, last_sequence=len(appended))
    last = transaction.connection.execute(
        statement.on_conflict_do_update(
            index_elements=["project", "owner_id"],
            set_={"last_sequence": event_streams.c.last_sequence + len(appended)},
        ).returning(event_streams.c.last_sequence)
    ).scalar_one()
    first = last - len(appended) + 1
    transaction.connection.execute(
        insert(events),
        [
            {
                "project": project,
                "owner_id": owner_id,
                "sequence": first + position,
                "type": event.type,
                "payload": event.payload,
            }
            for position, event in enumerate(appended)
        ],
    )


def events_after(
    transaction: Transaction, owner_id: str, sequence: int, limit: int = 500
) -> list[tuple[int, ConsoleEvent]]:
    """The events of a stream that follow a sequence number, oldest first, with their own numbers."""
    rows = transaction.connection.execute(
        select(events.c.sequence, events.c.type, events.c.payload)
        .where(
            events.c.project == transaction.project.namespace,
            events.c.owner_id == owner_id,
            events.c.sequence > sequence,
        )
        .order_by(events.c.sequence)
        .limit(limit)
    )
    return [(row.sequence, ConsoleEvent(type=row.type, payload=row.payload)) for row in rows]
