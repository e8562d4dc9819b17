"""Promotion that may be repeated: an executor that lost the answer asks again."""

import orjson

from server.database import Transaction
from server.documents import DocumentKind, find_document, put_document
from tempomesh_runner.state_answers import answer

__all__ = ["promote"]


def promote(transaction: Transaction, body: bytes) -> bytes:
    """Applies the state contract's `promote`, or gives the answer again if this very plan was promoted already.

    SQLMesh refuses to promote twice (`ConflictingPlanError`), because it cannot tell a repetition from a rival plan;
    the plan's id tells. The answer says which views to create and to drop, so it has to be the first one's.

    Raises:
        SQLMeshError: As raised by SQLMesh itself.
    """
    wanted = orjson.loads(body)["environment"]
    name, plan_id = str(wanted["name"]), str(wanted["plan_id"])
    document_id = f"{name}.{plan_id}"
    existing = transaction.state.environment_state.get_environment(name, lock_for_update=True)
    if existing is not None and existing.plan_id == plan_id:
        given = find_document(transaction, DocumentKind.PROMOTION, document_id)
        if given is not None:
            return given
    answered = answer(transaction.state, "promote", body)
    put_document(transaction, DocumentKind.PROMOTION, document_id, answered)
    return answered
