"""What executors say of the units they evaluate."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from server.access import Access, require
from server.documents import DocumentKind, get_document, put_document
from server.events import append_events
from server.projects import Role
from server.settings import ServerSettings
from server.units import ExecutionDocuments, close_execution, finish_unit, parse_execution, renew_leases, start_unit
from tcloud.wire.executions import (
    ConsoleEvent,
    ExecutionOutcome,
    FinishUnit,
    LeaseRenewal,
    LeasesRenewed,
    StartUnit,
    UnitStarted,
)

__all__ = ["router"]

router = APIRouter(tags=["executions"])

Executor = Annotated[Access, Depends(require(Role.EXECUTOR))]
Machine = Annotated[Access, Depends(require(Role.EXECUTOR, Role.WORKER))]
Worker = Annotated[Access, Depends(require(Role.WORKER))]


def _settings(request: Request) -> ServerSettings:
    settings: ServerSettings = request.app.state.settings
    return settings


def _executions(request: Request) -> ExecutionDocuments:
    executions: ExecutionDocuments = request.app.state.executions
    return executions


Settings = Annotated[ServerSettings, Depends(_settings)]
Executions = Annotated[ExecutionDocuments, Depends(_executions)]


@router.post("/units/start", summary="Claim a unit's physical table and open its record")
def start(body: StartUnit, access: Executor, settings: Settings, executions: Executions) -> UnitStarted:
    with access.database.transaction(access.project) as transaction:
        execution = executions.get(transaction, body.execution_id)
        return start_unit(transaction, body, execution, settings.lease)


@router.post("/units/finish", status_code=204, summary="Record a unit's interval and outcome, release its claim")
def finish(body: FinishUnit, access: Executor) -> None:
    with access.database.transaction(access.project) as transaction:
        finish_unit(transaction, body)


@router.post("/leases", summary="Renew the leases of all evaluations in flight")
def leases(body: LeaseRenewal, access: Executor, settings: Settings) -> LeasesRenewed:
    with access.database.transaction(access.project) as transaction:
        return renew_leases(transaction, body, settings.lease)


@router.put("/executions/{execution_id}", status_code=204, summary="Keep an execution's document")
async def put_execution(execution_id: str, request: Request, access: Executor, executions: Executions) -> None:
    body = await request.body()
    parse_execution(body)
    with access.database.transaction(access.project) as transaction:
        put_document(transaction, DocumentKind.EXECUTION, execution_id, body)
    with access.database.transaction(access.project) as transaction:
        executions.forget(transaction, execution_id)


@router.get("/executions/{execution_id}", summary="An execution's document")
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
