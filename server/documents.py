"""Immutable JSON documents, kept compressed: plans, their stages, executions, promotions."""

from enum import StrEnum

import zstandard
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from server.database import Transaction
from server.errors import ApiError
from server.schema import documents

__all__ = ["DocumentKind", "find_document", "get_document", "put_document", "put_first"]


class DocumentKind(StrEnum):
    """What a document is."""

    PLAN = "plan"
    STAGE = "stage"
    EXECUTION = "execution"
    OUTCOME = "outcome"
    """How an execution ended."""
    QUESTION = "question"
    """What a query asks."""
    ANSWER = "answer"
    """What a query was answered; thrown away once it was read."""
    UNSCHEDULED = "unscheduled"
    """Which crons of an environment Temporal does not take."""
    PROMOTION = "promotion"
    """What SQLMesh answered to a plan's promotion of its environment."""
    PYTHON = "python"
    """A pinned set of Python packages."""
    PYTHON_REQUEST = "python_request"
    """Which set a request was resolved to."""
    PYTHON_MODULES = "python_modules"
    """What the packages of a set are imported as."""


def put_document(transaction: Transaction, kind: DocumentKind, document_id: str, body: bytes) -> None:
    """Keeps a document; one that is put again replaces the first."""
    packed = zstandard.ZstdCompressor().compress(body)
    statement = insert(documents).values(
        project=transaction.project.namespace, kind=kind.value, document_id=document_id, body=packed
    )
    transaction.connection.execute(
        statement.on_conflict_do_update(index_elements=["project", "kind", "document_id"], set_={"body": packed})
    )


def put_first(transaction: Transaction, kind: DocumentKind, document_id: str, body: bytes) -> bool:
    """Keeps a document unless there is one already; says whether it was the first."""
    statement = insert(documents).values(
        project=transaction.project.namespace,
        kind=kind.value,
        document_id=document_id,
        body=zstandard.ZstdCompressor().compress(body),
    )
    stored = transaction.connection.execute(statement.on_conflict_do_nothing().returning(documents.c.document_id))
    return stored.first() is not None


def get_document(transaction: Transaction, kind: DocumentKind, document_id: str) -> bytes:
    """Returns a document.

    Raises:
        ApiError: 404 if there is none.
    """
    body = find_document(transaction, kind, document_id)
    if body is None:
        raise ApiError(404, "TM-DOCUMENT", f"There is no {kind.value} '{document_id}'.")
    return body


def find_document(transaction: Transaction, kind: DocumentKind, document_id: str) -> bytes | None:
    """Returns a document, None if there is none."""
    body = transaction.connection.execute(
        select(documents.c.body).where(
            documents.c.project == transaction.project.namespace,
            documents.c.kind == kind.value,
            documents.c.document_id == document_id,
        )
    ).scalar()
    return None if body is None else zstandard.ZstdDecompressor().decompress(body)
