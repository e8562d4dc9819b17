"""What executors say of the units they evaluate."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool

from server.access import Access, require
from server.api.answers import json_body, problems
from server.documents import DocumentKind, get_document
from server.events import append_events
from server.executions import ExecutionDocuments, put_execution
from server.outcomes import close_execution
from server.preemption import PromotedSnapshots
from server.projects import Role
from server.settings import ServerSettings
from server.units import finish_unit, renew_leases, start_unit
from tcloud.wire.executions import (
    ConsoleEvent,
    Execution,
    ExecutionOutcome,
    LeaseRenewal,
    LeasesRenewed,
    UnitStarted,
    UnitTurn,
)

__all__ = ["router"]

router = APIRouter(tags=["executions"])

_FENCED = problems(s409="Its lease was lost and the claim may be another's: the result is not recorded (`TM-FENCED`).")

Executor = Annotated[Access, Depends(require(Role.EXECUTOR))]
Machine = Annotated[Access, Depends(require(Role.EXECUTOR, Role.WORKER))]
Worker = Annotated[Access, Depends(require(Role.WORKER))]


async def _settings(request: Request) -> ServerSettings:
    settings: ServerSettings = request.app.state.settings
    return settings


async def _executions(request: Request) -> ExecutionDocuments:
    executions: ExecutionDocuments = request.app.state.executions
    return executions


Settings = Annotated[ServerSettings, Depends(_settings)]


async def _promoted(request: Request) -> PromotedSnapshots:
    promoted: PromotedSnapshots = request.app.state.promoted
    return promoted


Promoted = Annotated[PromotedSnapshots, Depends(_promoted)]
Executions = Annotated[ExecutionDocuments, Depends(_executions)]


@router.post("/units", summary="End one unit and start the next", responses=_FENCED)
def turn(
    body: UnitTurn, access: Executor, settings: Settings, executions: Executions, promoted: Promoted
) -> UnitStarted | None:
    """Records an evaluation (interval, outcome, console events) and releases its claim; then claims the physical table
    of another unit and opens its record."""
    if body.finish is not None:
        with access.database.transaction(access.project) as transaction:
            finish_unit(transaction, body.finish)
    if body.start is None:
        return None
    with access.database.transaction(access.project) as transaction:
        execution = executions.get(transaction, body.start.execution_id)
        return start_unit(transaction, body.start, execution, promoted, settings.lease)


@router.post("/leases", summary="Renew the leases of all evaluations in flight")
def leases(body: LeaseRenewal, access: Executor, settings: Settings) -> LeasesRenewed:
    with access.database.transaction(access.project) as transaction:
        return renew_leases(transaction, body, settings.lease)


@router.put(
    "/executions/{execution_id}",
    status_code=204,
    summary="Keep an execution's document",
    openapi_extra=json_body("An `Execution`."),
    responses=problems(s409="A unit of it has begun (`TM-EXECUTION`)."),
)
async def put(execution_id: str, request: Request, access: Executor, executions: Executions) -> None:
    await run_in_threadpool(_put, access, executions, execution_id, await request.body())


@router.get("/executions/{execution_id}", summary="An execution's document", response_model=Execution)
def get_execution(execution_id: str, access: Executor) -> Response:
    with access.database.transaction(access.project) as transaction:
        body = get_document(transaction, DocumentKind.EXECUTION, execution_id)
    return Response(body, media_type="application/json")


@router.post("/executions/{execution_id}/outcome", status_code=204, summary="Close an execution")
def outcome(execution_id: str, body: ExecutionOutcome, access: Worker, executions: Executions) -> None:
    with access.database.transaction(access.project) as transaction:
        execution = executions.get(transaction, execution_id)
        close_execution(transaction, execution_id, execution, body)


@router.post("/owners/{owner_id}/events", status_code=204, summary="Append console events of a plan or run")
def events(owner_id: str, body: list[ConsoleEvent], access: Machine) -> None:
    with access.database.transaction(access.project) as transaction:
        append_events(transaction, owner_id, body)


def _put(access: Access, executions: ExecutionDocuments, execution_id: str, body: bytes) -> None:
    with access.database.transaction(access.project) as transaction:
        put_execution(transaction, execution_id, body)
    executions.forget(access.project, execution_id)
