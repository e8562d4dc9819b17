"""What executors say of the units they evaluate."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import or_, select
from sqlalchemy.exc import DBAPIError, OperationalError

from server.access import Access
from server.api.answers import json_body, problems
from server.api.dependencies import ExecutorOnly, Machine, Settings, Temporal, WorkerOnly
from server.documents import DocumentKind, get_document
from server.errors import ApiError
from server.events import append_events
from server.executions import ExecutionDocuments, put_execution
from server.leases import renew_leases
from server.outcomes import close_execution
from server.preemption import PromotedSnapshots
from server.releases import Releases
from server.schema import evaluations
from server.units import finish_unit, start_unit
from server.unusable import refusal_of
from tcloud.wire.executions import (
    ConsoleEvent,
    Execution,
    ExecutionOutcome,
    LeaseRenewal,
    LeasesRenewed,
    TurnAnswer,
    TurnRefusal,
    UnitStarted,
    UnitTurn,
    UnitTurns,
)
from workflows.payloads import UnitProgress

__all__ = ["router"]

_log = structlog.get_logger(__name__)

router = APIRouter(tags=["executions"])


async def _executions(request: Request) -> ExecutionDocuments:
    executions: ExecutionDocuments = request.app.state.executions
    return executions


async def _promoted(request: Request) -> PromotedSnapshots:
    promoted: PromotedSnapshots = request.app.state.promoted
    return promoted


Promoted = Annotated[PromotedSnapshots, Depends(_promoted)]
Executions = Annotated[ExecutionDocuments, Depends(_executions)]


async def _releases(request: Request) -> Releases:
    releases: Releases = request.app.state.releases
    return releases


ReleasesOf = Annotated[Releases, Depends(_releases)]


@router.post("/units", summary="End units and start others")
def turns(
    body: UnitTurns,
    access: ExecutorOnly,
    settings: Settings,
    executions: Executions,
    promoted: Promoted,
    releases: ReleasesOf,
) -> list[TurnAnswer]:
    """Each turn records an evaluation (interval, outcome, console events) and releases its claim; then it claims the
    physical table of another unit and opens its record. A turn that is refused does not keep others back; the answer
    says why, such as `TM-FENCED` where its lease was lost and the claim may be another's."""

    def take(turn: UnitTurn) -> UnitStarted | None:
        if turn.finish is not None:
            with access.database.transaction(access.project) as transaction:
                waiting_run = finish_unit(transaction, turn.finish)
            if waiting_run is not None:
                releases.tell(access.project, waiting_run)
        if turn.start is None:
            return None
        with access.database.transaction(access.project) as transaction:
            execution = executions.get(transaction, turn.start.execution_id)
            return start_unit(transaction, turn.start, execution, promoted, settings.lease)

    answers = []
    for turn in body.turns:
        try:
            answers.append(TurnAnswer(started=take(turn)))
        except Exception as error:
            with structlog.contextvars.bound_contextvars(**_about(access, turn)):
                answers.append(TurnAnswer(refused=_refusal(error)))
    return answers


@router.post("/leases", summary="Renew the leases of all evaluations in flight")
def leases(body: LeaseRenewal, access: ExecutorOnly, settings: Settings) -> LeasesRenewed:
    with access.database.transaction(access.project) as transaction:
        return renew_leases(transaction, body, settings.lease)


@router.put(
    "/executions/{execution_id}",
    status_code=204,
    summary="Keep an execution's document",
    openapi_extra=json_body("An `Execution`."),
    responses=problems(s409="A unit of it has begun (`TM-EXECUTION`)."),
)
async def put(execution_id: str, request: Request, access: ExecutorOnly, executions: Executions) -> None:
    await run_in_threadpool(_put, access, executions, execution_id, await request.body())


@router.get("/executions/{execution_id}", summary="An execution's document", response_model=Execution)
def get_execution(execution_id: str, access: ExecutorOnly) -> Response:
    with access.database.transaction(access.project) as transaction:
        body = get_document(transaction, DocumentKind.EXECUTION, execution_id)
    return Response(body, media_type="application/json")


@router.post(
    "/executions/{execution_id}/progress/{workflow_run_id}", status_code=204, summary="Say how far a bundle has come"
)
async def progress(
    execution_id: str,
    workflow_run_id: UUID,
    body: UnitProgress,
    access: ExecutorOnly,
    executions: Executions,
    temporal: Temporal,
) -> None:
    """Signals the plan or run of the execution, which gives to others what the bundle has not begun."""
    execution = await run_in_threadpool(_get, access, executions, execution_id)
    await temporal.tell_progress(access.project, execution, str(workflow_run_id), body)


@router.post("/executions/{execution_id}/outcome", status_code=204, summary="Close an execution")
def outcome(execution_id: str, body: ExecutionOutcome, access: WorkerOnly, executions: Executions) -> None:
    with access.database.transaction(access.project) as transaction:
        execution = executions.get(transaction, execution_id)
        close_execution(transaction, execution_id, execution, body)


@router.post("/owners/{owner_id}/events", status_code=204, summary="Append console events of a plan or run")
def events(owner_id: str, body: list[ConsoleEvent], access: Machine) -> None:
    with access.database.transaction(access.project) as transaction:
        append_events(transaction, owner_id, body)


def _about(access: Access, turn: UnitTurn) -> dict[str, str]:
    """The plan or run that a turn which failed belongs to: the path names none, and a call has turns of many."""
    is_meant = [evaluations.c.evaluation_id == turn.finish.evaluation_id] if turn.finish is not None else []
    if turn.start is not None:
        is_meant.append(evaluations.c.execution_id == turn.start.execution_id)
    try:
        with access.database.transaction(access.project) as transaction:
            row = transaction.connection.execute(
                select(evaluations.c.owner_kind, evaluations.c.owner_id)
                .where(evaluations.c.project == access.project.namespace, or_(*is_meant))
                .limit(1)
            ).first()
    except (DBAPIError, ValueError):
        return {}
    return {f"{row.owner_kind}_id": row.owner_id} if row is not None else {}


def _refusal(error: Exception) -> TurnRefusal:
    error = refusal_of(error) or error
    match error:
        case ApiError():
            return TurnRefusal(status=error.status, code=error.code, message=error.message)
        case OperationalError():
            _log.warning("database_unreachable", error=str(error).splitlines()[0])
            return TurnRefusal(status=503, code="TM-DATABASE", message="The server cannot reach its PostgreSQL.")
    _log.error("unexpected_error", exc_info=error)
    return TurnRefusal(status=500, code="TM-INTERNAL", message=f"The server failed: {type(error).__name__}.")


def _get(access: Access, executions: ExecutionDocuments, execution_id: str) -> Execution:
    with access.database.transaction(access.project) as transaction:
        return executions.get(transaction, execution_id)


def _put(access: Access, executions: ExecutionDocuments, execution_id: str, body: bytes) -> None:
    with access.database.transaction(access.project) as transaction:
        put_execution(transaction, execution_id, body)
    executions.forget(access.project, execution_id)
