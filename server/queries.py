"""Questions to warehouses: kept until they are answered, with who asked; and the housekeeping that shares their way."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.documents import DocumentKind, put_document
from server.errors import ApiError
from server.executors import check_gateway
from server.schema import documents, event_streams, events, queries
from tcloud.wire.queries import Query, QueryRequest
from tcloud.wire.statuses import Status

__all__ = [
    "accept_query",
    "expire_queries",
    "forget_documents",
    "forget_query",
    "one_query",
    "set_query_status",
    "store_query",
]

_DOCUMENTS = (DocumentKind.QUESTION.value, DocumentKind.ANSWER.value)
_KEPT = timedelta(hours=1)
"""How long an answer waits for whoever asked; they usually read it within a second, and have it thrown away."""


def accept_query(transaction: Transaction, request: QueryRequest, question: bytes, created_by: str) -> bool:
    """Stores a question that is to be answered; False if it is stored already.

    Raises:
        ApiError: 422 if no executor serves its gateway.
    """
    check_gateway(transaction, request.gateway)
    return store_query(transaction, request, question, created_by)


def store_query(transaction: Transaction, request: QueryRequest, question: bytes, created_by: str) -> bool:
    """Stores a question to whichever executor takes it up; False if it is stored already."""
    statement = insert(queries).values(
        project=transaction.project.namespace,
        query_id=request.query_id,
        kind=request.kind.value,
        status=Status.SCHEDULED.value,
        created_by=created_by,
    )
    stored = transaction.connection.execute(statement.on_conflict_do_nothing().returning(queries.c.query_id)).first()
    if stored is None:
        return False
    put_document(transaction, DocumentKind.QUESTION, request.query_id, question)
    return True


def forget_query(transaction: Transaction, query_id: str) -> None:
    """Removes a question that was never put to anybody."""
    forget_documents(transaction, query_id)
    transaction.connection.execute(
        delete(queries).where(
            queries.c.project == transaction.project.namespace,
            queries.c.query_id == query_id,
            queries.c.status == Status.SCHEDULED.value,
        )
    )


def forget_documents(transaction: Transaction, query_id: str) -> None:
    """Throws away what was asked and answered; who asked stays on record."""
    transaction.connection.execute(
        delete(documents).where(
            documents.c.project == transaction.project.namespace,
            documents.c.kind.in_(_DOCUMENTS),
            documents.c.document_id == query_id,
        )
    )


def one_query(transaction: Transaction, query_id: str) -> Query:
    """One query.

    Raises:
        ApiError: 404 if there is none.
    """
    row = transaction.connection.execute(
        select(queries).where(queries.c.project == transaction.project.namespace, queries.c.query_id == query_id)
    ).first()
    if row is None:
        raise ApiError(404, "TM-QUERY", f"There is no query '{query_id}' in {transaction.project.namespace}.")
    return Query.model_validate(dict(row._mapping))


def set_query_status(transaction: Transaction, query_id: str, status: Status, error: str | None) -> None:
    """Records how a query stands; one that is over stays as it is.

    Raises:
        ApiError: 404 if there is no such query, 409 if it is to begin but is over.
    """
    was = one_query(transaction, query_id).status
    if was.is_final:
        if status.is_final:
            return
        raise ApiError(409, "TM-OVER", f"Query '{query_id}' is over ({was}): it is not answered any more.")
    now = datetime.now(UTC)
    transaction.connection.execute(
        update(queries)
        .where(queries.c.project == transaction.project.namespace, queries.c.query_id == query_id)
        .values(
            status=status.value,
            start_at=func.coalesce(queries.c.start_at, now),
            end_at=now if status.is_final else None,
            error_message=error,
        )
    )


def expire_queries(transaction: Transaction, age: timedelta | None) -> None:
    """Throws away answers that nobody has read, and the records of queries that are older than `age`, if there is one.

    A query that its workflow never ended has expired with its answer.
    """
    project = transaction.project.namespace
    transaction.connection.execute(
        delete(documents).where(
            documents.c.project == project,
            documents.c.kind == DocumentKind.ANSWER.value,
            documents.c.created_at < func.now() - _KEPT,
        )
    )
    over = select(queries.c.query_id).where(queries.c.project == project, queries.c.end_at < func.now() - _KEPT)
    transaction.connection.execute(
        delete(documents).where(
            documents.c.project == project,
            documents.c.kind == DocumentKind.QUESTION.value,
            documents.c.document_id.in_(over),
        )
    )
    if age is None:
        return
    old = select(queries.c.query_id).where(
        queries.c.project == project,
        or_(queries.c.end_at < func.now() - age, queries.c.created_at < func.now() - 2 * age),
    )
    for table in (events, event_streams):
        transaction.connection.execute(delete(table).where(table.c.project == project, table.c.owner_id.in_(old)))
    transaction.connection.execute(
        delete(queries).where(queries.c.project == project, queries.c.query_id.in_(old.scalar_subquery()))
    )
