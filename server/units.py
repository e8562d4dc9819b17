"""Claims and evaluation records: a unit's start is one transaction, its end is another.

A physical table, (snapshot name, version), is claimed by one plan or run at a time. A claim lives as long as its
executor renews the leases of its evaluations. Every start gets a fence, a number that only grows; an end with an
older fence comes from an executor that lost its lease, and changes nothing.
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock
from uuid import uuid4

from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmesh.core.snapshot import SnapshotIntervals

from server.database import Transaction
from server.documents import DocumentKind, get_document
from server.errors import ApiError
from server.events import append_events
from server.owners import final_status
from server.schema import claims, evaluations, fences
from tcloud.wire.executions import (
    ConsoleEvent,
    Execution,
    ExecutionOutcome,
    FinishUnit,
    LeaseRenewal,
    LeasesRenewed,
    SnapshotRef,
    StartUnit,
    Unit,
    UnitKind,
    UnitStarted,
    Verdict,
)
from tcloud.wire.statuses import Status
from tempomesh_runner.console import failed_models_event, skipped_models_event, stop_evaluation_event

__all__ = ["ExecutionDocuments", "close_execution", "finish_unit", "renew_leases", "start_unit"]

_KEPT_EXECUTIONS = 32


class ExecutionDocuments:
    """Execution documents, parsed once and kept while they are in use."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Execution] = OrderedDict()
        self._lock = Lock()

    def get(self, transaction: Transaction, execution_id: str) -> Execution:
        """Returns an execution.

        Raises:
            ApiError: 404 if there is none.
        """
        key = (transaction.project.namespace, execution_id)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        execution = Execution.model_validate_json(get_document(transaction, DocumentKind.EXECUTION, execution_id))
        with self._lock:
            self._kept[key] = execution
            while len(self._kept) > _KEPT_EXECUTIONS:
                self._kept.popitem(last=False)
        return execution

    def forget(self, transaction: Transaction, execution_id: str) -> None:
        """Drops an execution that is being replaced."""
        with self._lock:
            self._kept.pop((transaction.project.namespace, execution_id), None)


def start_unit(transaction: Transaction, start: StartUnit, execution: Execution, lease: timedelta) -> UnitStarted:
    """Claims a unit's physical table and opens the record of its evaluation.

    A later attempt of the same unit takes the record over: the fence of the earlier one is worth nothing from then on.
    """
    if final_status(transaction, execution.owner_id) is not None:
        return UnitStarted(verdict=Verdict.STOP)
    earlier = _recorded(transaction, start)
    if earlier is not None and Status(earlier.status).is_final:
        return UnitStarted(
            verdict=Verdict.DONE,
            evaluation_id=earlier.evaluation_id,
            status=Status(earlier.status),
            error_message=earlier.error_message,
        )
    unit = execution.units[start.unit]
    snapshot = execution.snapshots[unit.snapshot]
    expires = datetime.now(UTC) + lease
    holder = _claim(transaction, execution, snapshot, expires)
    if holder is not None:
        return UnitStarted(verdict=Verdict.CLAIMED, claimed_by=holder)
    evaluation_id, fence = _open_record(transaction, start, execution, unit, snapshot, expires)
    append_events(transaction, execution.owner_id, start.events)
    return UnitStarted(
        verdict=Verdict.GO, evaluation_id=evaluation_id, fence=fence, lease_seconds=lease.total_seconds()
    )


def finish_unit(transaction: Transaction, finish: FinishUnit) -> None:
    """Records SQLMesh's interval, closes the evaluation's record and releases its claim: all of it or nothing.

    Raises:
        ApiError: 409 if another attempt has taken the unit over since.
    """
    now = datetime.now(UTC)
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
            end_at=now,
            lease_expires_at=None,
            error_message=finish.error_message,
            cause=finish.cause,
            log=finish.log,
            audits=[audit.model_dump(mode="json") for audit in finish.audits],
        )
        .returning(evaluations.c.owner_id, evaluations.c.model, evaluations.c.version)
    ).first()
    if row is None:
        raise ApiError(
            409,
            "TM-FENCED",
            f"Evaluation {finish.evaluation_id} is no longer this executor's: its lease ran out and the unit was "
            "given to another attempt. Nothing was recorded.",
        )
    if finish.intervals is not None:
        transaction.state.add_snapshots_intervals([SnapshotIntervals.model_validate(finish.intervals)])
    _release(transaction, row.owner_id, row.model, row.version)
    append_events(transaction, row.owner_id, finish.events)


def renew_leases(transaction: Transaction, renewal: LeaseRenewal, lease: timedelta) -> LeasesRenewed:
    """Renews what an executor has in flight, and says which evaluations are no longer its own."""
    if not renewal.evaluations:
        return LeasesRenewed()
    expires = datetime.now(UTC) + lease
    project = transaction.project.namespace
    rows = transaction.connection.execute(
        update(evaluations)
        .where(
            evaluations.c.project == project,
            evaluations.c.status == Status.IN_PROGRESS.value,
            or_(
                *(
                    and_(evaluations.c.evaluation_id == evaluation_id, evaluations.c.fence == fence)
                    for evaluation_id, fence in renewal.evaluations.items()
                )
            ),
        )
        .values(lease_expires_at=expires)
        .returning(evaluations.c.evaluation_id, evaluations.c.owner_id, evaluations.c.model, evaluations.c.version)
    ).all()
    for row in rows:
        transaction.connection.execute(
            update(claims)
            .where(
                claims.c.project == project,
                claims.c.model == row.model,
                claims.c.version == row.version,
                claims.c.owner_id == row.owner_id,
            )
            .values(lease_expires_at=expires)
        )
    renewed = {row.evaluation_id for row in rows}
    return LeasesRenewed(lost=sorted(renewal.evaluations.keys() - renewed))


def close_execution(
    transaction: Transaction, execution_id: str, execution: Execution, outcome: ExecutionOutcome
) -> None:
    """Records the units that never started, and tells whoever watches what SQLMesh's scheduler tells at its end."""
    now = datetime.now(UTC)
    cause = outcome.cause or "An upstream model failed."
    for number in outcome.skipped:
        unit = execution.units[number]
        if unit.kind is UnitKind.DUMMY:
            continue
        snapshot = execution.snapshots[unit.snapshot]
        values = _unit_values(transaction, execution_id, number, execution, unit, snapshot)
        statement = insert(evaluations).values(
            **values, status=Status.SKIPPED.value, attempt=0, end_at=now, error_message=cause
        )
        transaction.connection.execute(statement.on_conflict_do_nothing())
    append_events(transaction, execution.owner_id, _closing_events(transaction, execution_id, execution, outcome))


def _closing_events(
    transaction: Transaction, execution_id: str, execution: Execution, outcome: ExecutionOutcome
) -> Sequence[ConsoleEvent]:
    skipped_names = {
        execution.snapshots[unit.snapshot].name
        for unit in (execution.units[number] for number in outcome.skipped)
        if unit.kind in (UnitKind.EVALUATE, UnitKind.AUDIT)
    }
    failures = []
    for number in outcome.failed:
        unit = execution.units[number]
        row = transaction.connection.execute(
            select(evaluations.c.error_message, evaluations.c.cause).where(
                evaluations.c.project == transaction.project.namespace,
                evaluations.c.execution_id == execution_id,
                evaluations.c.unit == number,
            )
        ).first()
        failures.append(
            {
                "kind": unit.kind.value,
                "name": execution.snapshots[unit.snapshot].name,
                "interval": unit.interval,
                "batch_index": unit.batch_index,
                "cause": row.cause if row is not None else None,
                "message": row.error_message if row is not None else "No executor finished it.",
            }
        )
    closing = (
        stop_evaluation_event(success=not outcome.failed),
        skipped_models_event(skipped_names),
        failed_models_event(failures),
    )
    return [ConsoleEvent.model_validate(event) for event in closing]


class _Recorded:
    evaluation_id: str
    status: str
    error_message: str | None


def _recorded(transaction: Transaction, start: StartUnit) -> _Recorded | None:
    return transaction.connection.execute(  # type: ignore[return-value]
        select(evaluations.c.evaluation_id, evaluations.c.status, evaluations.c.error_message).where(
            evaluations.c.project == transaction.project.namespace,
            evaluations.c.execution_id == start.execution_id,
            evaluations.c.unit == start.unit,
        )
    ).first()


def _claim(transaction: Transaction, execution: Execution, snapshot: SnapshotRef, expires: datetime) -> str | None:
    """Claims the physical table; returns who holds it if it is not free."""
    project = transaction.project.namespace
    version = snapshot.version or ""
    owner = {"owner_kind": execution.owner_kind.value, "owner_id": execution.owner_id, "lease_expires_at": expires}
    statement = insert(claims).values(project=project, model=snapshot.name, version=version, **owner)
    claimed = transaction.connection.execute(
        statement.on_conflict_do_update(
            index_elements=["project", "model", "version"],
            set_=owner,
            where=or_(claims.c.owner_id == execution.owner_id, claims.c.lease_expires_at < func.now()),
        ).returning(claims.c.owner_id)
    ).scalar()
    if claimed is not None:
        return None
    row = transaction.connection.execute(
        select(claims.c.owner_kind, claims.c.owner_id).where(
            claims.c.project == project, claims.c.model == snapshot.name, claims.c.version == version
        )
    ).first()
    return f"{row.owner_kind} {row.owner_id}" if row is not None else "another plan or run"


def _open_record(
    transaction: Transaction,
    start: StartUnit,
    execution: Execution,
    unit: Unit,
    snapshot: SnapshotRef,
    expires: datetime,
) -> tuple[str, int]:
    opened = {
        "status": Status.IN_PROGRESS.value,
        "attempt": start.attempt,
        "fence": fences.next_value(),
        "executor": start.executor,
        "lease_expires_at": expires,
        "start_at": datetime.now(UTC),
        "end_at": None,
        "error_message": None,
    }
    values = _unit_values(transaction, start.execution_id, start.unit, execution, unit, snapshot)
    row = transaction.connection.execute(
        insert(evaluations)
        .values(**values, **opened)
        .on_conflict_do_update(constraint="uq_evaluations_unit", set_=opened)
        .returning(evaluations.c.evaluation_id, evaluations.c.fence)
    ).one()
    return row.evaluation_id, row.fence


def _unit_values(
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


def _release(transaction: Transaction, owner_id: str, model: str, version: str) -> None:
    """Releases a claim once its owner has nothing in flight on the table."""
    project = transaction.project.namespace
    in_flight = exists().where(
        evaluations.c.project == project,
        evaluations.c.owner_id == owner_id,
        evaluations.c.model == model,
        evaluations.c.version == version,
        evaluations.c.status == Status.IN_PROGRESS.value,
    )
    transaction.connection.execute(
        delete(claims).where(
            claims.c.project == project,
            claims.c.model == model,
            claims.c.version == version,
            claims.c.owner_id == owner_id,
            ~in_flight,
        )
    )


def parse_execution(body: bytes) -> Execution:
    """Checks an execution document before it is kept.

    Raises:
        ApiError: 422 if it is none.
    """
    try:
        return Execution.model_validate(json.loads(body))
    except ValueError as error:
        raise ApiError(422, "TM-EXECUTION", f"The execution document is not valid: {error}") from error
