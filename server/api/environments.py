"""Environments, their crons and their schedules."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter
from sqlmesh.utils.errors import SQLMeshError

from server.access import Access, Within, require
from server.api.dependencies import Crons, Scheduled, SeesEnvironment, SeesRecord, Temporal, WorkerOnly
from server.audit_log import add_entry
from server.crons import EnvironmentCrons, next_tick
from server.database import Transaction
from server.documents import DocumentKind, find_document, put_document
from server.environments import all_environments, environment_crons, one_environment, summary_of, wanted_schedules
from server.errors import ApiError
from server.scheduling import ScheduledEnvironments
from server.temporal import KeptSchedule, TemporalGateway
from tcloud.wire.environments import CronGroup, Environment, Schedule, ScheduledEnvironment, UnscheduledCron
from tcloud.wire.grants import Action

__all__ = ["router"]

router = APIRouter(tags=["environments"])

_UNSCHEDULED = TypeAdapter(list[UnscheduledCron])


def _decides(doing: str) -> Callable[..., Awaitable[Access]]:
    """Whoever decides whether an environment runs by itself could as well pause and resume it."""
    return require(Action.PAUSE, within=Within.ENVIRONMENT, doing=doing)


@router.get("/environments", summary="The project's environments")
def environments(access: SeesRecord, crons: Crons, scheduled: Scheduled) -> list[Environment]:
    with access.database.transaction(access.project) as transaction:
        return all_environments(transaction, crons, scheduled, within=access.visible)


@router.get("/environments/{name}", summary="One environment")
def environment(name: str, access: SeesEnvironment, crons: Crons, scheduled: Scheduled) -> Environment:
    return _one(access, crons, scheduled, name)


@router.post("/environments/{name}/schedule", summary="Let an environment's models run by themselves")
async def schedule(
    name: str,
    access: Annotated[Access, Depends(_decides("environment.schedule"))],
    crons: Crons,
    scheduled: Scheduled,
    temporal: Temporal,
) -> Environment:
    """Its schedules are made at once if the control worker is there, and otherwise when it is back."""
    return await _decided(access, crons, scheduled, temporal, name, is_scheduled=True)


@router.post("/environments/{name}/unschedule", summary="Let an environment's models run only when somebody says so")
async def unschedule(
    name: str,
    access: Annotated[Access, Depends(_decides("environment.unschedule"))],
    crons: Crons,
    scheduled: Scheduled,
    temporal: Temporal,
) -> Environment:
    """Its schedules are deleted; runs that are under way go on."""
    return await _decided(access, crons, scheduled, temporal, name, is_scheduled=False)


@router.get("/environments/{name}/crons", summary="An environment's models, grouped by cron and timezone")
def crons_of(name: str, access: SeesEnvironment, crons: Crons) -> list[CronGroup]:
    with access.database.transaction(access.project) as transaction:
        return environment_crons(transaction, crons, name)


@router.put("/environments/{name}/unscheduled", status_code=204, summary="Record which crons Temporal does not take")
def unscheduled(name: str, body: list[UnscheduledCron], access: WorkerOnly) -> None:
    """Replaces what was recorded before; `GET schedules` lists them with the reason."""
    with access.database.transaction(access.project) as transaction:
        document = orjson.dumps([cron.model_dump() for cron in body])
        put_document(transaction, DocumentKind.UNSCHEDULED, name, document)


@router.post("/environments/{name}/invalidate", status_code=204, summary="Let an environment expire now")
async def invalidate(
    name: str,
    access: Annotated[Access, Depends(require(Action.PLAN, within=Within.ENVIRONMENT, doing="environment.invalidate"))],
    temporal: Temporal,
) -> None:
    """The janitor removes it, its schedules are deleted at once; `prod` cannot be invalidated."""
    await run_in_threadpool(_invalidate, access, name)
    await temporal.maintain(access.project)


def _invalidate(access: Access, name: str) -> None:
    with access.database.transaction(access.project) as transaction:
        summary_of(transaction, name)
        try:
            transaction.state.invalidate_environment(name)
            add_entry(transaction, access.identity_id, access.doing, name)
        except SQLMeshError as error:
            raise ApiError(422, "TM-STATE", str(error), error_type=type(error).__name__) from error


@router.get("/schedules", summary="The schedules that Temporal keeps for the project")
async def schedules(access: SeesRecord, crons: Crons, temporal: Temporal) -> list[Schedule]:
    sees = access.visible.match
    kept = [schedule for schedule in await temporal.schedules(access.project) if sees(schedule.environment)]
    models = await run_in_threadpool(_models, access, crons, {schedule.environment for schedule in kept})
    listed = [_schedule(schedule, models) for schedule in kept]
    listed += await run_in_threadpool(_left_out, access, crons)
    return sorted(listed, key=lambda schedule: schedule.schedule_id)


@router.post("/schedules/wanted", summary="Which schedules there should be")
def wanted(access: WorkerOnly, crons: Crons, scheduled: Scheduled) -> list[ScheduledEnvironment]:
    """What the control worker compares Temporal's schedules with; decisions about gone environments are forgotten."""
    with access.database.transaction(access.project) as transaction:
        return wanted_schedules(transaction, crons, scheduled)


def _one(access: Access, crons: EnvironmentCrons, scheduled: ScheduledEnvironments, name: str) -> Environment:
    with access.database.transaction(access.project) as transaction:
        return one_environment(transaction, crons, scheduled, name)


async def _decided(
    access: Access,
    crons: EnvironmentCrons,
    scheduled: ScheduledEnvironments,
    temporal: TemporalGateway,
    name: str,
    *,
    is_scheduled: bool,
) -> Environment:
    def decide() -> Environment:
        with access.database.transaction(access.project) as transaction:
            if summary_of(transaction, name).expired:
                raise ApiError(409, "TM-ENVIRONMENT", f"Environment '{name}' has expired; plan it anew first.")
            scheduled.decide(transaction, name, is_scheduled=is_scheduled, by=access.identity_id)
            add_entry(transaction, access.identity_id, access.doing, name)
            return one_environment(transaction, crons, scheduled, name)

    decided = await run_in_threadpool(decide)
    await temporal.maintain(access.project)
    return decided


def _models(access: Access, crons: EnvironmentCrons, wanted: set[str]) -> dict[tuple[str, str, str], list[str]]:
    with access.database.transaction(access.project) as transaction:
        summaries = [s for s in transaction.state.get_environments_summary() if s.name in wanted]
        return {
            (summary.name, group.cron, group.timezone): group.models
            for summary in summaries
            for group in crons.get(transaction, summary.name, summary.plan_id).crons
        }


def _left_out(access: Access, crons: EnvironmentCrons) -> list[Schedule]:
    with access.database.transaction(access.project) as transaction:
        return [
            Schedule(
                schedule_id=f"schedule/{summary.name}/{left_out.cron}/{left_out.timezone}",
                environment=summary.name,
                next_run_at=None,
                paused=False,
                error_message=left_out.reason,
                **left_out.model_dump(exclude={"reason"}),
            )
            for summary in transaction.state.get_environments_summary()
            if access.visible.match(summary.name)
            for left_out in _recorded_as_left_out(transaction, summary.name)
            if any(
                (left_out.cron, left_out.timezone) == (group.cron, group.timezone)
                for group in crons.get(transaction, summary.name, summary.plan_id).crons
            )
        ]


def _recorded_as_left_out(transaction: Transaction, environment: str) -> list[UnscheduledCron]:
    document = find_document(transaction, DocumentKind.UNSCHEDULED, environment)
    return _UNSCHEDULED.validate_json(document) if document is not None else []


def _schedule(kept: KeptSchedule, models: dict[tuple[str, str, str], list[str]]) -> Schedule:
    return Schedule(
        schedule_id=kept.schedule_id,
        environment=kept.environment,
        cron=kept.cron,
        timezone=kept.timezone,
        models=models.get((kept.environment, kept.cron, kept.timezone), []),
        next_run_at=next_tick([CronGroup(cron=kept.cron, timezone=kept.timezone, models=[])]),
        paused=kept.paused,
    )
