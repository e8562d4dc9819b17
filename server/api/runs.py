"""Runs: start, watch, cancel; and what executors and workers say of them."""

from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from server.access import Access
from server.api.answers import problems
from server.api.dependencies import Anyone, Developer, ExecutorOnly, Machine, Temporal
from server.errors import ApiError
from server.evaluations import evaluations_of
from server.projects import Role
from server.runs import (
    RunFilter,
    abort_run,
    begin_run,
    create_run,
    forget_run,
    one_run,
    run_is_over,
    runs_of,
    set_run_status,
)
from tcloud.wire.executions import OwnerKind
from tcloud.wire.runs import Evaluation, Run, RunOptions, RunTrigger
from tcloud.wire.statuses import Status

__all__ = ["router"]

router = APIRouter(tags=["runs"])
_log = structlog.get_logger(__name__)


class RunBeginning(BaseModel):
    """What an executor knows of a run before it prepares it."""

    environment: str
    trigger: RunTrigger = RunTrigger.SCHEDULE


class RunStatus(BaseModel):
    """How a run stands: one of the statuses, or `nothing_to_do`."""

    status: str
    error_message: str | None = None


@router.post(
    "/runs",
    status_code=201,
    summary="Start a run by hand",
    responses=problems(s409="The environment is paused (`TM-PAUSED`)."),
)
async def start(body: RunOptions, access: Developer, temporal: Temporal) -> Run:
    """The options are those of `sqlmesh run`; 404 also if there is no such environment (`TM-ENVIRONMENT`). It takes an
    admin to ignore pauses."""
    if body.ignore_pause and access.role is not Role.ADMIN:
        raise ApiError(
            403, "TM-ROLE", f"Client '{access.identity_id}' has the role {access.role}; --ignore-pause takes admin."
        )
    run = await run_in_threadpool(_create, access, body)
    try:
        await temporal.start_run(access.project, run, body)
    except ApiError:
        await run_in_threadpool(_forget, access, run.run_id)
        raise
    _log.info("run_started", by=access.identity_id, environment=run.environment, run_id=run.run_id)
    return run


class RunQuery(BaseModel):
    """Which runs to list; every filter that is given has to hold."""

    model_config = ConfigDict(extra="ignore")

    environment: str | None = None
    status: list[Status] = []
    """May be given more than once: any of them."""
    trigger: RunTrigger | None = None
    model: str | None = None
    """Runs with an evaluation of this model: `schema.model`, `catalog.schema.model` or the fully qualified name."""
    since: datetime | None = None
    """Runs that started then or later; UTC if it does not say otherwise."""
    until: datetime | None = None
    """Runs that started before."""
    before: str | None = None
    """The id of a run, the last one of a page: the next page has those that are older."""
    limit: int = Field(default=50, ge=1, le=1000)


@router.get("/runs", summary="Runs, newest first")
def runs(access: Anyone, query: Annotated[RunQuery, Query()]) -> list[Run]:
    """404 also if there is no run `before` (`TM-RUN`)."""
    wanted = RunFilter(statuses=tuple(query.status), **query.model_dump(exclude={"status", "limit"}))
    with access.database.transaction(access.project) as transaction:
        return runs_of(transaction, wanted, query.limit)


@router.get("/runs/{run_id}", summary="One run with its evaluations")
def run(run_id: str, access: Anyone) -> Run:
    with access.database.transaction(access.project) as transaction:
        return one_run(transaction, run_id)


@router.get("/runs/{run_id}/evaluations", summary="A run's evaluations, in the order of their start")
def evaluations(run_id: str, access: Anyone, model: str | None = None) -> list[Evaluation]:
    """The same that `GET runs/{run_id}` has among its fields; with `model` those of one model only."""
    with access.database.transaction(access.project) as transaction:
        is_over = run_is_over(transaction, run_id)
        return evaluations_of(transaction, OwnerKind.RUN, run_id, is_over=is_over, model=model)


@router.post("/runs/{run_id}/cancel", summary="Stop a run", responses=problems(s409="The run is over (`TM-OVER`)."))
async def cancel(run_id: str, access: Developer, temporal: Temporal) -> Run:
    """Evaluations in flight are stopped; what they finished until then is kept."""
    found = await run_in_threadpool(run, run_id, access)
    if found.status is Status.ABORTED:
        return found
    if found.status.is_final:
        raise ApiError(409, "TM-OVER", f"Run '{run_id}' is over ({found.status}): there is nothing to cancel.")
    _log.info("run_cancelled", by=access.identity_id, environment=found.environment)
    await temporal.cancel_run(access.project, run_id)
    return await run_in_threadpool(_abort, access, run_id)


@router.post("/runs/{run_id}/begin", summary="Record that a run is being prepared, learn its options")
def begin(run_id: str, body: RunBeginning, access: ExecutorOnly) -> RunOptions:
    with access.database.transaction(access.project) as transaction:
        return begin_run(transaction, run_id, body.environment, body.trigger)


@router.post("/runs/{run_id}/status", status_code=204, summary="Record how a run stands")
def status(run_id: str, body: RunStatus, access: Machine) -> None:
    with access.database.transaction(access.project) as transaction:
        set_run_status(transaction, run_id, body.status, body.error_message)


def _create(access: Access, options: RunOptions) -> Run:
    with access.database.transaction(access.project) as transaction:
        return create_run(transaction, options, access.identity_id)


def _forget(access: Access, run_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        forget_run(transaction, run_id)


def _abort(access: Access, run_id: str) -> Run:
    with access.database.transaction(access.project) as transaction:
        return abort_run(transaction, run_id, f"Cancelled by {access.identity_id}.")
