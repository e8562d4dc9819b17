"""Executions: the documents that units are read from."""

from collections import OrderedDict
from threading import Lock

from sqlalchemy import select

from server.database import Transaction
from server.documents import DocumentKind, get_document, put_document
from server.errors import ApiError
from server.projects import Project
from server.schema import evaluations
from tcloud.wire.executions import Execution, Unit

__all__ = ["ExecutionDocuments", "put_execution", "unit_of"]

_KEPT_UNITS = 100_000
"""Of all kept executions together, two thirds of a kilobyte each; the one that is asked for is always kept."""


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
            while len(self._kept) > 1 and sum(len(kept.units) for kept in self._kept.values()) > _KEPT_UNITS:
                self._kept.popitem(last=False)
        return execution

    def forget(self, project: Project, execution_id: str) -> None:
        """Drops an execution that is being replaced."""
        with self._lock:
            self._kept.pop((project.namespace, execution_id), None)


def put_execution(transaction: Transaction, execution_id: str, body: bytes) -> None:
    """Keeps an execution; put again before its first unit starts, it replaces the first.

    Raises:
        ApiError: 422 if it is no execution of that id, 409 if a unit of it has started.
    """
    try:
        execution = Execution.model_validate_json(body)
    except ValueError as error:
        raise ApiError(422, "TM-EXECUTION", f"The execution document is not valid: {error}") from error
    if execution.execution_id != execution_id:
        raise ApiError(422, "TM-EXECUTION", f"The document is of execution '{execution.execution_id}'.")
    started = transaction.connection.execute(
        select(evaluations.c.evaluation_id)
        .where(evaluations.c.project == transaction.project.namespace, evaluations.c.execution_id == execution_id)
        .limit(1)
    ).first()
    if started is not None:
        raise ApiError(409, "TM-EXECUTION", f"Execution '{execution_id}' has begun: its units cannot change any more.")
    put_document(transaction, DocumentKind.EXECUTION, execution_id, body)


def unit_of(execution: Execution, number: int) -> Unit:
    """A unit by its number.

    Raises:
        ApiError: 422 if there is none.
    """
    if 0 <= number < len(execution.units):
        return execution.units[number]
    raise ApiError(
        422, "TM-UNIT", f"Execution '{execution.execution_id}' has no unit {number}, only {len(execution.units)}."
    )
