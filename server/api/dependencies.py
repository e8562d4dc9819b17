"""What routes ask for: who calls, and what the application keeps for all of them."""

from typing import Annotated

from fastapi import Depends, Request

from server.access import Access, Within, require
from server.connections import Vault
from server.crons import EnvironmentCrons
from server.projects import Role
from server.scheduling import ScheduledEnvironments
from server.settings import ServerSettings
from server.temporal import TemporalGateway
from tcloud.wire.grants import Action

__all__ = [
    "Anyone",
    "Connections",
    "Crons",
    "ExecutorOnly",
    "Machine",
    "Manager",
    "SeesEnvironment",
    "SeesRecord",
    "Scheduled",
    "Settings",
    "Temporal",
    "WorkerOnly",
]

_MACHINES = (Role.EXECUTOR, Role.WORKER)

Anyone = Annotated[Access, Depends(require(Action.VIEW, *_MACHINES, within=Within.ANYWHERE))]
SeesEnvironment = Annotated[Access, Depends(require(Action.VIEW, *_MACHINES, within=Within.ENVIRONMENT))]
SeesRecord = Annotated[Access, Depends(require(Action.VIEW, *_MACHINES, within=Within.RECORD))]
Manager = Annotated[Access, Depends(require(Action.MANAGE))]
ExecutorOnly = Annotated[Access, Depends(require(Role.EXECUTOR))]
WorkerOnly = Annotated[Access, Depends(require(Role.WORKER))]
Machine = Annotated[Access, Depends(require(*_MACHINES))]


# Coroutines, though they wait for nothing: others are called in a thread, which costs a call of a unit a millisecond.
async def _connections(request: Request) -> Vault:
    vault: Vault = request.app.state.vault
    return vault


async def _crons(request: Request) -> EnvironmentCrons:
    crons: EnvironmentCrons = request.app.state.crons
    return crons


async def _scheduled(request: Request) -> ScheduledEnvironments:
    scheduled: ScheduledEnvironments = request.app.state.scheduled
    return scheduled


async def _settings(request: Request) -> ServerSettings:
    settings: ServerSettings = request.app.state.settings
    return settings


async def _temporal(request: Request) -> TemporalGateway:
    temporal: TemporalGateway = request.app.state.temporal
    return temporal


Connections = Annotated[Vault, Depends(_connections)]
Crons = Annotated[EnvironmentCrons, Depends(_crons)]
Scheduled = Annotated[ScheduledEnvironments, Depends(_scheduled)]
Settings = Annotated[ServerSettings, Depends(_settings)]
Temporal = Annotated[TemporalGateway, Depends(_temporal)]
