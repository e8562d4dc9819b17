"""What routes ask for: who calls, and what the application keeps for all of them."""

from typing import Annotated

from fastapi import Depends, Request

from server.access import Access, require
from server.connections import Vault
from server.crons import EnvironmentCrons
from server.projects import Role
from server.scheduling import ScheduledEnvironments
from server.settings import ServerSettings
from server.temporal import TemporalGateway

__all__ = [
    "Admin",
    "Anyone",
    "Connections",
    "Crons",
    "Developer",
    "ExecutorOnly",
    "Machine",
    "Scheduled",
    "Settings",
    "Temporal",
    "WorkerOnly",
]

Anyone = Annotated[Access, Depends(require(Role.VIEWER, Role.EXECUTOR, Role.WORKER))]
Admin = Annotated[Access, Depends(require(Role.ADMIN))]
Developer = Annotated[Access, Depends(require(Role.DEVELOPER))]
ExecutorOnly = Annotated[Access, Depends(require(Role.EXECUTOR))]
WorkerOnly = Annotated[Access, Depends(require(Role.WORKER))]
Machine = Annotated[Access, Depends(require(Role.EXECUTOR, Role.WORKER))]


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
