"""How an execution ends: the units that never started, and what SQLMesh's scheduler tells its console then."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.documents import DocumentKind, put_first
from server.events import append_events
from server.schema import evaluations
from server.unit_records import record_key
from tcloud.wire.executions import ConsoleEvent, Execution, ExecutionOutcome, UnitKind
from tcloud.wire.statuses import Status
from tempomesh_runner.console import failed_models_event, skipped_models_event, stop_evaluation_event

__all__ = ["close_execution"]

_NOBODY = "No executor finished it."


def close_execution(
    transaction: Transaction, execution_id: str, execution: Execution, outcome: ExecutionOutcome
) -> None:
    """Records the units that never started, and tells whoever watches what SQLMesh's scheduler tells at its end.

    An execution is closed once; closing it again changes nothing.
    """
    if not put_first(transaction, DocumentKind.OUTCOME, execution_id, outcome.model_dump_json().encode()):
        return
    now = datetime.now(UTC)
    _fail_unfinished(transaction, execution_id, execution, outcome)
    upstream = _upstream_causes(execution, outcome, _left_out(transaction, execution_id))
    for number in outcome.skipped:
        unit = execution.units[number]
        if unit.kind is UnitKind.DUMMY:
            continue
        snapshot = execution.snapshots[unit.snapshot]
        values = record_key(transaction, execution_id, number, execution, unit, snapshot)
        statement = insert(evaluations).values(
            **values,
            status=Status.SKIPPED.value,
            attempt=0,
            end_at=now,
            error_message=outcome.cause or upstream[number],
        )
        transaction.connection.execute(statement.on_conflict_do_nothing())
    append_events(transaction, execution.owner_id, _closing_events(transaction, execution_id, execution, outcome))


def _fail_unfinished(
    transaction: Transaction, execution_id: str, execution: Execution, outcome: ExecutionOutcome
) -> None:
    """Records why units failed that no executor could finish, and which executor had them last."""
    for number in outcome.failed:
        unit = execution.units[number]
        snapshot = execution.snapshots[unit.snapshot]
        reason = outcome.errors.get(number) or _NOBODY
        last = func.concat(
            "No executor could finish it, the last one was ",
            evaluations.c.executor,
            ": ",
            func.coalesce(evaluations.c.error_message, reason),
        )
        ended = {"status": Status.FAILED.value, "end_at": datetime.now(UTC), "lease_expires_at": None}
        values = record_key(transaction, execution_id, number, execution, unit, snapshot)
        transaction.connection.execute(
            insert(evaluations)
            .values(**values, **ended, attempt=0, error_message=reason)
            .on_conflict_do_update(
                constraint="uq_evaluations_unit",
                set_={**ended, "error_message": last},
                where=evaluations.c.status.in_([Status.SCHEDULED.value, Status.IN_PROGRESS.value]),
            )
        )


def _left_out(transaction: Transaction, execution_id: str) -> dict[int, str]:
    """Why units were left out when they were to start."""
    rows = transaction.connection.execute(
        select(evaluations.c.unit, evaluations.c.error_message).where(
            evaluations.c.project == transaction.project.namespace,
            evaluations.c.execution_id == execution_id,
            evaluations.c.status == Status.SKIPPED.value,
            evaluations.c.error_message.is_not(None),
        )
    )
    return {row.unit: row.error_message for row in rows}


def _upstream_causes(execution: Execution, outcome: ExecutionOutcome, left_out: dict[int, str]) -> dict[int, str]:
    """Why each skipped unit was skipped: the unit upstream that failed, or that was itself left out, and why."""
    lost = dict.fromkeys(outcome.failed, "failed") | dict.fromkeys(outcome.skipped, "was skipped")
    causes: dict[int, str] = {}
    for number in sorted(outcome.skipped):
        culprit = next((d for d in execution.units[number].dependencies if d in lost), None)
        if culprit is None:
            causes[number] = "It was not started."
        elif culprit in causes and execution.units[culprit].dependencies and causes[culprit] != "It was not started.":
            causes[number] = causes[culprit]
        else:
            name = execution.snapshots[execution.units[culprit].snapshot].name
            why = f": {left_out[culprit]}" if culprit in left_out else "."
            causes[number] = f"Upstream model {name} {lost[culprit]}{why}"
    return causes


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
                "message": (row and row.error_message) or outcome.errors.get(number) or _NOBODY,
            }
        )
    closing = (
        stop_evaluation_event(success=not outcome.failed),
        skipped_models_event(skipped_names),
        failed_models_event(failures),
    )
    return [ConsoleEvent.model_validate(event) for event in closing]
