"""The pauses that are in force: read where environments are shown, and where a unit starts.

The record is what enforces a pause: no unit starts without having looked here, whichever processes are away.
"""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import ColumnElement, ScalarSelect, Text, and_, bindparam, cast, delete, func, or_, select, update

from server.audit_log import BY_ITSELF, add_entry
from server.database import Transaction
from server.schema import pauses, runs
from tcloud.wire.pauses import Pause

__all__ = [
    "IN_FORCE",
    "PAUSE_OF_UNIT",
    "as_pause",
    "forget_pauses_of_others",
    "leave_out",
    "pause_of",
    "pauses_by_environment",
    "pauses_in",
]

IN_FORCE: ColumnElement[bool] = or_(pauses.c.until.is_(None), pauses.c.until > func.now())
"""What is over by its own `until` stops nobody, also before its record is removed."""


def pauses_in(transaction: Transaction, environment: str | None = None) -> list[Pause]:
    """The pauses in force, of an environment or of all: by environment, that of the whole one first."""
    query = select(pauses).where(pauses.c.project == transaction.project.namespace, IN_FORCE)
    if environment is not None:
        query = query.where(pauses.c.environment == environment)
    order = (pauses.c.environment, pauses.c.model.is_not(None), pauses.c.created_at, pauses.c.pause_id)
    rows = transaction.connection.execute(query.order_by(*order))
    return [as_pause(dict(row._mapping)) for row in rows]


def pauses_by_environment(transaction: Transaction) -> dict[str, list[Pause]]:
    """The pauses in force of all environments that have any."""
    found: dict[str, list[Pause]] = defaultdict(list)
    for pause in pauses_in(transaction):
        found[pause.environment].append(pause)
    return found


def pause_of(transaction: Transaction, environment: str) -> Pause | None:
    """The pause of a whole environment, if it is in force."""
    return next((pause for pause in pauses_in(transaction, environment) if pause.model is None), None)


def as_pause(row: dict[str, object]) -> Pause:
    """A pause from its record."""
    left_out = row["left_out"]
    assert isinstance(left_out, dict)  # noqa: S101 - the column's type
    return Pause.model_validate({**row, "models": sorted(name for name, of in left_out.items() if name == of)})


def leave_out(transaction: Transaction, pause_id: str, left_out: dict[str, str]) -> None:
    """Records what a pause leaves out from now on: models, each with that one of the pause that it is downstream of."""
    transaction.connection.execute(
        update(pauses)
        .where(pauses.c.project == transaction.project.namespace, pauses.c.pause_id == pause_id)
        .values(left_out=left_out)
    )


def forget_pauses_of_others(transaction: Transaction, existing: Collection[str]) -> None:
    """Removes pauses of environments that exist no longer: a new one of that name starts afresh."""
    gone = transaction.connection.execute(
        delete(pauses)
        .where(pauses.c.project == transaction.project.namespace, pauses.c.environment.not_in(list(existing)))
        .returning(pauses)
    )
    for row in gone:
        details = {"pause_id": row.pause_id, "model": row.model, "why": "The environment is gone."}
        add_entry(transaction, BY_ITSELF, "pause.forget", row.environment, details)


PAUSE_OF_UNIT: ScalarSelect[dict[str, object]] = (
    select(
        func.jsonb_build_object(
            "pause_id",
            pauses.c.pause_id,
            "environment",
            pauses.c.environment,
            "model",
            pauses.c.model,
            "reason",
            pauses.c.reason,
            "created_by",
            pauses.c.created_by,
            "created_at",
            pauses.c.created_at,
            "until",
            pauses.c.until,
            "upstream",
            pauses.c.left_out[cast(bindparam("p_model"), Text)].as_string(),
        )
    )
    .where(
        pauses.c.project == runs.c.project,
        pauses.c.environment == runs.c.environment,
        and_(IN_FORCE, or_(pauses.c.model.is_(None), pauses.c.left_out.has_key(cast(bindparam("p_model"), Text)))),
    )
    .order_by(pauses.c.model.is_not(None), pauses.c.created_at)
    .limit(1)
    .correlate(runs)
    .scalar_subquery()
)
"""The pause that keeps a run from a model, as JSON, with the model of the pause that it is downstream of."""
