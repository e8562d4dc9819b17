"""Plans: submit, watch, cancel; and what executors and workers say of them."""

from collections.abc import Iterable
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from server.access import Access, Within, require
from server.api.answers import json_body as _json_body
from server.api.answers import problems
from server.api.dependencies import ExecutorOnly, Machine, SeesRecord, Temporal, WorkerOnly
from server.audit_log import add_entry
from server.database import Transaction
from server.documents import DocumentKind, get_document
from server.errors import ApiError
from server.evaluations import evaluations_of
from server.events import say_once
from server.holding import hold_replaced_tables
from server.housekeeping import abandon_housekeeping, what_plans_wait_for
from server.plan_changes import check_plan
from server.plans import (
    StageDocuments,
    Submission,
    abort_waiting_plan,
    accept_plan,
    forget_plan,
    one_plan,
    plans_of,
    put_stages,
    read_submission,
    set_plan_status,
    set_stage_status,
)
from server.temporal import TemporalGateway
from tcloud.wire.executions import OwnerKind
from tcloud.wire.grants import Action
from tcloud.wire.plans import Plan, TablesHeld
from tcloud.wire.policies import EvaluationPolicy
from tcloud.wire.runs import Evaluation
from tcloud.wire.statuses import Status

__all__ = ["router"]

router = APIRouter(tags=["plans"])
_log = structlog.get_logger(__name__)

_NOT_TAKEN = "Temporal did not take it."
Limit = Annotated[int, Query(ge=1, le=1000)]


class StatusReport(BaseModel):
    """How a plan or one of its stages stands."""

    status: Status
    error_message: str | None = None


class Origin(BaseModel):
    """Where a plan was made."""

    gateway: str
    """The gateway that was selected."""
    default_catalog: str | None = None
    evaluation_policy: str | None = None
    """What the project asks of evaluations: an `EvaluationPolicy` as JSON."""
    python_version: Annotated[str | None, Query(pattern=r"^3\.\d{1,2}$")] = None
    """The Python that the project asks for; None leaves it to the executors."""
    sqlmesh_version: str


@router.post(
    "/plans",
    status_code=201,
    summary="Submit a plan",
    openapi_extra=_json_body("SQLMesh's `EvaluatablePlan`, as its own `.json()` makes it."),
    responses={
        200: {"model": Plan, "description": "The plan is here already, and left as it is."},
        **problems(
            s409="The environment has moved on (`TM-CONFLICT`), or the planner has another SQLMesh (`TM-VERSION`).",
            s422="It is no plan (`TM-PLAN`), no executor serves its gateway (`TM-GATEWAY`), or what its project asks "
            "of evaluations is malformed (`TM-POLICY`).",
        ),
    },
)
async def submit(
    request: Request,
    response: Response,
    access: Annotated[Access, Depends(require(Action.PLAN, within=Within.RECORD, doing="plan.submit", says_what=True))],
    temporal: Temporal,
    origin: Annotated[Origin, Query()],
) -> Plan:
    """Takes SQLMesh's `EvaluatablePlan` as JSON; a plan that is here already is answered with 200 and left alone.

    The models that it adds, modifies, removes and restates have to be the submitter's to plan.
    """
    body = await request.body()
    try:
        submission = read_submission(body)
    except ApiError:
        access.somewhere(Action.PLAN)
        raise
    structlog.contextvars.bind_contextvars(plan_id=submission.plan_id, environment=submission.environment)
    is_new = await run_in_threadpool(_accept, access, submission, body, origin)
    plan = await run_in_threadpool(_one, access, submission.plan_id)
    access.see(plan.environment)
    if not is_new:
        response.status_code = 200
    if plan.status is not Status.SCHEDULED:
        return plan
    try:
        # Also where the plan is here already: whoever sent it may have gone before it was in the queue.
        position = await temporal.submit_plan(access.project, plan.environment, plan.plan_id)
    except ApiError:
        if is_new:
            await run_in_threadpool(_forget, access, plan.plan_id)
        raise
    if is_new:
        _log.info("plan_submitted", by=access.identity_id, bytes=len(body), queue_position=position)
    return plan.model_copy(update={"queue_position": position})


@router.get("/plans", summary="Plans, newest first")
async def plans(
    access: SeesRecord, temporal: Temporal, environment: str | None = None, limit: Limit = 50
) -> list[Plan]:
    access.see(environment)
    found = await run_in_threadpool(_many, access, environment, limit)
    return await _with_positions(access, temporal, found)


@router.get("/plans/{plan_id}", summary="One plan with its stages")
async def plan(plan_id: str, access: SeesRecord, temporal: Temporal) -> Plan:
    found = await run_in_threadpool(_one, access, plan_id)
    access.see(found.environment)
    return (await _with_positions(access, temporal, [found]))[0]


@router.get("/plans/{plan_id}/evaluations", summary="A plan's evaluations, in the order of their start")
def evaluations(plan_id: str, access: SeesRecord, model: str | None = None) -> list[Evaluation]:
    """One for each unit of its backfill; a unit that is evaluated again is the same evaluation with a later attempt.

    With `model` those of one model only.
    """
    with access.database.transaction(access.project) as transaction:
        found = one_plan(transaction, plan_id)
        access.see(found.environment)
        return evaluations_of(transaction, OwnerKind.PLAN, plan_id, is_over=found.status.is_final, model=model)


@router.post("/plans/{plan_id}/cancel", summary="Stop a plan", responses=problems(s409="The plan is over (`TM-OVER`)."))
async def cancel(
    plan_id: str,
    access: Annotated[Access, Depends(require(Action.PLAN, within=Within.RECORD, doing="plan.cancel"))],
    temporal: Temporal,
) -> Plan:
    """Takes a plan out of its environment's queue, or stops it where it is being applied. Somebody else's takes `plan`
    for all models of its environment."""
    found = await run_in_threadpool(_to_cancel, access, plan_id)
    if found.status is Status.ABORTED:
        return found
    if found.status.is_final:
        raise ApiError(409, "TM-OVER", f"Plan '{plan_id}' is over ({found.status}): there is nothing to cancel.")
    _log.info("plan_cancelled", by=access.identity_id, environment=found.environment)
    is_known = await temporal.cancel_plan(access.project, found.environment, plan_id)
    return await run_in_threadpool(_cancelled, access, plan_id, is_known)


@router.get(
    "/plans/{plan_id}/evaluatable",
    summary="The plan as it was submitted",
    response_class=JSONResponse,
    response_model=dict[str, Any],
)
def evaluatable(plan_id: str, access: ExecutorOnly) -> Response:
    return _document(access, DocumentKind.PLAN, plan_id)


@router.put("/plans/{plan_id}/stages", status_code=204, summary="Keep the stages of a plan")
def stages(plan_id: str, body: StageDocuments, access: ExecutorOnly) -> None:
    with access.database.transaction(access.project) as transaction:
        put_stages(transaction, plan_id, body)


@router.get(
    "/plans/{plan_id}/stages/{index}",
    summary="One stage's document",
    response_class=JSONResponse,
    response_model=dict[str, Any],
)
def stage(plan_id: str, index: int, access: ExecutorOnly) -> Response:
    return _document(access, DocumentKind.STAGE, f"{plan_id}.{index}")


@router.post("/plans/{plan_id}/stages/{index}/status", status_code=204, summary="Record how a stage stands")
def stage_status(plan_id: str, index: int, body: StatusReport, access: Machine) -> None:
    with access.database.transaction(access.project) as transaction:
        set_stage_status(transaction, plan_id, index, body.status, body.error_message)


@router.post(
    "/plans/{plan_id}/stages/{index}/hold",
    summary="Keep runs away from the tables that a promotion replaces",
    responses=problems(s409="The plan is over (`TM-OVER`)."),
)
def hold(plan_id: str, index: int, access: WorkerOnly) -> TablesHeld:
    """Until the plan is over. Asked again and again until nobody else has any of them."""
    with access.database.transaction(access.project) as transaction:
        return TablesHeld(waiting_for=hold_replaced_tables(transaction, plan_id, index))


@router.post(
    "/plans/{plan_id}/status",
    status_code=204,
    summary="Record how a plan stands",
    responses=problems(
        s409="It is to begin but is over: whoever applies it stops (`TM-OVER`).",
        s503="It is to begin while the janitor is at work: to be tried again (`TM-WAITS`).",
    ),
)
async def status(plan_id: str, body: StatusReport, access: WorkerOnly, temporal: Temporal) -> None:
    """A plan that is to begin while the janitor is at work is refused for as long as that takes."""
    reason = await run_in_threadpool(_set_status, access, plan_id, body)
    if reason is None:
        return
    if not await temporal.is_housekeeping(access.project):
        await run_in_threadpool(_abandon_housekeeping, access)
    raise ApiError(503, "TM-WAITS", reason)


async def _with_positions(access: Access, temporal: TemporalGateway, found: list[Plan]) -> list[Plan]:
    queues = {environment: await _queue(access, temporal, environment) for environment in sorted(_waiting(found))}
    return [
        plan.model_copy(update={"queue_position": queues[plan.environment].index(plan.plan_id)})
        if not plan.status.is_final and plan.plan_id in queues[plan.environment]
        else plan
        for plan in found
    ]


def _waiting(found: Iterable[Plan]) -> set[str]:
    return {plan.environment for plan in found if not plan.status.is_final}


async def _queue(access: Access, temporal: TemporalGateway, environment: str) -> list[str]:
    try:
        return await temporal.queue(access.project, environment)
    except ApiError:
        # The record is worth showing while Temporal is away.
        return []


def _accept(access: Access, submission: Submission, body: bytes, origin: Origin) -> bool:
    with access.database.transaction(access.project) as transaction:
        check_plan(transaction, access, submission, body, origin.default_catalog)
        is_new = accept_plan(
            transaction,
            submission,
            body,
            gateway=origin.gateway,
            default_catalog=origin.default_catalog,
            evaluation_policy=_policy(origin),
            python_version=origin.python_version,
            sqlmesh_version=origin.sqlmesh_version,
            created_by=access.identity_id,
        )
        if is_new:
            _audit(transaction, access, submission.environment, submission.plan_id)
        return is_new


def _to_cancel(access: Access, plan_id: str) -> Plan:
    with access.database.transaction(access.project) as transaction:
        found = one_plan(transaction, plan_id)
        is_own = found.created_by == access.identity_id
        access.check(transaction, Action.PLAN, found.environment, (lambda: ()) if is_own else None)
        return found


def _audit(transaction: Transaction, access: Access, environment: str, plan_id: str) -> None:
    add_entry(transaction, access.identity_id, access.doing, environment, {"plan_id": plan_id})


def _policy(origin: Origin) -> EvaluationPolicy | None:
    if origin.evaluation_policy is None:
        return None
    try:
        return EvaluationPolicy.model_validate_json(origin.evaluation_policy)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ApiError(422, "TM-POLICY", f"evaluation_policy: {where}: {first['msg']}.") from error


def _forget(access: Access, plan_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        environment = one_plan(transaction, plan_id).environment
        forget_plan(transaction, plan_id)
        add_entry(transaction, access.identity_id, "plan.forget", environment, {"plan_id": plan_id, "why": _NOT_TAKEN})


def _cancelled(access: Access, plan_id: str, is_known_to_temporal: bool) -> Plan:
    reason = f"Cancelled by {access.identity_id}."
    with access.database.transaction(access.project) as transaction:
        if is_known_to_temporal:
            # Of a plan that is being applied the workflow says how it ended; one that waits needs no worker to end.
            abort_waiting_plan(transaction, plan_id, reason)
        else:
            set_plan_status(transaction, plan_id, Status.ABORTED, reason)
        found = one_plan(transaction, plan_id)
        _audit(transaction, access, found.environment, plan_id)
        return found


def _set_status(access: Access, plan_id: str, report: StatusReport) -> str | None:
    with access.database.transaction(access.project) as transaction:
        if report.status is Status.IN_PROGRESS and (reason := what_plans_wait_for(transaction)):
            say_once(transaction, plan_id, reason)
            return reason
        set_plan_status(transaction, plan_id, report.status, report.error_message)
        return None


def _abandon_housekeeping(access: Access) -> None:
    with access.database.transaction(access.project) as transaction:
        abandon_housekeeping(transaction)


def _one(access: Access, plan_id: str) -> Plan:
    with access.database.transaction(access.project) as transaction:
        return one_plan(transaction, plan_id)


def _many(access: Access, environment: str | None, limit: int) -> list[Plan]:
    with access.database.transaction(access.project) as transaction:
        return plans_of(transaction, environment, limit, within=access.visible)


def _document(access: Access, kind: DocumentKind, document_id: str) -> Response:
    with access.database.transaction(access.project) as transaction:
        return Response(get_document(transaction, kind, document_id), media_type="application/json")
