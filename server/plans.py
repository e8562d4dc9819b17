"""Plans: accepted once, applied by Temporal, recorded here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Annotated

import orjson
from pydantic import BaseModel, StringConstraints, ValidationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmesh.core.environment import Environment

from server.database import Transaction
from server.documents import DocumentKind, put_document
from server.errors import ApiError
from server.executors import check_gateway
from server.owners import close_owner
from server.permissions import ANYWHERE, Globs
from server.schema import documents, plan_stages, plans
from tcloud.wire.plans import Plan, PlanStage
from tcloud.wire.policies import EvaluationPolicy
from tcloud.wire.statuses import Status

__all__ = [
    "StageDocuments",
    "StageName",
    "Submission",
    "abort_waiting_plan",
    "accept_plan",
    "forget_plan",
    "one_plan",
    "plans_of",
    "put_stages",
    "read_submission",
    "set_plan_status",
    "set_stage_status",
    "waiting_plans",
]

_PLAN_ID = r"^[A-Za-z0-9_-]{1,100}$"
_OPEN = (Status.SCHEDULED.value, Status.IN_PROGRESS.value)


@dataclass(frozen=True)
class Submission:
    """What the server reads of an `EvaluatablePlan`; the rest is for the executors."""

    plan_id: str
    environment: str
    previous_plan_id: str | None
    requirements: dict[str, str] = field(default_factory=dict)
    """The Python packages that the environment asks for."""


class _Target(BaseModel):
    name: str
    plan_id: Annotated[str, StringConstraints(pattern=_PLAN_ID)]
    previous_plan_id: str | None = None
    requirements: dict[str, str] = {}


class _Body(BaseModel):
    """As much of a plan's JSON as the server needs: of its thousands of snapshots no objects are made."""

    environment: _Target


class StageName(BaseModel):
    """A stage of SQLMesh's `build_plan_stages`."""

    index: int
    name: str
    count: int | None = None


class StageDocuments(BaseModel):
    """The stages of a plan and, in the same order, what an executor has to know to apply each."""

    stages: list[StageName]
    documents: list[object]


def read_submission(body: bytes) -> Submission:
    """Reads the ids out of a plan's JSON.

    Raises:
        ApiError: 422 if it is no `EvaluatablePlan`.
    """
    try:
        environment = _Body.model_validate_json(body).environment
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ApiError(
            422,
            "TM-PLAN",
            f"The body is not a plan as SQLMesh serializes it ({where}: {first['msg']}): submit it with "
            "`tcloud sqlmesh`.",
        ) from error
    return Submission(
        plan_id=environment.plan_id,
        # SQLMesh's own normalization: an environment has one name, however it was typed.
        environment=Environment.sanitize_name(environment.name),
        previous_plan_id=environment.previous_plan_id,
        requirements=environment.requirements,
    )


def accept_plan(
    transaction: Transaction,
    submission: Submission,
    body: bytes,
    *,
    gateway: str,
    default_catalog: str | None,
    evaluation_policy: EvaluationPolicy | None = None,
    python_version: str | None = None,
    sqlmesh_version: str,
    created_by: str,
) -> bool:
    """Stores a plan that is to be applied; False if it is stored already.

    Raises:
        ApiError: 409 if the plan was made with another SQLMesh, or its environment has changed since; 422 if no
            executor serves the gateway.
    """
    if _exists(transaction, submission.plan_id):
        return False
    own_version = version("sqlmesh")
    if sqlmesh_version != own_version:
        raise ApiError(
            409,
            "TM-VERSION",
            f"The plan was made with SQLMesh {sqlmesh_version}, this project runs {own_version}: "
            f"run `pip install sqlmesh=={own_version}` and plan again.",
        )
    check_gateway(transaction, gateway)
    _check_environment(transaction, submission)
    statement = insert(plans).values(
        project=transaction.project.namespace,
        plan_id=submission.plan_id,
        environment=submission.environment,
        previous_plan_id=submission.previous_plan_id,
        status=Status.SCHEDULED.value,
        created_by=created_by,
        gateway=gateway,
        default_catalog=default_catalog,
        evaluation_policy=evaluation_policy.model_dump(mode="json", exclude_none=True) if evaluation_policy else None,
        requirements=submission.requirements,
        python_version=python_version,
    )
    stored = transaction.connection.execute(statement.on_conflict_do_nothing().returning(plans.c.plan_id)).first()
    if stored is None:
        return False
    put_document(transaction, DocumentKind.PLAN, submission.plan_id, body)
    return True


def forget_plan(transaction: Transaction, plan_id: str) -> None:
    """Removes a plan that never got into its environment's queue."""
    project = transaction.project.namespace
    transaction.connection.execute(
        delete(plans).where(
            plans.c.project == project, plans.c.plan_id == plan_id, plans.c.status == Status.SCHEDULED.value
        )
    )
    transaction.connection.execute(
        delete(documents).where(
            documents.c.project == project,
            documents.c.kind == DocumentKind.PLAN.value,
            documents.c.document_id == plan_id,
        )
    )


def abort_waiting_plan(transaction: Transaction, plan_id: str, reason: str) -> None:
    """Ends a plan whose turn has not come; one that is being applied, or over, stays as it is."""
    transaction.connection.execute(
        update(plans)
        .where(
            plans.c.project == transaction.project.namespace,
            plans.c.plan_id == plan_id,
            plans.c.status == Status.SCHEDULED.value,
        )
        .values(status=Status.ABORTED.value, end_at=datetime.now(UTC), error_message=reason)
    )


def one_plan(transaction: Transaction, plan_id: str) -> Plan:
    """One plan with its stages; its place in the queue is Temporal's to say.

    Raises:
        ApiError: 404 if there is none.
    """
    found = _read(transaction, plan_id=plan_id)
    if not found:
        raise _unknown(transaction, plan_id)
    return found[0]


def plans_of(transaction: Transaction, environment: str | None, limit: int, *, within: Globs = ANYWHERE) -> list[Plan]:
    """Plans with their stages, of these environments only, newest first."""
    return _read(transaction, environment=environment, within=within, limit=limit)


def waiting_plans(transaction: Transaction, older_than: timedelta) -> list[tuple[str, str]]:
    """Environment and id of the plans that have not begun for so long, in the order in which they came."""
    rows = transaction.connection.execute(
        select(plans.c.environment, plans.c.plan_id)
        .where(
            plans.c.project == transaction.project.namespace,
            plans.c.status == Status.SCHEDULED.value,
            plans.c.created_at <= func.now() - older_than,
        )
        .order_by(plans.c.created_at)
    )
    return [(row.environment, row.plan_id) for row in rows]


def put_stages(transaction: Transaction, plan_id: str, stages: StageDocuments) -> None:
    """Stores the stages of a plan; putting them again replaces them.

    Raises:
        ApiError: 404 if there is no such plan, 422 if there is not one document for each stage.
    """
    if not _exists(transaction, plan_id):
        raise _unknown(transaction, plan_id)
    if len(stages.stages) != len(stages.documents):
        raise ApiError(422, "TM-STAGES", f"Plan {plan_id}: each stage takes one document.")
    project = transaction.project.namespace
    transaction.connection.execute(
        delete(plan_stages).where(plan_stages.c.project == project, plan_stages.c.plan_id == plan_id)
    )
    for stage, document in zip(stages.stages, stages.documents, strict=True):
        transaction.connection.execute(
            insert(plan_stages).values(
                project=project,
                plan_id=plan_id,
                index=stage.index,
                name=stage.name,
                count=stage.count,
                status=Status.SCHEDULED.value,
            )
        )
        put_document(transaction, DocumentKind.STAGE, f"{plan_id}.{stage.index}", orjson.dumps(document))


def set_stage_status(transaction: Transaction, plan_id: str, index: int, status: Status, error: str | None) -> None:
    """Records how a stage stands; a stage that is over stays as it is.

    Raises:
        ApiError: 404 if there is no such stage.
    """
    stage = (
        plan_stages.c.project == transaction.project.namespace,
        plan_stages.c.plan_id == plan_id,
        plan_stages.c.index == index,
    )
    now = datetime.now(UTC)
    transaction.connection.execute(
        update(plan_stages)
        .where(*stage, plan_stages.c.status.in_(_OPEN))
        .values(
            status=status.value,
            start_at=func.coalesce(plan_stages.c.start_at, now),
            end_at=now if status.is_final else None,
            error_message=error,
        )
    )
    if transaction.connection.execute(select(plan_stages.c.index).where(*stage)).first() is None:
        raise ApiError(404, "TM-STAGE", f"Plan {plan_id} has no stage {index}.")


def set_plan_status(transaction: Transaction, plan_id: str, status: Status, error: str | None) -> None:
    """Records how a plan stands; a plan that is over stays as it is, and with it end its open stages.

    Raises:
        ApiError: 404 if there is no such plan; 409 if it is to begin but is over, or another plan has changed the
            environment while it waited: whoever applies it has to stop.
    """
    this = (plans.c.project == transaction.project.namespace, plans.c.plan_id == plan_id)
    found = transaction.connection.execute(
        select(plans.c.status, plans.c.environment, plans.c.previous_plan_id).where(*this).with_for_update()
    ).first()
    if found is None:
        raise _unknown(transaction, plan_id)
    was = found.status
    if Status(was).is_final:
        if status.is_final:
            return
        raise ApiError(409, "TM-OVER", f"Plan '{plan_id}' is over ({was}): it is not applied any more.")
    if status is Status.IN_PROGRESS:
        _check_environment(transaction, Submission(plan_id, found.environment, found.previous_plan_id))
    now = datetime.now(UTC)
    transaction.connection.execute(
        update(plans)
        .where(*this)
        .values(
            status=status.value,
            start_at=plans.c.start_at if status.is_final else func.coalesce(plans.c.start_at, now),
            end_at=now if status.is_final else None,
            error_message=error,
        )
    )
    if status.is_final:
        _close_stages(transaction, plan_id, status, now)
        close_owner(transaction, plan_id)


def _close_stages(transaction: Transaction, plan_id: str, status: Status, now: datetime) -> None:
    for was, becomes in ((Status.IN_PROGRESS, status), (Status.SCHEDULED, Status.SKIPPED)):
        transaction.connection.execute(
            update(plan_stages)
            .where(
                plan_stages.c.project == transaction.project.namespace,
                plan_stages.c.plan_id == plan_id,
                plan_stages.c.status == was.value,
            )
            .values(status=becomes.value, end_at=now)
        )


def _check_environment(transaction: Transaction, submission: Submission) -> None:
    existing = next((s for s in transaction.state.get_environments_summary() if s.name == submission.environment), None)
    if existing is None or existing.expired:
        return
    if existing.plan_id in (submission.previous_plan_id, submission.plan_id):
        return
    author = transaction.connection.execute(
        select(plans.c.created_by).where(
            plans.c.project == transaction.project.namespace, plans.c.plan_id == existing.plan_id
        )
    ).scalar()
    by_whom = f" by {author}" if author else ""
    # In the words of SQLMesh's ConflictingPlanError, which its users know.
    raise ApiError(
        409,
        "TM-CONFLICT",
        f"Another plan ({existing.plan_id}) was applied{by_whom} to the target environment "
        f"'{submission.environment}' while your current plan ({submission.plan_id}) was still in progress, "
        "interrupting it. Please re-apply your plan to resolve this error.",
        error_type="ConflictingPlanError",
    )


def _exists(transaction: Transaction, plan_id: str) -> bool:
    return (
        transaction.connection.execute(
            select(plans.c.plan_id).where(plans.c.project == transaction.project.namespace, plans.c.plan_id == plan_id)
        ).first()
        is not None
    )


def _unknown(transaction: Transaction, plan_id: str) -> ApiError:
    return ApiError(
        404, "TM-PLAN", f"There is no plan '{plan_id}' in {transaction.project.namespace}: see `tcloud plans list`."
    )


def _read(
    transaction: Transaction,
    *,
    plan_id: str | None = None,
    environment: str | None = None,
    within: Globs = ANYWHERE,
    limit: int = 1,
) -> list[Plan]:
    query = select(plans).where(plans.c.project == transaction.project.namespace, within.clause(plans.c.environment))
    if plan_id is not None:
        query = query.where(plans.c.plan_id == plan_id)
    if environment is not None:
        query = query.where(plans.c.environment == environment)
    rows = transaction.connection.execute(query.order_by(plans.c.created_at.desc()).limit(limit)).all()
    stages = _stages(transaction, [row.plan_id for row in rows])
    return [Plan.model_validate({**row._mapping, "stages": stages.get(row.plan_id, [])}) for row in rows]


def _stages(transaction: Transaction, plan_ids: Sequence[str]) -> dict[str, list[PlanStage]]:
    rows = transaction.connection.execute(
        select(plan_stages)
        .where(plan_stages.c.project == transaction.project.namespace, plan_stages.c.plan_id.in_(plan_ids))
        .order_by(plan_stages.c.index)
    )
    found: dict[str, list[PlanStage]] = {}
    for row in rows:
        found.setdefault(row.plan_id, []).append(PlanStage.model_validate(dict(row._mapping)))
    return found
