"""Questions to warehouses and the janitor: ask, follow, read the answer; and what executors and workers say of them."""

from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from server.access import Access
from server.api.answers import json_body, problems
from server.api.dependencies import Developer, ExecutorOnly, Settings, Temporal, WorkerOnly
from server.connections import settle_candidate
from server.documents import DocumentKind, get_document, put_document
from server.errors import ApiError
from server.events import say_once
from server.housekeeping import begin_housekeeping
from server.projects import Role
from server.queries import accept_query, forget_documents, forget_query, one_query, set_query_status
from server.settings import ServerSettings
from tcloud.wire.queries import Query, QueryKind, QueryRequest
from tcloud.wire.statuses import Status

__all__ = ["router"]

router = APIRouter(tags=["queries"])
_log = structlog.get_logger(__name__)


class QueryReport(BaseModel):
    """How a query ended."""

    status: Status
    error_message: str | None = None


@router.post(
    "/queries",
    status_code=201,
    summary="Ask a warehouse something, or have the janitor work",
    responses=problems(s409="The janitor is at work already (`TM-BUSY`)."),
)
async def submit(request: QueryRequest, access: Developer, temporal: Temporal, settings: Settings) -> Query:
    """An apply executor answers. To destroy a project takes `admin`, to query what the server's settings say."""
    _check_role(request.kind, access, settings)
    if request.kind is QueryKind.TEST_CONNECTION:
        raise ApiError(422, "TM-REQUEST", "Connections are tested by `POST connections/{gateway}/test`.")
    question = {
        **request.model_dump(mode="json"),
        "max_rows": settings.query_max_rows,
        "max_bytes": settings.query_max_bytes,
    }
    is_new = await run_in_threadpool(_accept, access, request, orjson.dumps(question))
    query = await run_in_threadpool(_one, access, request.query_id)
    if query.status is not Status.SCHEDULED:
        return query
    try:
        await temporal.start_query(access.project, query)
    except ApiError as error:
        if is_new:
            await run_in_threadpool(_forget, access, query.query_id)
        elif error.code == "TM-BUSY":
            # It is busy with this very query.
            return query
        raise
    if is_new:
        _log.info("query_submitted", by=access.identity_id, query_id=query.query_id, kind=query.kind.value)
    return query


@router.get("/queries/{query_id}", summary="How a query stands")
def query(query_id: str, access: Developer) -> Query:
    return _one(access, query_id)


@router.get(
    "/queries/{query_id}/answer", summary="The answer", response_class=JSONResponse, response_model=dict[str, Any]
)
def answer(query_id: str, access: Developer) -> Response:
    """Only for whoever asked."""
    with access.database.transaction(access.project) as transaction:
        _check_asker(one_query(transaction, query_id), access)
        return Response(get_document(transaction, DocumentKind.ANSWER, query_id), media_type="application/json")


@router.delete("/queries/{query_id}", status_code=204, summary="Throw away what was asked and answered")
def forget(query_id: str, access: Developer) -> None:
    with access.database.transaction(access.project) as transaction:
        _check_asker(one_query(transaction, query_id), access)
        forget_documents(transaction, query_id)


@router.post("/queries/{query_id}/cancel", summary="Stop a query")
async def cancel(query_id: str, access: Developer, temporal: Temporal) -> Query:
    """What it runs in the warehouse is cancelled there."""
    found = await run_in_threadpool(_one, access, query_id)
    if not found.status.is_final and not await temporal.cancel_query(access.project, found):
        await run_in_threadpool(_set_status, access, query_id, Status.ABORTED, f"Cancelled by {access.identity_id}.")
    return await run_in_threadpool(_one, access, query_id)


@router.get(
    "/queries/{query_id}/question",
    summary="What is asked",
    response_class=JSONResponse,
    response_model=dict[str, Any],
)
def question(query_id: str, access: ExecutorOnly) -> Response:
    with access.database.transaction(access.project) as transaction:
        return Response(get_document(transaction, DocumentKind.QUESTION, query_id), media_type="application/json")


@router.put(
    "/queries/{query_id}/answer",
    status_code=204,
    summary="Keep the answer",
    openapi_extra=json_body("As `tempomesh_runner.queries` gives it."),
)
async def put_answer(query_id: str, request: Request, access: ExecutorOnly) -> None:
    await run_in_threadpool(_put_answer, access, query_id, await request.body())


@router.post(
    "/queries/{query_id}/begin",
    status_code=204,
    summary="Record that housekeeping begins",
    openapi_extra=json_body("Nothing."),
    responses=problems(s503="A plan is being applied: to be tried again (`TM-WAITS`)."),
)
async def begin(query_id: str, access: WorkerOnly) -> None:
    if reason := await run_in_threadpool(_begin, access, query_id):
        raise ApiError(503, "TM-WAITS", reason)


@router.post("/queries/{query_id}/status", status_code=204, summary="Record how a query ended")
async def status(query_id: str, body: QueryReport, access: WorkerOnly, temporal: Temporal) -> None:
    await run_in_threadpool(_set_status, access, query_id, body.status, body.error_message)
    if (await run_in_threadpool(_one, access, query_id)).kind.is_housekeeping:
        # Environments are gone, and with them their schedules.
        await temporal.maintain(access.project)


def _check_role(kind: QueryKind, access: Access, settings: ServerSettings) -> None:
    takes = Role.DEVELOPER
    if kind is QueryKind.DESTROY:
        takes = Role.ADMIN
    elif not kind.is_housekeeping:
        takes = settings.query_role
    if takes is Role.ADMIN and access.role is not Role.ADMIN:
        raise ApiError(
            403, "TM-ROLE", f"Client '{access.identity_id}' has the role {access.role}; {kind} takes {takes}."
        )


def _check_asker(found: Query, access: Access) -> None:
    if found.created_by != access.identity_id:
        raise ApiError(
            403, "TM-ROLE", f"Query '{found.query_id}' was asked by {found.created_by}: its answer is theirs."
        )


def _accept(access: Access, request: QueryRequest, question: bytes) -> bool:
    with access.database.transaction(access.project) as transaction:
        return accept_query(transaction, request, question, access.identity_id)


def _forget(access: Access, query_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        forget_query(transaction, query_id)


def _one(access: Access, query_id: str) -> Query:
    with access.database.transaction(access.project) as transaction:
        return one_query(transaction, query_id)


def _put_answer(access: Access, query_id: str, body: bytes) -> None:
    with access.database.transaction(access.project) as transaction:
        one_query(transaction, query_id)
        put_document(transaction, DocumentKind.ANSWER, query_id, body)


def _begin(access: Access, query_id: str) -> str | None:
    with access.database.transaction(access.project) as transaction:
        reason = begin_housekeeping(transaction, query_id)
        if reason:
            say_once(transaction, query_id, reason)
        return reason


def _set_status(access: Access, query_id: str, status: Status, error: str | None) -> None:
    with access.database.transaction(access.project) as transaction:
        set_query_status(transaction, query_id, status, error)
        found = one_query(transaction, query_id)
        if found.kind is QueryKind.TEST_CONNECTION and found.status.is_final:
            settle_candidate(transaction, found)
