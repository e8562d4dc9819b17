"""Questions to warehouses and the janitor: ask, follow, read the answer; and what executors and workers say of them."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from server.access import Access, Within, require
from server.api.answers import json_body, problems
from server.api.dependencies import ExecutorOnly, Settings, Temporal, WorkerOnly
from server.audit_log import add_entry
from server.connections import settle_candidate
from server.database import Transaction
from server.documents import DocumentKind, get_document, put_document
from server.errors import ApiError
from server.events import say_once
from server.housekeeping import begin_housekeeping
from server.queries import accept_query, forget_documents, forget_query, one_query, set_query_status
from tcloud.wire.grants import Action
from tcloud.wire.queries import Query, QueryKind, QueryRequest
from tcloud.wire.statuses import Status

__all__ = ["check_asker", "router"]

router = APIRouter(tags=["queries"])


def _asks(doing: str) -> Callable[..., Awaitable[Access]]:
    """What it takes depends on what is asked."""
    return require(Action.QUERY, Action.PLAN, Action.MANAGE, within=Within.RECORD, doing=doing)


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
async def submit(
    request: QueryRequest,
    access: Annotated[Access, Depends(_asks("query.submit"))],
    temporal: Temporal,
    settings: Settings,
) -> Query:
    """An apply executor answers. It takes `query` in the whole project, because a statement may read anything that the
    executor may; the janitor `plan` in the whole project, or in the one environment that it cleans up; to destroy a
    project takes `manage`."""
    if request.kind is QueryKind.TEST_CONNECTION:
        raise ApiError(422, "TM-REQUEST", "Connections are tested by `POST connections/{gateway}/test`.")
    if request.kind.is_housekeeping:
        access = replace(access, doing=f"janitor.{request.kind.value}")
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
def query(query_id: str, access: Annotated[Access, Depends(_asks("query.show"))]) -> Query:
    """For whoever asked, and for those who manage the project; the janitor's for all who may plan or query."""
    return _shown(access, query_id)


@router.get(
    "/queries/{query_id}/answer", summary="The answer", response_class=JSONResponse, response_model=dict[str, Any]
)
def answer(query_id: str, access: Annotated[Access, Depends(_asks("query.answer"))]) -> Response:
    """Only for whoever asked."""
    with access.database.transaction(access.project) as transaction:
        _check_own(one_query(transaction, query_id), access)
        return Response(get_document(transaction, DocumentKind.ANSWER, query_id), media_type="application/json")


@router.delete("/queries/{query_id}", status_code=204, summary="Throw away what was asked and answered")
def forget(query_id: str, access: Annotated[Access, Depends(_asks("query.forget"))]) -> None:
    with access.database.transaction(access.project) as transaction:
        _check_own(one_query(transaction, query_id), access)
        forget_documents(transaction, query_id)


@router.post("/queries/{query_id}/cancel", summary="Stop a query")
async def cancel(query_id: str, access: Annotated[Access, Depends(_asks("query.cancel"))], temporal: Temporal) -> Query:
    """What it runs in the warehouse is cancelled there. Somebody else's takes `manage`, the janitor's work `plan`."""
    found = await run_in_threadpool(_shown, access, query_id)
    if found.kind.is_housekeeping and found.created_by != access.identity_id:
        access.everywhere(Action.PLAN, why="the janitor's work")
    if found.status.is_final:
        return found
    await run_in_threadpool(_audit, access, found)
    if not await temporal.cancel_query(access.project, found):
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


def check_asker(access: Access, query_id: str, asker: str) -> None:
    """Checks that the caller asked a query, or manages the project.

    Raises:
        ApiError: 403 if neither.
    """
    if access.machine is None and access.identity_id != asker:
        access.everywhere(Action.MANAGE, why=f"query '{query_id}' was asked by {asker}: to see it")


def _check(transaction: Transaction, request: QueryRequest, access: Access) -> None:
    environment = request.arguments.get("environment")
    match request.kind:
        case QueryKind.DESTROY:
            access.everywhere(Action.MANAGE, why="to destroy the project")
        case QueryKind.CLEANUP if isinstance(environment, str):
            access.check(transaction, Action.PLAN, environment)
        case QueryKind.JANITOR | QueryKind.CLEANUP:
            access.everywhere(Action.PLAN, why="the janitor's work")
        case _:
            access.everywhere(Action.QUERY, why="a statement may read anything that the executor may: it")


def _check_own(found: Query, access: Access) -> None:
    if found.created_by != access.identity_id:
        raise access.not_theirs(f"query '{found.query_id}' was asked by {found.created_by}, and its answer is theirs")


def _shown(access: Access, query_id: str) -> Query:
    found = _one(access, query_id)
    if not found.kind.is_housekeeping:
        check_asker(access, query_id, found.created_by)
    return found


def _audit(access: Access, found: Query) -> None:
    with access.database.transaction(access.project) as transaction:
        details = {"query_id": found.query_id, "kind": found.kind.value}
        add_entry(transaction, access.identity_id, access.doing, access.project.namespace, details)


def _accept(access: Access, request: QueryRequest, question: bytes) -> bool:
    with access.database.transaction(access.project) as transaction:
        _check(transaction, request, access)
        is_new = accept_query(transaction, request, question, access.identity_id)
        if is_new:
            details = {"query_id": request.query_id, "kind": request.kind.value, "gateway": request.gateway}
            add_entry(transaction, access.identity_id, access.doing, access.project.namespace, details)
        return is_new


def _forget(access: Access, query_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        forget_query(transaction, query_id)
        details = {"query_id": query_id, "why": "Temporal did not take it."}
        add_entry(transaction, access.identity_id, "query.forget", access.project.namespace, details)


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
