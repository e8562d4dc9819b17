"""Claims and evaluation records: a unit's start is one transaction, its end is another.

A physical table, (snapshot name, version), is claimed by one plan or run at a time. A claim lives as long as its
executor renews the leases of its evaluations. Every start gets a fence, a number that only grows; an end with an
older fence comes from an executor that lost its lease, and changes nothing.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select
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
from server.schema import evaluations, plans
from server.slots import has_room, release_slot, slot_holder, take_slot
from server.unit_records import Standing, claimed_table, close_record, is_closed, open_record, record_key, standing_of
from tcloud.wire.executions import (
    Execution,
    FinishUnit,
    SnapshotRef,
    StartUnit,
    Unit,
    UnitStarted,
    Verdict,
)
from tcloud.wire.pauses import Pause
from tcloud.wire.statuses import Status
from tempomesh_runner.state_values import parse_intervals

__all__ = ["finish_unit", "start_unit"]


def start_unit(
    transaction: Transaction, start: StartUnit, execution: Execution, promoted: PromotedSnapshots, lease: timedelta
) -> UnitStarted:
    """Claims a unit's physical table and a slot of its gateway, and opens the record of its evaluation.

    A later attempt of the same unit takes the record over as soon as the earlier one's lease is over: the fence of the
    earlier one is worth nothing from then on.
    """
    unit = unit_of(execution, start.unit)
    snapshot = execution.snapshots[unit.snapshot]
    standing = standing_of(transaction, start, execution, snapshot.name)
    if standing is None or Status(standing.owner_status).is_final:
        return UnitStarted(verdict=Verdict.STOP)
    if standing.status is not None and Status(standing.status).is_final:
        return _done(standing)
    if standing.is_held:
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=f"executor {standing.executor}")
    if standing.preempted_by is not None:
        if standing.exits_on_update:
            reason = f"Plan {standing.preempted_by} changed environment '{execution.environment}'."
            set_run_status(transaction, execution.owner_id, Status.PREEMPTED, reason)
            return UnitStarted(verdict=Verdict.STOP)
        after = promoted.after(transaction, execution.environment, standing.preempted_by)
        if after.get(snapshot.name) != snapshot.identifier:
            reason = f"Plan {standing.preempted_by} {'replaced' if snapshot.name in after else 'removed'} it."
            return _skipped(transaction, start, execution, unit, snapshot, reason, Status.PREEMPTED)
    if standing.pause is not None and not execution.ignores_pauses:
        paused = Pause.model_validate(standing.pause)
        reason = paused.why_not(snapshot.name, str(standing.pause["upstream"]))
        leave_parking(transaction, execution.owner_id, snapshot)
        skipped = _skipped(transaction, start, execution, unit, snapshot, reason)
        return skipped.model_copy(update={"is_paused": True})
    expires = datetime.now(UTC) + lease
    claimed = claim_table(transaction, execution, snapshot, expires)
    if claimed.holder is not None:
        return _refused(transaction, start, execution, unit, snapshot, claimed.holder)
    if claimed.waiting_run == execution.owner_id:
        leave_parking(transaction, execution.owner_id, snapshot)
    elif claimed.waiting_run is not None and goes_behind(transaction, execution, snapshot):
        _give_back(transaction, execution, snapshot)
        reason = f"{_who(transaction, claimed.waiting_run)} waits for it."
        return _skipped(transaction, start, execution, unit, snapshot, reason[0].upper() + reason[1:])
    if not has_room(transaction, start, snapshot):
        _give_back(transaction, execution, snapshot)
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=f"the concurrent evaluations of {snapshot.name}")
    gateway = (snapshot.gateway or execution.gateway).lower()
    if not take_slot(transaction, gateway, slot_holder(start.execution_id, start.unit), expires):
        _give_back(transaction, execution, snapshot)
        return UnitStarted(verdict=Verdict.FULL, claimed_by=f"the concurrent tasks of gateway '{gateway}'")
    opened = open_record(transaction, start, execution, unit, snapshot, expires, standing.owner_start_at)
    if opened is None:
        # Another executor got it, or the attempt that was thought lost finished, in this very moment.
        release_slot(transaction, slot_holder(start.execution_id, start.unit))
        _give_back(transaction, execution, snapshot)
        return _done(standing_of(transaction, start, execution, snapshot.name))
    return UnitStarted(
        verdict=Verdict.GO,
        evaluation_id=opened.evaluation_id,
        fence=opened.fence,
        lease_seconds=lease.total_seconds(),
        recheck=opened.was_written or opened.attempt > 1,
    )


def finish_unit(transaction: Transaction, finish: FinishUnit) -> str | None:
    """Records SQLMesh's interval, closes the evaluation's record and releases its claim: all of it or nothing.

    Repeating it is harmless. Returns the run that waits for the table, if it is free now.

    Raises:
        ApiError: 409 if another attempt has taken the unit over since.
    """
    target = claimed_table(transaction, finish.evaluation_id)
    if target is not None and finish.status is Status.SCHEDULED:
        finish = _never_again(transaction, target.owner_id, finish)
    if target is None or not close_record(transaction, finish):
        if is_closed(transaction, finish):
            return None
        raise ApiError(
            409,
            "TM-FENCED",
            f"Evaluation {finish.evaluation_id} is no longer this executor's: its lease ran out and its table was "
            "given to another attempt. Nothing was recorded.",
        )
    if finish.intervals is not None:
        transaction.state.add_snapshots_intervals([parse_intervals(finish.intervals)])
    release_slot(transaction, slot_holder(target.execution_id, target.unit))
    waiting = release_table(transaction, target.owner_id, target.model, target.version)
    append_events(transaction, target.owner_id, finish.events)
    return waiting


def _give_back(transaction: Transaction, execution: Execution, snapshot: SnapshotRef) -> None:
    """Releases the table of a unit that is not started after all."""
    release_table(transaction, execution.owner_id, snapshot.name, snapshot.version or "")


def _refused(
    transaction: Transaction, start: StartUnit, execution: Execution, unit: Unit, snapshot: SnapshotRef, holder: str
) -> UnitStarted:
    """A plan waits for the table; so does one run, and so does a run that has evaluated units of it before."""
    waiting = park(transaction, execution, snapshot)
    if waiting is None:
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=holder)
    reason = f"It is being evaluated by {holder}, and {_who(transaction, waiting)} waits for it."
    return _skipped(transaction, start, execution, unit, snapshot, reason)


def _who(transaction: Transaction, waiting: str) -> str:
    """Who waits for a table: a run, or a plan that is about to replace it."""
    is_plan = select(plans.c.plan_id).where(
        plans.c.project == transaction.project.namespace, plans.c.plan_id == waiting
    )
    return f"{'plan' if transaction.connection.execute(is_plan).first() else 'run'} {waiting}"


def _never_again(transaction: Transaction, owner_id: str, finish: FinishUnit) -> FinishUnit:
    """What is handed back to a plan or run that is over has ended with it, for the same reason."""
    ended = final_status(transaction, owner_id)
    if ended is None:
        return finish
    return finish.model_copy(update={"status": Status.ABORTED, "error_message": ended[1] or finish.error_message})


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
    skipped = {
        "status": status.value,
        "end_at": datetime.now(UTC),
        "lease_expires_at": None,
        "error_message": reason,
    }
    transaction.connection.execute(
        insert(evaluations)
        .values(**values, **skipped, attempt=1)
        .on_conflict_do_update(constraint="uq_evaluations_unit", set_=skipped)
    )
    return UnitStarted(verdict=Verdict.SKIP, status=status, error_message=reason)


def _done(record: Standing | None) -> UnitStarted:
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
