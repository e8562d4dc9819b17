"""Console events of plans and runs, in the order in which they became true."""

from collections.abc import Sequence

import orjson
from sqlalchemy import exists, select, text

from server.database import Transaction
from server.schema import events
from tcloud.wire.executions import ConsoleEvent

__all__ = ["append_events", "events_after", "say_once"]

# One statement, because every unit appends events.
_APPEND = text(
    """
    WITH stream AS (
        INSERT INTO tempomesh.event_streams AS s (project, owner_id, last_sequence)
        VALUES (:project, :owner_id, :count)
        ON CONFLICT (project, owner_id) DO UPDATE SET last_sequence = s.last_sequence + :count
        RETURNING last_sequence
    )
    INSERT INTO tempomesh.events (project, owner_id, sequence, type, payload)
    SELECT :project, :owner_id, stream.last_sequence - :count + e.position, e.event ->> 0, e.event -> 1
    FROM stream, jsonb_array_elements(CAST(:appended AS jsonb)) WITH ORDINALITY AS e(event, position)
    """
)


def append_events(transaction: Transaction, owner_id: str, appended: Sequence[ConsoleEvent]) -> None:
    """Appends events to a plan's or run's stream.

    The stream's row stays locked until the transaction ends, so a number that a reader has seen is never followed
    by a smaller one that commits later. To be called last in a transaction.
    """
    if not appended:
        return
    parameters = {
        "project": transaction.project.namespace,
        "owner_id": owner_id,
        "count": len(appended),
        "appended": orjson.dumps([[event.type, event.payload] for event in appended]).decode(),
    }
    transaction.connection.execute(_APPEND, parameters)


def say_once(transaction: Transaction, owner_id: str, message: str) -> None:
    """Tells whoever watches a plan or query something that is true for a while, unless they were told."""
    told = select(
        exists().where(
            events.c.project == transaction.project.namespace,
            events.c.owner_id == owner_id,
            events.c.payload["message"].astext == message,
        )
    )
    if not transaction.connection.execute(told).scalar():
        append_events(transaction, owner_id, [ConsoleEvent(type="log_status_update", payload={"message": message})])


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
