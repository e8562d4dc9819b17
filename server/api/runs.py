"""Runs: start, watch, cancel; and what executors and workers say of them."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from server.access import Access, Within, require
from server.api.answers import problems
from server.api.dependencies import ExecutorOnly, Machine, SeesRecord, Temporal
from server.audit_log import add_entry
from server.errors import ApiError
from server.evaluations import evaluations_of
from server.runs import (
    RunFilter,
    abort_run,
    begin_run,
    create_run,
    forget_run,
    one_run,
    run_options,
    run_without_evaluations,
    runs_of,
    set_run_status,
)
from tcloud.wire.executions import OwnerKind
from tcloud.wire.grants import Action
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
async def start(
    body: RunOptions,
    access: Annotated[Access, Depends(require(Action.RUN, within=Within.RECORD, doing="run.start"))],
    temporal: Temporal,
) -> Run:
    """The options are those of `sqlmesh run`; 404 also if there is no such environment (`TM-ENVIRONMENT`). It takes
    `run` for the selected models, or all, and `manage` for them to ignore pauses."""
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
def runs(access: SeesRecord, query: Annotated[RunQuery, Query()]) -> list[Run]:
    """404 also if there is no run `before` (`TM-RUN`)."""
    access.see(query.environment)
    filters = query.model_dump(exclude={"status", "limit"})
    wanted = RunFilter(statuses=tuple(query.status), within=access.visible, **filters)
    with access.database.transaction(access.project) as transaction:
        return runs_of(transaction, wanted, query.limit)


@router.get("/runs/{run_id}", summary="One run with its evaluations")
def run(run_id: str, access: SeesRecord) -> Run:
    with access.database.transaction(access.project) as transaction:
        found = one_run(transaction, run_id)
    access.see(found.environment)
    return found


@router.get("/runs/{run_id}/evaluations", summary="A run's evaluations, in the order of their start")
def evaluations(run_id: str, access: SeesRecord, model: str | None = None) -> list[Evaluation]:
    """The same that `GET runs/{run_id}` has among its fields; with `model` those of one model only."""
    with access.database.transaction(access.project) as transaction:
        found = run_without_evaluations(transaction, run_id)
        access.see(found.environment)
        return evaluations_of(transaction, OwnerKind.RUN, run_id, is_over=found.status.is_final, model=model)


@router.post("/runs/{run_id}/cancel", summary="Stop a run", responses=problems(s409="The run is over (`TM-OVER`)."))
async def cancel(
    run_id: str,
    access: Annotated[Access, Depends(require(Action.RUN, within=Within.RECORD, doing="run.cancel"))],
    temporal: Temporal,
) -> Run:
    """Evaluations in flight are stopped; what they finished until then is kept."""
    found = await run_in_threadpool(_to_cancel, access, run_id)
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
        for action in (Action.RUN, Action.MANAGE) if options.ignore_pause else (Action.RUN,):
            access.check(transaction, action, options.environment, _models(options))
        created = create_run(transaction, options, access.identity_id)
        given = options.model_dump(mode="json", exclude_defaults=True, exclude={"environment"})
        details = {"run_id": created.run_id, **given}
        add_entry(transaction, access.identity_id, access.doing, options.environment, details)
        return created


def _to_cancel(access: Access, run_id: str) -> Run:
    with access.database.transaction(access.project) as transaction:
        found = one_run(transaction, run_id)
        access.check(transaction, Action.RUN, found.environment, _models(run_options(transaction, run_id)))
        return found


def _models(options: RunOptions) -> Callable[[], Collection[str]] | None:
    selected = options.select_models
    return None if selected is None else lambda: selected


def _forget(access: Access, run_id: str) -> None:
    with access.database.transaction(access.project) as transaction:
        environment = one_run(transaction, run_id).environment
        forget_run(transaction, run_id)
        details = {"run_id": run_id, "why": "Temporal did not take it."}
        add_entry(transaction, access.identity_id, "run.forget", environment, details)


def _abort(access: Access, run_id: str) -> Run:
    with access.database.transaction(access.project) as transaction:
        aborted = abort_run(transaction, run_id, f"Cancelled by {access.identity_id}.")
        add_entry(transaction, access.identity_id, access.doing, aborted.environment, {"run_id": run_id})
        return aborted
