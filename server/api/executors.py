"""Who is here: executors, the gateways they serve, and what a newcomer has to know."""

from importlib.metadata import version

from fastapi import APIRouter, Request
from starlette.datastructures import State

from server.access import Access
from server.api.dependencies import Anyone, ExecutorOnly
from server.connections import vault_name
from server.environments import scheduled_plans
from server.executors import SQLMESH_VERSION, known_executors, live_gateways, record_heartbeat
from server.projects import Role
from server.pythons import pythons_of_plans
from server.settings import ServerSettings
from server.temporal import TemporalGateway
from server.temporal_connection import TemporalConnection
from server.temporal_tokens import TemporalTokens
from tcloud.wire.executors import (
    Bootstrap,
    ControlWorker,
    Executor,
    ExecutorHeartbeat,
    ExecutorKind,
    Gateway,
    HeartbeatAnswer,
    TemporalAddress,
)

__all__ = ["router"]

router = APIRouter(tags=["executors"])


@router.get("/bootstrap", summary="What a client, an executor or a worker has to know")
def bootstrap(request: Request, access: Anyone, queue: ExecutorKind | None = None) -> Bootstrap:
    """Temporal's address and the keys of its payloads are told only to executors and workers.

    An executor says which queue it is about to serve: where Temporal takes tokens, its token is good for no other.
    """
    settings: ServerSettings = request.app.state.settings
    with access.database.transaction(access.project) as transaction:
        gateways = live_gateways(transaction)
    is_machine = access.machine is not None
    return Bootstrap(
        project=access.project.namespace,
        server_version=version("tempomesh"),
        sqlmesh_version=SQLMESH_VERSION,
        gateways=gateways,
        temporal=_temporal(request.app.state, access, queue) if is_machine else None,
        codec_keys=(
            {key_id: key.get_secret_value() for key_id, key in settings.codec_keys.items()} if is_machine else None
        ),
    )


@router.get("/state-sync/enterprise-version", summary="The SQLMesh version of the state, for clients that ask first")
def enterprise_version(access: Anyone) -> dict[str, str]:  # noqa: ARG001 - the door
    return {"version": SQLMESH_VERSION}


@router.get("/executors", summary="Executors that were seen lately")
def executors(access: Anyone) -> list[Executor]:
    with access.database.transaction(access.project) as transaction:
        return known_executors(transaction)


@router.get("/control-workers", summary="Control workers that Temporal has heard of lately")
async def control_workers(request: Request, access: Anyone) -> list[ControlWorker]:
    """Without one, plans and runs wait."""
    temporal: TemporalGateway = request.app.state.temporal
    return await temporal.control_workers(access.project)


@router.post("/executors", summary="Report that an executor lives, and what it serves")
def heartbeat(request: Request, body: ExecutorHeartbeat, access: ExecutorOnly) -> HeartbeatAnswer:
    with access.database.transaction(access.project) as transaction:
        record_heartbeat(transaction, body)
        scheduled = scheduled_plans(transaction, request.app.state.scheduled)
        return HeartbeatAnswer(
            scheduled=scheduled if body.kind is ExecutorKind.RUN else {},
            connections=vault_name(transaction),
            python_environments=pythons_of_plans(transaction, scheduled.values()),
            sqlmesh_version=SQLMESH_VERSION,
        )


@router.get("/gateways", summary="The gateways that live executors serve")
def gateways(access: Anyone) -> list[Gateway]:
    with access.database.transaction(access.project) as transaction:
        return live_gateways(transaction)


def _temporal(state: State, access: Access, queue: ExecutorKind | None) -> TemporalAddress:
    settings: ServerSettings = state.settings
    connection: TemporalConnection = state.connection
    tokens: TemporalTokens = state.temporal_tokens
    address, tls, token = connection.address, connection.uses_tls, None
    is_edge = access.machine is Role.EXECUTOR and settings.edge_port is not None
    if access.machine is Role.EXECUTOR and settings.temporal_public_address is not None:
        address, tls = settings.temporal_public_address, settings.temporal_public_tls
    if is_edge:
        token = tokens.for_edge(access.project, access.identity_id, queue) if queue is not None else None
    elif settings.temporal_tokens:
        token = tokens.for_frontend([access.project], access.identity_id)
    return TemporalAddress(
        address=address,
        namespace=access.project.namespace,
        tls=tls,
        token=token,
        is_edge=is_edge,
        token_seconds=tokens.lifetime.total_seconds() if token is not None else None,
        ui_url=settings.temporal_ui_url,
    )
