"""Environments, their crons and their schedules."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlmesh.utils.errors import SQLMeshError

from server.access import Access, require
from server.crons import EnvironmentCrons, next_tick
from server.environments import all_environments, environment_crons, one_environment, summary_of
from server.errors import ApiError
from server.projects import Role
from server.temporal import KeptSchedule, TemporalGateway
from tcloud.wire.environments import CronGroup, Environment, Schedule

__all__ = ["router"]

router = APIRouter(tags=["environments"])

Anyone = Annotated[Access, Depends(require(Role.VIEWER, Role.EXECUTOR, Role.WORKER))]
Developer = Annotated[Access, Depends(require(Role.DEVELOPER))]


async def _crons(request: Request) -> EnvironmentCrons:
    crons: EnvironmentCrons = request.app.state.crons
    return crons


Crons = Annotated[EnvironmentCrons, Depends(_crons)]


@router.get("/environments", summary="The project's environments")
def environments(access: Anyone, crons: Crons) -> list[Environment]:
    with access.database.transaction(access.project) as transaction:
        return all_environments(transaction, crons)


@router.get("/environments/{name}", summary="One environment")
def environment(name: str, access: Anyone, crons: Crons) -> Environment:
    with access.database.transaction(access.project) as transaction:
        return one_environment(transaction, crons, name)


@router.get("/environments/{name}/crons", summary="An environment's models, grouped by cron and timezone")
def crons_of(name: str, access: Anyone, crons: Crons) -> list[CronGroup]:
    with access.database.transaction(access.project) as transaction:
        return environment_crons(transaction, crons, name)


@router.post("/environments/{name}/invalidate", status_code=204, summary="Let an environment expire now")
def invalidate(name: str, access: Developer) -> None:
    """The janitor removes it; `prod` cannot be invalidated."""
    with access.database.transaction(access.project) as transaction:
        summary_of(transaction, name)
        try:
            transaction.state.invalidate_environment(name)
        except SQLMeshError as error:
            raise ApiError(422, "TM-STATE", str(error), error_type=type(error).__name__) from error


@router.get("/schedules", summary="The schedules that Temporal keeps for the project")
async def schedules(request: Request, access: Anyone, crons: Crons) -> list[Schedule]:
    temporal: TemporalGateway = request.app.state.temporal
    kept = await temporal.schedules(access.project)
    models = await run_in_threadpool(_models, access, crons, {schedule.environment for schedule in kept})
    return [_schedule(schedule, models) for schedule in sorted(kept, key=lambda s: s.schedule_id)]


def _models(access: Access, crons: EnvironmentCrons, wanted: set[str]) -> dict[tuple[str, str, str], list[str]]:
    with access.database.transaction(access.project) as transaction:
        summaries = [s for s in transaction.state.get_environments_summary() if s.name in wanted]
        return {
            (summary.name, group.cron, group.timezone): group.models
            for summary in summaries
            for group in crons.get(transaction, summary.name, summary.plan_id).crons
        }


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
