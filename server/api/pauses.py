"""Pauses of environments and of models in them."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from server.access import Access, Within, require
from server.api.answers import problems
from server.api.dependencies import SeesRecord, WorkerOnly
from server.audit_log import add_entry
from server.crons import EnvironmentCrons
from server.database import Transaction
from server.environments import one_environment, summary_of
from server.errors import ApiError
from server.pause_notices import deliver_notices
from server.pauses import pauses_in
from server.pausing import Resumed, end_pause, pause, resume, selected_models, settle
from server.runs import abort_run, active_runs
from server.scheduling import ScheduledEnvironments
from server.temporal import TemporalGateway
from tcloud.wire.grants import Action
from tcloud.wire.pauses import Pause
from tcloud.wire.pausing import ModelPauseRequest, PauseAnswer, PauseRequest, ResumeAnswer, ResumeRequest
from workflows.payloads import PausesStanding

__all__ = ["router"]

router = APIRouter(tags=["pauses"])
_PATIENCE_SECONDS = 3.0
_log = structlog.get_logger(__name__)


class _Services:
    """What a change of a pause needs beside the database."""

    def __init__(self, request: Request):
        self.crons: EnvironmentCrons = request.app.state.crons
        self.scheduled: ScheduledEnvironments = request.app.state.scheduled
        self.temporal: TemporalGateway = request.app.state.temporal


async def _services(request: Request) -> _Services:
    return _Services(request)


Services = Annotated[_Services, Depends(_services)]


class SettleRequest(BaseModel):
    """What an environment's workflow says when it asks how its pauses stand."""

    run_id: str
    """What a run is to be called that evaluates what is due because a pause has ended."""


@router.get("/pauses", summary="The pauses in force")
def pauses(access: SeesRecord, environment: str | None = None) -> list[Pause]:
    """By environment, that of the whole one first; 404 if there is no such environment (`TM-ENVIRONMENT`)."""
    access.see(environment)
    with access.database.transaction(access.project) as transaction:
        if environment is not None:
            summary_of(transaction, environment)
        return [found for found in pauses_in(transaction, environment) if access.visible.match(found.environment)]


@router.post("/environments/{name}/pause", summary="Pause an environment")
async def pause_environment(
    name: str,
    body: PauseRequest,
    access: Annotated[Access, Depends(require(Action.PAUSE, within=Within.ENVIRONMENT, doing="environment.pause"))],
    services: Services,
) -> PauseAnswer:
    """No run starts in it, and active ones start nothing new. It is in force when this answers; what is in flight
    finishes, or is cancelled with `now`."""

    def change(transaction: Transaction) -> tuple[Pause, str]:
        return pause(
            transaction, name, None, reason=body.reason, until=body.until, lasts=body.lasts, by=access.identity_id
        )

    answer = await _pause(access, services, change)
    if body.now:
        answer.cancelled_runs = await _cancel_runs(access, services, answer.pause)
    return answer


@router.post(
    "/environments/{name}/resume",
    summary="Resume an environment",
    responses=problems(s409="It is not paused (`TM-PAUSE`)."),
)
async def resume_environment(
    name: str,
    body: ResumeRequest,
    access: Annotated[Access, Depends(require(Action.PAUSE, within=Within.ENVIRONMENT, doing="environment.resume"))],
    services: Services,
) -> ResumeAnswer:
    """A run evaluates what is due, unless `catch_up` is false."""
    return await _resume(
        access,
        services,
        lambda transaction: resume(
            transaction, name, services.scheduled, catch_up=body.catch_up, by=access.identity_id
        ),
    )


@router.post("/pauses", status_code=201, summary="Pause models of an environment")
async def pause_models(
    body: ModelPauseRequest,
    access: Annotated[Access, Depends(require(Action.PAUSE, within=Within.RECORD, doing="model.pause"))],
    services: Services,
) -> PauseAnswer:
    """Runs of the environment leave out the models and what is downstream of them. A selection is kept as it is
    written: models that a later plan adds are paused, too, if they match."""

    def change(transaction: Transaction) -> tuple[Pause, str]:
        access.check(
            transaction,
            Action.PAUSE,
            body.environment,
            lambda: selected_models(transaction, body.environment, body.model),
        )
        return pause(
            transaction,
            body.environment,
            body.model,
            reason=body.reason,
            until=body.until,
            lasts=body.lasts,
            by=access.identity_id,
        )

    return await _pause(access, services, change)


@router.delete("/pauses/{pause_id}", summary="End a pause")
async def delete_pause(
    pause_id: str,
    access: Annotated[Access, Depends(require(Action.PAUSE, within=Within.RECORD, doing="pause.delete"))],
    services: Services,
    catch_up: bool = True,
) -> ResumeAnswer:
    """A run evaluates what is due, unless `catch_up` is false."""

    def change(transaction: Transaction) -> Resumed:
        for found in pauses_in(transaction):
            if found.pause_id == pause_id:
                access.check(transaction, Action.PAUSE, found.environment, _models(found))
        return end_pause(transaction, pause_id, services.scheduled, catch_up=catch_up, by=access.identity_id)

    return await _resume(access, services, change)


@router.post("/environments/{name}/pauses/settle", summary="End pauses whose time has come, learn which are in force")
def settle_pauses(name: str, body: SettleRequest, access: WorkerOnly, services: Services) -> PausesStanding:
    """For the environment's workflow; repeating it is harmless."""
    with access.database.transaction(access.project) as transaction:
        return settle(transaction, name, body.run_id, services.scheduled)


def _models(found: Pause) -> Callable[[], list[str]] | None:
    return None if found.model is None else lambda: found.models


async def _pause(
    access: Access, services: _Services, change: Callable[[Transaction], tuple[Pause, str]]
) -> PauseAnswer:
    def changed() -> PauseAnswer:
        with access.database.transaction(access.project) as transaction:
            found, outcome = change(transaction)
            environment = one_environment(transaction, services.crons, services.scheduled, found.environment)
            return PauseAnswer(environment=environment, pause=found, outcome=outcome)

    answer = await run_in_threadpool(changed)
    found = answer.pause
    _log.info(answer.outcome, by=access.identity_id, environment=found.environment, pause_id=found.pause_id)
    await _tell(access, services)
    return answer


async def _resume(access: Access, services: _Services, change: Callable[[Transaction], Resumed]) -> ResumeAnswer:
    def changed() -> ResumeAnswer:
        with access.database.transaction(access.project) as transaction:
            resumed = change(transaction)
            environment = one_environment(transaction, services.crons, services.scheduled, resumed.pause.environment)
            return ResumeAnswer(environment=environment, **resumed._asdict())

    answer = await run_in_threadpool(changed)
    ended = answer.pause
    _log.info("resumed", by=access.identity_id, environment=ended.environment, pause_id=ended.pause_id)
    await _tell(access, services)
    return answer


async def _tell(access: Access, services: _Services) -> None:
    # The pause is in force, or over, as it is: should Temporal be away, its workflow is told later.
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await deliver_notices(access.database, services.temporal, access.project)
    except ApiError as error:
        _log.warning("pause_notices_not_delivered", project=access.project.namespace, reason=error.message)
    except TimeoutError:
        _log.warning("pause_notices_not_delivered", project=access.project.namespace, reason="Temporal takes long")


async def _cancel_runs(access: Access, services: _Services, found: Pause) -> list[str]:
    reason = f"Environment '{found.environment}' is {found.explained}"

    def active() -> list[str]:
        with access.database.transaction(access.project) as transaction:
            return active_runs(transaction, found.environment)

    def abort(run_id: str) -> None:
        with access.database.transaction(access.project) as transaction:
            abort_run(transaction, run_id, reason)
            details = {"run_id": run_id, "pause_id": found.pause_id}
            add_entry(transaction, access.identity_id, "run.cancel", found.environment, details)

    run_ids = await run_in_threadpool(active)
    for run_id in run_ids:
        # First the record: executors give up what belongs to a run that is over, also if Temporal is away.
        await run_in_threadpool(abort, run_id)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for run_id in run_ids:
                await services.temporal.cancel_run(access.project, run_id)
    except (ApiError, TimeoutError) as error:
        # Their workflows find out when they ask for the next unit.
        _log.warning("runs_not_cancelled_in_temporal", environment=found.environment, reason=str(error))
    return run_ids
