"""Evaluations over all runs and plans: the history of a model, and the log of each."""

from typing import Annotated

from fastapi import APIRouter, Query

from server.api.dependencies import SeesRecord
from server.evaluations import history_of, one_evaluation
from tcloud.wire.runs import Evaluation

__all__ = ["router"]

router = APIRouter(tags=["evaluations"])

Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/evaluations", summary="A model's evaluations over all runs and plans, newest first")
def evaluations(
    access: SeesRecord, model: str, environment: str | None = None, before: str | None = None, limit: Limit = 50
) -> list[Evaluation]:
    """Without their logs. `before` is the id of the last evaluation of a page: the next page has those that are older.

    404 also if nobody knows of such a model (`TM-MODEL`), or there is no evaluation `before` (`TM-EVALUATION`).
    """
    access.see(environment)
    with access.database.transaction(access.project) as transaction:
        return history_of(transaction, model, environment, before, limit, within=access.visible)


@router.get("/evaluations/{evaluation_id}", summary="One evaluation with its log")
def evaluation(evaluation_id: str, access: SeesRecord) -> Evaluation:
    with access.database.transaction(access.project) as transaction:
        found = one_evaluation(transaction, evaluation_id)
    access.see(found.environment)
    return found
