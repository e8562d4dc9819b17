"""Claims and evaluation records: a unit's start is one transaction, its end is another.

A physical table, (snapshot name, version), is claimed by one plan or run at a time. A claim lives as long as its
executor renews the leases of its evaluations. Every start gets a fence, a number that only grows; an end with an
older fence comes from an executor that lost its lease, and changes nothing.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, exists, func, null, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from server.claims import claim_table, release_table
from server.database import Transaction
from server.errors import ApiError
from server.events import append_events
from server.executions import unit_of
from server.owners import final_status
from server.parking import goes_behind, leave_parking, park
from server.preemption import PromotedSnapshots
from server.runs import set_run_status
from server.schema import claims, evaluations, fences, plans, runs
from server.slots import release_slot, renew_slots, slot_holder, take_slot
from tcloud.wire.executions import (
    Execution,
    FinishUnit,
    LeaseRenewal,
    LeasesRenewed,
    OwnerKind,
    SnapshotRef,
    StartUnit,
    Unit,
    UnitStarted,
    Verdict,
)
from tcloud.wire.statuses import Status
from tempomesh_runner.state_values import parse_intervals

__all__ = ["finish_unit", "record_key", "renew_leases", "start_unit"]


def start_unit(
    transaction: Transaction, start: StartUnit, execution: Execution, promoted: PromotedSnapshots, lease: timedelta
) -> UnitStarted:
    """Claims a unit's physical table and a slot of its gateway, and opens the record of its evaluation.

    A later attempt of the same unit takes the record over as soon as the earlier one's lease is over: the fence of the
    earlier one is worth nothing from then on.
    """
    unit = unit_of(execution, start.unit)
    standing = _standing(transaction, start, execution)
    if standing is None or Status(standing.owner_status).is_final:
        return UnitStarted(verdict=Verdict.STOP)
    if standing.status is not None and Status(standing.status).is_final:
        return _done(standing)
    if standing.is_held:
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=f"executor {standing.executor}")
    snapshot = execution.snapshots[unit.snapshot]
    if standing.preempted_by is not None and not promoted.contain(
        transaction, execution.environment, standing.preempted_by, snapshot
    ):
        if standing.exits_on_update:
            reason = f"Plan {standing.preempted_by} changed environment '{execution.environment}'."
            set_run_status(transaction, execution.owner_id, Status.PREEMPTED, reason)
            return UnitStarted(verdict=Verdict.STOP)
        reason = f"Plan {standing.preempted_by} replaced it."
        return _skipped(transaction, start, execution, unit, snapshot, reason, Status.PREEMPTED)
    expires = datetime.now(UTC) + lease
    claimed = claim_table(transaction, execution, snapshot, expires)
    if claimed.holder is not None:
        return _refused(transaction, start, execution, unit, snapshot, claimed.holder)
    if claimed.waiting_run == execution.owner_id:
        leave_parking(transaction, execution.owner_id, snapshot)
    elif claimed.waiting_run is not None and goes_behind(transaction, execution, snapshot):
        release_table(transaction, execution.owner_id, snapshot.name, snapshot.version or "")
        return _skipped(transaction, start, execution, unit, snapshot, f"Run {claimed.waiting_run} waits for it.")
    gateway = (snapshot.gateway or execution.gateway).lower()
    if not take_slot(transaction, gateway, slot_holder(start.execution_id, start.unit), expires):
        release_table(transaction, execution.owner_id, snapshot.name, snapshot.version or "")
        return UnitStarted(verdict=Verdict.FULL, claimed_by=f"the concurrent tasks of gateway '{gateway}'")
    opened = _open_record(transaction, start, execution, unit, snapshot, expires, standing.owner_start_at)
    if opened is None:
        # Another executor got it, or the attempt that was thought lost finished, in this very moment.
        release_slot(transaction, slot_holder(start.execution_id, start.unit))
        release_table(transaction, execution.owner_id, snapshot.name, snapshot.version or "")
        return _done(_standing(transaction, start, execution))
    return UnitStarted(
        verdict=Verdict.GO,
        evaluation_id=opened.evaluation_id,
        fence=opened.fence,
        lease_seconds=lease.total_seconds(),
        recheck=opened.was_written or opened.attempt > 1,
    )


def finish_unit(transaction: Transaction, finish: FinishUnit) -> None:
    """Records SQLMesh's interval, closes the evaluation's record and releases its claim: all of it or nothing.

    Repeating it is harmless.

    Raises:
        ApiError: 409 if another attempt has taken the unit over since.
    """
    target = _claimed(transaction, finish.evaluation_id)
    if target is not None and finish.status is Status.SCHEDULED:
        finish = _never_again(transaction, target.owner_id, finish)
    if target is None or not _close_record(transaction, finish):
        if _is_closed(transaction, finish):
            return
        raise ApiError(
            409,
            "TM-FENCED",
            f"Evaluation {finish.evaluation_id} is no longer this executor's: its lease ran out and its table was "
            "given to another attempt. Nothing was recorded.",
        )
    if finish.intervals is not None:
        transaction.state.add_snapshots_intervals([parse_intervals(finish.intervals)])
    release_slot(transaction, slot_holder(target.execution_id, target.unit))
    release_table(transaction, target.owner_id, target.model, target.version)
    append_events(transaction, target.owner_id, finish.events)


def renew_leases(transaction: Transaction, renewal: LeaseRenewal, lease: timedelta) -> LeasesRenewed:
    """Renews what an executor has in flight, and says which evaluations are no longer its own."""
    if not renewal.evaluations:
        return LeasesRenewed()
    expires = datetime.now(UTC) + lease
    project = transaction.project.namespace
    mine = (
        evaluations.c.project == project,
        evaluations.c.status == Status.IN_PROGRESS.value,
        tuple_(evaluations.c.evaluation_id, evaluations.c.fence).in_(list(renewal.evaluations.items())),
    )
    claimed = transaction.connection.execute(
        select(claims.c.model, claims.c.version, claims.c.owner_id)
        .where(
            claims.c.project == project,
            exists().where(
                *mine,
                evaluations.c.model == claims.c.model,
                evaluations.c.version == claims.c.version,
                evaluations.c.owner_id == claims.c.owner_id,
            ),
        )
        # One order for all who lock several: no two of them can wait for each other.
        .order_by(claims.c.model, claims.c.version)
        .with_for_update()
    ).all()
    over = {owner_id for owner_id in {row.owner_id for row in claimed} if _is_called_off(transaction, owner_id)}
    held = [tuple(row) for row in claimed if row.owner_id not in over]
    if not held:
        return LeasesRenewed(lost=sorted(renewal.evaluations))
    transaction.connection.execute(
        update(claims)
        .where(claims.c.project == project, tuple_(claims.c.model, claims.c.version, claims.c.owner_id).in_(held))
        .values(lease_expires_at=expires)
    )
    renewed = transaction.connection.execute(
        update(evaluations)
        .where(*mine, tuple_(evaluations.c.model, evaluations.c.version, evaluations.c.owner_id).in_(held))
        .values(lease_expires_at=expires)
        .returning(evaluations.c.evaluation_id, evaluations.c.execution_id, evaluations.c.unit)
    ).all()
    renew_slots(transaction, (slot_holder(row.execution_id, row.unit) for row in renewed), expires)
    return LeasesRenewed(lost=sorted(renewal.evaluations.keys() - {row.evaluation_id for row in renewed}))


def record_key(
    transaction: Transaction,
    execution_id: str,
    number: int,
    execution: Execution,
    unit: Unit,
    snapshot: SnapshotRef,
) -> dict[str, object]:
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


def _refused(
    transaction: Transaction, start: StartUnit, execution: Execution, unit: Unit, snapshot: SnapshotRef, holder: str
) -> UnitStarted:
    """A plan waits for the table; so does one run, and so does a run that has evaluated units of it before."""
    waiting = park(transaction, execution, snapshot)
    if waiting is None:
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=holder)
    reason = f"It is being evaluated by {holder}, and run {waiting} waits for it."
    return _skipped(transaction, start, execution, unit, snapshot, reason)


def _never_again(transaction: Transaction, owner_id: str, finish: FinishUnit) -> FinishUnit:
    """What is handed back to a plan or run that is over has ended with it, for the same reason."""
    ended = final_status(transaction, owner_id)
    if ended is None:
        return finish
    return finish.model_copy(update={"status": Status.ABORTED, "error_message": ended[1] or finish.error_message})


def _is_called_off(transaction: Transaction, owner_id: str) -> bool:
    """Whether what is in flight is to be stopped; where a plan changed the environment it may finish."""
    ended = final_status(transaction, owner_id)
    return ended is not None and ended[0] != Status.PREEMPTED


def _skipped(
    transaction: Transaction,
    start: StartUnit,
    execution: Execution,
    unit: Unit,
    snapshot: SnapshotRef,
    reason: str,
    status: Status = Status.SKIPPED,
) -> UnitStarted:
    values = record_key(transaction, start.execution_id, start.unit, execution, unit, snapshot)
    skipped = {"status": status.value, "end_at": datetime.now(UTC), "error_message": reason}
    transaction.connection.execute(
        insert(evaluations)
        .values(**values, **skipped, attempt=1)
        .on_conflict_do_update(constraint="uq_evaluations_unit", set_=skipped)
    )
    return UnitStarted(verdict=Verdict.SKIP, status=status, error_message=reason)


class _Standing(Protocol):
    """How a unit and its owner stand; all but the owner's is None if the unit has no record yet."""

    owner_status: str
    owner_start_at: datetime | None
    preempted_by: str | None
    """The plan that changed the run's environment since it began."""
    exits_on_update: bool | None
    evaluation_id: str | None
    status: str | None
    error_message: str | None
    executor: str | None
    is_held: bool | None
    """Whether another executor is at it, and its lease is not over."""


class _Claimed(Protocol):
    owner_id: str
    execution_id: str
    unit: int
    model: str
    version: str


class _Opened(Protocol):
    evaluation_id: str
    fence: int
    attempt: int
    was_written: bool


def _standing(transaction: Transaction, start: StartUnit, execution: Execution) -> _Standing | None:
    project = transaction.project.namespace
    owner, owner_id = (runs, runs.c.run_id) if execution.owner_kind is OwnerKind.RUN else (plans, plans.c.plan_id)
    is_held = and_(
        evaluations.c.status == Status.IN_PROGRESS.value,
        evaluations.c.executor != start.executor,
        evaluations.c.lease_expires_at > func.now(),
    )
    recorded = and_(
        evaluations.c.project == project,
        evaluations.c.execution_id == start.execution_id,
        evaluations.c.unit == start.unit,
    )
    row = transaction.connection.execute(
        select(
            owner.c.status.label("owner_status"),
            owner.c.start_at.label("owner_start_at"),
            *_preemption(execution),
            evaluations.c.evaluation_id,
            evaluations.c.status,
            evaluations.c.error_message,
            evaluations.c.executor,
            is_held.label("is_held"),
        )
        .select_from(owner.outerjoin(evaluations, recorded))
        .where(owner.c.project == project, owner_id == execution.owner_id)
    ).first()
    return cast(_Standing | None, row)


def _preemption(execution: Execution) -> tuple[ColumnElement[Any], ...]:
    if execution.owner_kind is OwnerKind.PLAN:
        return null().label("preempted_by"), null().label("exits_on_update")
    exits = runs.c.options["exit_on_env_update"].as_boolean()
    return runs.c.preempted_by, exits.label("exits_on_update")


def _done(record: _Standing | None) -> UnitStarted:
    if record is None or record.status is None:
        return UnitStarted(verdict=Verdict.STOP)
    if not Status(record.status).is_final:
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=f"executor {record.executor}")
    return UnitStarted(
        verdict=Verdict.DONE,
        evaluation_id=record.evaluation_id,
        status=Status(record.status),
        error_message=record.error_message,
    )


def _claimed(transaction: Transaction, evaluation_id: str) -> _Claimed | None:
    """The table of an evaluation whose owner has its claim, which is locked before the record, as at the start."""
    row = transaction.connection.execute(
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
        .where(evaluations.c.project == transaction.project.namespace, evaluations.c.evaluation_id == evaluation_id)
        .with_for_update(of=claims)
    ).first()
    return cast(_Claimed | None, row)


def _is_closed(transaction: Transaction, finish: FinishUnit) -> bool:
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


def _close_record(transaction: Transaction, finish: FinishUnit) -> bool:
    row = transaction.connection.execute(
        update(evaluations)
        .where(
            evaluations.c.project == transaction.project.namespace,
            evaluations.c.evaluation_id == finish.evaluation_id,
            evaluations.c.fence == finish.fence,
            evaluations.c.status == Status.IN_PROGRESS.value,
        )
        .values(
            status=finish.status.value,
            end_at=datetime.now(UTC),
            lease_expires_at=None,
            error_message=finish.error_message,
            cause=finish.cause,
            log=finish.log,
            audits=[audit.model_dump(mode="json") for audit in finish.audits],
            **({"interval_start": finish.interval[0], "interval_end": finish.interval[1]} if finish.interval else {}),
        )
        .returning(evaluations.c.evaluation_id)
    ).first()
    return row is not None


def _open_record(
    transaction: Transaction,
    start: StartUnit,
    execution: Execution,
    unit: Unit,
    snapshot: SnapshotRef,
    expires: datetime,
    owner_start_at: datetime | None,
) -> _Opened | None:
    """Opens a unit's record, or takes it over from an earlier attempt; None if that one still has it, or is done."""
    opened = {
        "status": Status.IN_PROGRESS.value,
        "fence": fences.next_value(),
        "executor": start.executor,
        "lease_expires_at": expires,
        "start_at": datetime.now(UTC),
        "end_at": None,
        "error_message": None,
        "cause": None,
    }
    values = record_key(transaction, start.execution_id, start.unit, execution, unit, snapshot)
    other = evaluations.alias("other")
    was_written = exists().where(
        other.c.project == transaction.project.namespace,
        other.c.model == snapshot.name,
        other.c.version == (snapshot.version or ""),
        other.c.owner_id != execution.owner_id,
        other.c.status == Status.SUCCESS.value,
        other.c.end_at >= owner_start_at,
    )
    row = transaction.connection.execute(
        insert(evaluations)
        .values(**values, **opened, attempt=1)
        .on_conflict_do_update(
            constraint="uq_evaluations_unit",
            set_={**opened, "attempt": evaluations.c.attempt + 1},
            where=or_(
                evaluations.c.status == Status.SCHEDULED.value,
                and_(
                    evaluations.c.status == Status.IN_PROGRESS.value,
                    or_(evaluations.c.executor == start.executor, evaluations.c.lease_expires_at <= func.now()),
                ),
            ),
        )
        .returning(
            evaluations.c.evaluation_id, evaluations.c.fence, evaluations.c.attempt, was_written.label("was_written")
        )
    ).first()
    return cast(_Opened | None, row)
