"""The records of evaluations: how they stand, how they are opened and closed.

Every unit passes here twice, so statements are built once: SQLAlchemy takes longer to build one than PostgreSQL to
execute it.
"""

from datetime import UTC, datetime
from typing import Any, Protocol, cast
from uuid import uuid4

from sqlalchemy import BigInteger, DateTime, Select, and_, bindparam, exists, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.pauses import PAUSE_OF_UNIT
from server.schema import claims, evaluations, fences, plans, runs
from tcloud.wire.executions import Execution, FinishUnit, OwnerKind, SnapshotRef, StartUnit, Unit
from tcloud.wire.statuses import Status

__all__ = [
    "ClaimedTable",
    "OpenedRecord",
    "Standing",
    "claimed_table",
    "close_record",
    "is_closed",
    "open_record",
    "record_key",
    "standing_of",
]


class Standing(Protocol):
    """How a unit and its owner stand; all but the owner's is None if the unit has no record yet."""

    owner_status: str
    owner_start_at: datetime | None
    preempted_by: str | None
    """The plan that changed the run's environment since it began."""
    pause: dict[str, object] | None
    """The pause that keeps the run from the unit's model, with the model `upstream` that it is because of."""
    exits_on_update: bool | None
    evaluation_id: str | None
    status: str | None
    error_message: str | None
    executor: str | None
    is_held: bool | None
    """Whether another executor is at it, and its lease is not over."""


class ClaimedTable(Protocol):
    """The physical table of an evaluation whose owner has its claim."""

    owner_id: str
    execution_id: str
    unit: int
    model: str
    version: str


class OpenedRecord(Protocol):
    """The record of an evaluation that begins."""

    evaluation_id: str
    fence: int
    attempt: int
    was_written: bool
    """Whether another plan or run has written the table since the owner began."""


def standing_of(transaction: Transaction, start: StartUnit, execution: Execution, model: str) -> Standing | None:
    """How a unit of a model and its owner stand; None if there is no such owner."""
    row = transaction.connection.execute(
        _STANDING[execution.owner_kind],
        {
            "p_model": model,
            "p_project": transaction.project.namespace,
            "p_owner": execution.owner_id,
            "p_execution": start.execution_id,
            "p_unit": start.unit,
            "p_executor": start.executor,
        },
    ).first()
    return cast(Standing | None, row)


def claimed_table(transaction: Transaction, evaluation_id: str) -> ClaimedTable | None:
    """The table of an evaluation, if its owner has the claim, which is locked before the record, as at the start."""
    row = transaction.connection.execute(
        _CLAIMED, {"p_project": transaction.project.namespace, "p_evaluation": evaluation_id}
    ).first()
    return cast(ClaimedTable | None, row)


def open_record(
    transaction: Transaction,
    start: StartUnit,
    execution: Execution,
    unit: Unit,
    snapshot: SnapshotRef,
    expires: datetime,
    owner_start_at: datetime | None,
) -> OpenedRecord | None:
    """Opens a unit's record, or takes it over from an earlier attempt; None if that one still has it, or is done."""
    row = transaction.connection.execute(
        _OPEN,
        {
            **record_key(transaction, start.execution_id, start.unit, execution, unit, snapshot),
            "executor": start.executor,
            "lease_expires_at": expires,
            "start_at": datetime.now(UTC),
            "p_owner_start_at": owner_start_at,
            "p_project": transaction.project.namespace,
            "p_model": snapshot.name,
            "p_version": snapshot.version or "",
            "p_owner": execution.owner_id,
        },
    ).first()
    return cast(OpenedRecord | None, row)


def close_record(transaction: Transaction, finish: FinishUnit) -> bool:
    """Closes the record of an evaluation; False if it is no longer this attempt's."""
    start, end = finish.interval or (None, None)
    row = transaction.connection.execute(
        _CLOSE,
        {
            "p_project": transaction.project.namespace,
            "p_evaluation": finish.evaluation_id,
            "p_fence": finish.fence,
            "p_status": finish.status.value,
            "p_end_at": datetime.now(UTC),
            "p_error_message": finish.error_message,
            "p_cause": finish.cause,
            "p_log": finish.log,
            "p_audits": [audit.model_dump(mode="json") for audit in finish.audits],
            "p_start": start,
            "p_end": end,
        },
    ).first()
    return row is not None


def is_closed(transaction: Transaction, finish: FinishUnit) -> bool:
    """Whether this very attempt has ended like this before, and its executor just did not hear of it."""
    return (
        finish.status.is_final
        and transaction.connection.execute(
            select(evaluations.c.evaluation_id).where(
                evaluations.c.project == transaction.project.namespace,
                evaluations.c.evaluation_id == finish.evaluation_id,
                evaluations.c.fence == finish.fence,
                evaluations.c.status == finish.status.value,
            )
        ).first()
        is not None
    )


def record_key(
    transaction: Transaction,
    execution_id: str,
    number: int,
    execution: Execution,
    unit: Unit,
    snapshot: SnapshotRef,
) -> dict[str, object]:
    """What the record of a unit says whatever becomes of it, with a new id."""
    start, end = unit.interval or (None, None)
    return {
        "project": transaction.project.namespace,
        "evaluation_id": uuid4().hex,
        "execution_id": execution_id,
        "unit": number,
        "owner_kind": execution.owner_kind.value,
        "owner_id": execution.owner_id,
        "kind": unit.kind.value,
        "model": snapshot.name,
        "identifier": snapshot.identifier,
        "version": snapshot.version or "",
        "interval_start": start,
        "interval_end": end,
        "batch_index": unit.batch_index,
    }


def _standing(owner_kind: OwnerKind) -> Select[Any]:
    is_run = owner_kind is OwnerKind.RUN
    owner, owner_id = (runs, runs.c.run_id) if is_run else (plans, plans.c.plan_id)
    exits = runs.c.options["exit_on_env_update"].as_boolean() if is_run else null()
    is_held = and_(
        evaluations.c.status == Status.IN_PROGRESS.value,
        evaluations.c.executor != bindparam("p_executor"),
        evaluations.c.lease_expires_at > func.now(),
    )
    recorded = and_(
        evaluations.c.project == bindparam("p_project"),
        evaluations.c.execution_id == bindparam("p_execution"),
        evaluations.c.unit == bindparam("p_unit"),
    )
    return (
        select(
            owner.c.status.label("owner_status"),
            owner.c.start_at.label("owner_start_at"),
            (runs.c.preempted_by if is_run else null()).label("preempted_by"),
            exits.label("exits_on_update"),
            (PAUSE_OF_UNIT if is_run else null()).label("pause"),
            evaluations.c.evaluation_id,
            evaluations.c.status,
            evaluations.c.error_message,
            evaluations.c.executor,
            is_held.label("is_held"),
        )
        .select_from(owner.outerjoin(evaluations, recorded))
        .where(owner.c.project == bindparam("p_project"), owner_id == bindparam("p_owner"))
    )


_STANDING = {kind: _standing(kind) for kind in OwnerKind}

_CLAIMED = (
    select(
        evaluations.c.owner_id,
        evaluations.c.execution_id,
        evaluations.c.unit,
        evaluations.c.model,
        evaluations.c.version,
    )
    .join(
        claims,
        and_(
            claims.c.project == evaluations.c.project,
            claims.c.model == evaluations.c.model,
            claims.c.version == evaluations.c.version,
            claims.c.owner_id == evaluations.c.owner_id,
        ),
    )
    .where(evaluations.c.project == bindparam("p_project"), evaluations.c.evaluation_id == bindparam("p_evaluation"))
    .with_for_update(of=claims)
)

_other = evaluations.alias("other")
_was_written = exists().where(
    _other.c.project == bindparam("p_project"),
    _other.c.model == bindparam("p_model"),
    _other.c.version == bindparam("p_version"),
    _other.c.owner_id != bindparam("p_owner"),
    _other.c.status == Status.SUCCESS.value,
    _other.c.end_at >= bindparam("p_owner_start_at", type_=DateTime(timezone=True)),
)
_insert = insert(evaluations).values(
    status=Status.IN_PROGRESS.value, attempt=1, fence=fences.next_value(), end_at=null(), error_message=null()
)
_OPEN = _insert.on_conflict_do_update(
    constraint="uq_evaluations_unit",
    set_={
        "status": _insert.excluded.status,
        "attempt": evaluations.c.attempt + 1,
        "fence": _insert.excluded.fence,
        "executor": _insert.excluded.executor,
        "lease_expires_at": _insert.excluded.lease_expires_at,
        "start_at": _insert.excluded.start_at,
        "end_at": null(),
        "error_message": null(),
        "cause": null(),
    },
    where=or_(
        evaluations.c.status == Status.SCHEDULED.value,
        and_(
            evaluations.c.status == Status.IN_PROGRESS.value,
            or_(
                evaluations.c.executor == _insert.excluded.executor,
                evaluations.c.lease_expires_at <= func.now(),
            ),
        ),
    ),
).returning(evaluations.c.evaluation_id, evaluations.c.fence, evaluations.c.attempt, _was_written.label("was_written"))

_CLOSE = (
    update(evaluations)
    .where(
        evaluations.c.project == bindparam("p_project"),
        evaluations.c.evaluation_id == bindparam("p_evaluation"),
        evaluations.c.fence == bindparam("p_fence"),
        evaluations.c.status == Status.IN_PROGRESS.value,
    )
    .values(
        status=bindparam("p_status"),
        end_at=bindparam("p_end_at"),
        lease_expires_at=null(),
        error_message=bindparam("p_error_message"),
        cause=bindparam("p_cause"),
        log=bindparam("p_log"),
        audits=bindparam("p_audits"),
        interval_start=func.coalesce(bindparam("p_start", type_=BigInteger), evaluations.c.interval_start),
        interval_end=func.coalesce(bindparam("p_end", type_=BigInteger), evaluations.c.interval_end),
    )
    .returning(evaluations.c.evaluation_id)
)
