"""Evaluations: those of a plan or a run, and those of a model over all plans and runs."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_

from server.database import Transaction
from server.errors import ApiError
from server.model_names import fully_qualified, recorded
from server.permissions import ANYWHERE, Globs
from server.schema import evaluations, plans, runs
from tcloud.wire.executions import OwnerKind
from tcloud.wire.runs import Evaluation
from tcloud.wire.statuses import Status

__all__ = ["EvaluationFilter", "evaluations_of", "found_evaluations", "history_of", "one_evaluation"]

_IS_LOST = (evaluations.c.lease_expires_at < func.now()).label("is_lost")
_WHEN = func.coalesce(evaluations.c.start_at, evaluations.c.end_at)
"""What a history is ordered by: an evaluation that was left out never started, and ended when that was decided."""

_HEAVY = ("log", "cause")


@dataclass(frozen=True)
class EvaluationFilter:
    """Which evaluations are meant; None is all of them."""

    run_id: str | None = None
    plan_id: str | None = None
    environment: str | None = None
    model: str | None = None
    is_latest: bool = False
    """Only the newest one of each model."""
    within: Globs = ANYWHERE
    """Only those of these environments."""


def evaluations_of(
    transaction: Transaction, kind: OwnerKind, owner_id: str, *, is_over: bool, model: str | None = None
) -> list[Evaluation]:
    """The evaluations of a plan or run in the order in which they started, those that never did last.

    Args:
        transaction: An open transaction.
        kind: Whether the owner is a plan or a run.
        owner_id: Its id.
        is_over: Whether it has ended: what its executor left in the middle then counts as aborted.
        model: The name of the only model to be listed.

    Raises:
        ApiError: 422 if `model` is no name of a model.
    """
    query = select(evaluations, _IS_LOST).where(
        evaluations.c.project == transaction.project.namespace, evaluations.c.owner_id == owner_id
    )
    if model is not None:
        query = query.where(evaluations.c.model.in_(fully_qualified(transaction, model)))
    rows = transaction.connection.execute(
        query.order_by(evaluations.c.start_at.nulls_last(), evaluations.c.execution_id, evaluations.c.unit)
    )
    return [_evaluation(row, kind, is_over=is_over) for row in rows]


def one_evaluation(transaction: Transaction, evaluation_id: str) -> Evaluation:
    """One evaluation with its log.

    Raises:
        ApiError: 404 if there is none.
    """
    query = _with_owner(select(evaluations, _IS_LOST)).where(
        evaluations.c.project == transaction.project.namespace, evaluations.c.evaluation_id == evaluation_id
    )
    row = transaction.connection.execute(query).first()
    if row is None:
        raise _unknown(transaction, evaluation_id)
    return _owned(row)


def found_evaluations(
    transaction: Transaction, wanted: EvaluationFilter, *, newest_first: bool, limit: int
) -> list[Evaluation]:
    """Evaluations of runs and plans with their logs: the first `limit` of them in the order that is asked for.

    Raises:
        ApiError: 422 if `model` is no name of a model.
    """
    query = _with_owner(select(evaluations, _IS_LOST)).where(evaluations.c.project == transaction.project.namespace)
    if wanted.run_id is not None:
        query = query.where(evaluations.c.owner_kind == OwnerKind.RUN.value, evaluations.c.owner_id == wanted.run_id)
    if wanted.plan_id is not None:
        query = query.where(evaluations.c.owner_kind == OwnerKind.PLAN.value, evaluations.c.owner_id == wanted.plan_id)
    if not wanted.within.are_all:
        query = query.where(wanted.within.clause(_environment()))
    if wanted.environment is not None:
        query = query.where(_environment() == wanted.environment)
    if wanted.model is not None:
        query = query.where(evaluations.c.model.in_(fully_qualified(transaction, wanted.model)))
    order = (_WHEN, evaluations.c.evaluation_id)
    if wanted.is_latest:
        newest = query.distinct(evaluations.c.model).order_by(evaluations.c.model, *(column.desc() for column in order))
        query = _with_owner(select(evaluations, _IS_LOST)).where(
            evaluations.c.project == transaction.project.namespace,
            evaluations.c.evaluation_id.in_(select(newest.subquery().c.evaluation_id)),
        )
    query = query.order_by(*(column.desc() if newest_first else column.asc() for column in order))
    return [_owned(row) for row in transaction.connection.execute(query.limit(limit))]


def history_of(
    transaction: Transaction,
    model: str,
    environment: str | None,
    before: str | None,
    limit: int,
    *,
    within: Globs = ANYWHERE,
) -> list[Evaluation]:
    """A model's evaluations over all runs and plans, newest first, without their logs.

    Args:
        transaction: An open transaction.
        model: The model's name.
        environment: The only environment to be listed.
        before: The id of an evaluation: only older ones are listed.
        limit: How many at most.
        within: Only evaluations in these environments are listed.

    Raises:
        ApiError: 404 if nobody knows of such a model or of the evaluation `before`, 422 if it is no name of a model.
    """
    project = transaction.project.namespace
    candidates = fully_qualified(transaction, model)
    names = recorded(transaction, candidates)
    if not names and not _is_promoted(transaction, candidates):
        raise ApiError(
            404,
            "TM-MODEL",
            f"There is no model '{model}' in {project}: neither an environment nor a record has it. "
            "Write it as in `schema.model`.",
        )
    light = [column for column in evaluations.c if column.name not in _HEAVY]
    query = _with_owner(select(*light, _IS_LOST)).where(
        evaluations.c.project == project, evaluations.c.model.in_(names)
    )
    if not within.are_all:
        query = query.where(within.clause(_environment()))
    if environment is not None:
        query = query.where(_environment() == environment)
    if before is not None:
        query = query.where(tuple_(_WHEN, evaluations.c.evaluation_id) < _place(transaction, before))
    rows = transaction.connection.execute(
        query.order_by(_WHEN.desc(), evaluations.c.evaluation_id.desc()).limit(limit)
    ).all()
    return [_owned(row) for row in rows]


def _with_owner(query: Select[Any]) -> Select[Any]:
    is_runs = and_(
        evaluations.c.owner_kind == OwnerKind.RUN.value,
        runs.c.project == evaluations.c.project,
        runs.c.run_id == evaluations.c.owner_id,
    )
    is_plans = and_(
        evaluations.c.owner_kind == OwnerKind.PLAN.value,
        plans.c.project == evaluations.c.project,
        plans.c.plan_id == evaluations.c.owner_id,
    )
    return query.add_columns(
        _environment().label("environment"), func.coalesce(runs.c.status, plans.c.status).label("owner_status")
    ).select_from(evaluations.outerjoin(runs, is_runs).outerjoin(plans, is_plans))


def _environment() -> ColumnElement[Any]:
    return func.coalesce(runs.c.environment, plans.c.environment)


def _place(transaction: Transaction, evaluation_id: str) -> ColumnElement[Any]:
    row = transaction.connection.execute(
        select(_WHEN.label("when")).where(
            evaluations.c.project == transaction.project.namespace, evaluations.c.evaluation_id == evaluation_id
        )
    ).first()
    if row is None:
        raise _unknown(transaction, evaluation_id)
    return tuple_(row.when, evaluation_id)


def _is_promoted(transaction: Transaction, names: list[str]) -> bool:
    return any(
        snapshot.name in names
        for environment in transaction.state.get_environments()
        for snapshot in environment.snapshots
    )


def _unknown(transaction: Transaction, evaluation_id: str) -> ApiError:
    return ApiError(
        404,
        "TM-EVALUATION",
        f"There is no evaluation '{evaluation_id}' in {transaction.project.namespace}: `tcloud runs show` and "
        "`tcloud models history` list them.",
    )


def _owned(row: Row[Any]) -> Evaluation:
    is_over = row.owner_status is not None and Status(row.owner_status).is_final
    return _evaluation(row, OwnerKind(row.owner_kind), is_over=is_over)


def _evaluation(row: Row[Any], kind: OwnerKind, *, is_over: bool) -> Evaluation:
    found = dict(row._mapping)
    if is_over and row.is_lost:
        # Its executor went away in the middle, and nobody takes it up again.
        found["status"] = Status.ABORTED.value
        found["error_message"] = f"Executor {row.executor} was lost in the middle of it."
    return Evaluation.model_validate(
        {
            **found,
            f"{kind}_id": row.owner_id,
            "interval_start": _time(row.interval_start),
            "interval_end": _time(row.interval_end),
        }
    )


def _time(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
