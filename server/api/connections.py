"""The vault: connections of gateways, tested by an executor before they are kept."""

import json
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from pydantic import SecretStr

from server.access import Access, require
from server.api.answers import problems
from server.api.dependencies import Anyone, Connections, ExecutorOnly, Scheduled, Temporal
from server.audit_log import add_entry
from server.connection_checks import check_name, check_not_brought, scheduled_with
from server.connections import IS_CANDIDATE, Vault, all_connections, delete_connection, forget_candidate, one_connection
from server.database import Transaction
from server.documents import DocumentKind, get_document
from server.errors import ApiError
from server.queries import forget_query, one_query, store_query
from server.temporal import TemporalGateway
from tcloud.wire.connections import (
    Connection,
    ConnectionRequest,
    ConnectionTestRequest,
    SealedConnection,
    SealedConnections,
)
from tcloud.wire.grants import Action
from tcloud.wire.queries import Query, QueryKind, QueryRequest
from tcloud.wire.statuses import Status

__all__ = ["router"]

router = APIRouter(tags=["connections"])
_log = structlog.get_logger(__name__)


@router.get("/connections", summary="The connections of the vault, without what is in them")
def connections(access: Anyone) -> list[Connection]:
    with access.database.transaction(access.project) as transaction:
        return all_connections(transaction)


@router.get("/connections/{gateway}", summary="The connection of a gateway, without what is in it")
def connection(gateway: str, access: Anyone) -> Connection:
    with access.database.transaction(access.project) as transaction:
        return one_connection(transaction, gateway.lower())


@router.put(
    "/connections/{gateway}",
    status_code=201,
    summary="Have a connection tested, and kept if the test succeeds",
    responses=problems(s409="An executor brings the connection of this gateway itself (`TM-CONNECTION`)."),
)
async def put(
    gateway: str,
    request: ConnectionRequest,
    access: Annotated[Access, Depends(require(Action.MANAGE, doing="connection.add"))],
    vault: Connections,
    temporal: Temporal,
) -> Query:
    """It takes the place of the gateway's connection when the query that is answered here has succeeded."""
    options = _options(request.connection)
    name = gateway.lower()
    is_new = await run_in_threadpool(_accept, access, vault, name, request, options)
    return await _started(access, temporal, request.query_id, name, is_new=is_new)


@router.post("/connections/{gateway}/test", status_code=201, summary="Have the connection of a gateway tested")
async def test(
    gateway: str,
    request: ConnectionTestRequest,
    access: Annotated[Access, Depends(require(Action.MANAGE, doing="connection.test"))],
    temporal: Temporal,
) -> Query:
    name = gateway.lower()
    is_new = await run_in_threadpool(_accept_test, access, name, request)
    return await _started(access, temporal, request.query_id, name, is_new=is_new)


@router.delete(
    "/connections/{gateway}",
    summary="Delete the connection of a gateway",
    responses=problems(s409="Scheduled environments have models of this gateway (`TM-CONNECTION`)."),
)
def delete(
    gateway: str,
    access: Annotated[Access, Depends(require(Action.MANAGE, doing="connection.delete"))],
    scheduled: Scheduled,
    force: bool = False,
) -> Connection:
    """With `force` also while scheduled environments have models of it, which then fail."""
    with access.database.transaction(access.project) as transaction:
        found = one_connection(transaction, gateway.lower())
        environments = scheduled_with(transaction, scheduled, found.gateway)
        if environments and not force:
            raise ApiError(
                409,
                "TM-CONNECTION",
                f"Scheduled environments have models of gateway '{found.gateway}': {', '.join(environments)}. Their "
                "runs would fail; delete it all the same with `--force`.",
            )
        delete_connection(transaction, found.gateway)
        details = {"type": found.type, "scheduled_environments": environments}
        add_entry(transaction, access.identity_id, access.doing, found.gateway, details)
    _log.info("connection_deleted", by=access.identity_id, gateway=found.gateway)
    return found


@router.get("/sealed-connections", summary="All connections of the vault, for executors, which open them")
def sealed_connections(access: ExecutorOnly, vault: Connections) -> SealedConnections:
    with access.database.transaction(access.project) as transaction:
        return vault.all_sealed(transaction)


@router.get(
    "/queries/{query_id}/connection",
    summary="The connection that a query is to test, for executors",
    responses=problems(s409="The query is over (`TM-OVER`); the connection cannot be unsealed (`TM-CONNECTION`)."),
)
def connection_to_test(query_id: str, access: ExecutorOnly, vault: Connections) -> SealedConnection:
    with access.database.transaction(access.project) as transaction:
        found = one_query(transaction, query_id)
        if found.kind is not QueryKind.TEST_CONNECTION or found.status.is_final:
            raise ApiError(409, "TM-OVER", f"Query '{query_id}' tests no connection, or is over.")
        return vault.to_test(transaction, _question(transaction, query_id))


async def _started(access: Access, temporal: TemporalGateway, query_id: str, gateway: str, *, is_new: bool) -> Query:
    query = await run_in_threadpool(_one, access, query_id)
    if query.kind is not QueryKind.TEST_CONNECTION:
        raise ApiError(409, "TM-CONNECTION", f"'{query_id}' is the id of another query: make a new one.")
    if query.status is not Status.SCHEDULED:
        return query
    try:
        await temporal.start_query(access.project, query)
    except ApiError:
        if is_new:
            await run_in_threadpool(_forget, access, query_id)
        raise
    if is_new:
        await run_in_threadpool(_audit_test, access, query_id, gateway)
        _log.info("connection_test_started", by=access.identity_id, query_id=query_id, gateway=gateway)
    return query


def _options(given: SecretStr) -> dict[str, Any]:
    try:
        options = json.loads(given.get_secret_value())
    except ValueError:
        options = None
    if not isinstance(options, dict) or not isinstance(options.get("type"), str):
        raise ApiError(422, "TM-CONNECTION", "connection: it is no JSON object with a `type`.")
    return options


def _accept(access: Access, vault: Vault, gateway: str, request: ConnectionRequest, options: dict[str, Any]) -> bool:
    with access.database.transaction(access.project) as transaction:
        check_name(transaction, gateway, request.project_gateways)
        check_not_brought(transaction, gateway)
        is_new = _ask(transaction, access, gateway, request.query_id, is_candidate=True)
        if is_new:
            vault.put_candidate(transaction, request.query_id, gateway, options)
        return is_new


def _accept_test(access: Access, gateway: str, request: ConnectionTestRequest) -> bool:
    with access.database.transaction(access.project) as transaction:
        one_connection(transaction, gateway)
        return _ask(transaction, access, gateway, request.query_id, is_candidate=False)


def _ask(transaction: Transaction, access: Access, gateway: str, query_id: str, *, is_candidate: bool) -> bool:
    arguments = {IS_CANDIDATE: is_candidate}
    asked = QueryRequest(query_id=query_id, kind=QueryKind.TEST_CONNECTION, gateway=gateway, arguments=arguments)
    return store_query(transaction, asked, asked.model_dump_json().encode(), access.identity_id)


def _question(transaction: Transaction, query_id: str) -> QueryRequest:
    return QueryRequest.model_validate_json(get_document(transaction, DocumentKind.QUESTION, query_id))


def _audit_test(access: Access, query_id: str, gateway: str) -> None:
    with access.database.transaction(access.project) as transaction:
        add_entry(transaction, access.identity_id, "connection.test", gateway, {"query_id": query_id})


def _forget(access: Access, query_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        forget_candidate(transaction, query_id)
        forget_query(transaction, query_id)


def _one(access: Access, query_id: str) -> Query:
    with access.database.transaction(access.project) as transaction:
        return one_query(transaction, query_id)
