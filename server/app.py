"""The HTTP application: routers under the project's path, health at the root, errors as JSON."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated

import anyio
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from server import api_page
from server.access import declare_permissions, open_to_all, project_of
from server.api import (
    audit_log,
    codec,
    connections,
    environments,
    evaluations,
    events,
    executors,
    grants,
    identities,
    pauses,
    plans,
    public,
    pythons,
    queries,
    runs,
    state,
    units,
)
from server.api.answers import EVERYWHERE
from server.binding import RequestLogs
from server.bodies import LimitBodies
from server.compression import GunzipRequests
from server.connections import Vault
from server.cors import CodecCors
from server.crons import EnvironmentCrons
from server.database import Database
from server.denials import Denials, DeniedError
from server.edge.service import serve_edge
from server.errors import ApiError, UnexpectedErrors, in_one_line
from server.executions import ExecutionDocuments
from server.grants import KnownGrants
from server.headers import SecurityHeaders
from server.identities import KnownTokens
from server.lost_workflows import keep_ending_lost
from server.memory import GiveBackMemory
from server.metrics import Metrics, serve_metrics
from server.pause_notices import keep_delivering
from server.preemption import PromotedSnapshots
from server.projects import Project, Role
from server.releases import Releases
from server.retention import keep_expiring
from server.scheduling import ScheduledEnvironments
from server.sealing import KeyRing
from server.settings import ServerSettings
from server.signin import pages, provider
from server.signin import routes as sign_in_routes
from server.signin.expiring import keep_forgetting
from server.signin.provider import provider_client
from server.signin.service import SignIn
from server.temporal import TemporalGateway
from server.temporal_connection import TemporalConnection
from server.temporal_tokens import EdgePass, TemporalTokens
from server.traces import RequestSpans
from server.unusable import UNUSABLE, refusal_of
from server.waiting import keep_submitting
from tcloud.tracing import is_tracing

__all__ = ["create_app"]

_log = structlog.get_logger(__name__)
_PROJECT_PATH = "/sqlmesh/{org}/{project}"
_PUBLIC_PATH = "/api/v1/"
_SMALLEST_COMPRESSED_BYTES = 2048
_ROUTERS = (
    plans.router,
    runs.router,
    queries.router,
    evaluations.router,
    events.router,
    units.router,
    environments.router,
    pauses.router,
    audit_log.router,
    grants.router,
    executors.router,
    identities.router,
    connections.router,
    pythons.router,
    state.router,
    codec.router,
    public.router,
)
_DESCRIPTION = """
Scheduler of SQLMesh projects on Temporal. Every path below `/sqlmesh/<org>/<project>/api` takes a bearer token, whose
client is granted actions (`view`, `plan`, `run`, `pause`, `query`, `manage`) in environments and for models, or is an
`executor` or `worker`; `x-permission` says of each call what it takes, and where. Errors are
`{"code": "TM-…", "message": "what, where, what to do"}`, and `error_type` where SQLMesh raised it; the codes are
stable. Times are UTC; intervals are half-open.
"""
_TAGS = [
    {
        "name": "plans",
        "description": "Submit, list, cancel; their evaluations. Executors and workers report here.",
    },
    {"name": "runs", "description": "Start, list, cancel; evaluations. Executors and workers report here."},
    {"name": "evaluations", "description": "The history of a model over all runs and plans; logs."},
    {"name": "progress", "description": "The calls of SQLMesh's console while a plan or run goes on, as events."},
    {"name": "environments", "description": "Environments of SQLMesh's state, their crons and Temporal schedules."},
    {"name": "pauses", "description": "Environments and models that runs leave out: pause, resume."},
    {"name": "audit log", "description": "Who did what, and when, or was not allowed to; entries are only ever added."},
    {"name": "grants", "description": "Who may do what, and where."},
    {
        "name": "python environments",
        "description": "What models run in: pinned sets of packages, and who asks for them.",
    },
    {"name": "executors", "description": "Who is there to do the work, and what a newcomer has to know."},
    {"name": "identities", "description": "Services and people who may sign in, for the server's administrators."},
    {"name": "connections", "description": "The vault: connections of gateways, which only executors open."},
    {"name": "state", "description": "SQLMesh's `StateSync` over HTTP: everybody reads, executors write."},
    {"name": "executions", "description": "For executors: claims, records and leases of the units they evaluate."},
    {"name": "queries", "description": "Questions to warehouses, and the janitor: executors do them, one answer each."},
    {"name": "codec", "description": "Temporal's remote data encoding: how the Web UI shows what is encrypted."},
    {"name": "public", "description": "Stable reads for tools that mirror runs elsewhere: `v1` only ever gets more."},
    {"name": "health", "description": "For load balancers and supervisors; without a token."},
]


def create_app(
    settings: ServerSettings,
    database: Database,
    projects: Sequence[Project],
    connection: TemporalConnection | None = None,
) -> FastAPI:
    """Builds the application; whoever builds it owns the database and closes it.

    Args:
        settings: What the server is told.
        database: Its records, and SQLMesh's state.
        projects: Those that it serves.
        connection: How Temporal is reached; if not given, as Temporal's variables say.

    Raises:
        ValueError: If Temporal's variables mean nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stop_metrics: Callable[[], None] | None = None
        async with _edge(app), anyio.create_task_group() as background:
            if settings.metrics_port is not None:
                metrics = Metrics(database, app.state.temporal, projects)
                stop_metrics = serve_metrics(metrics, settings.metrics_host, settings.metrics_port)
                background.start_soon(metrics.keep_measuring)
            background.start_soon(app.state.temporal.keep_signed_in)
            background.start_soon(keep_submitting, database, app.state.temporal, projects)
            background.start_soon(keep_ending_lost, database, app.state.temporal, projects)
            background.start_soon(keep_delivering, database, app.state.temporal, projects)
            background.start_soon(keep_expiring, database, projects, timedelta(days=settings.retention_days))
            background.start_soon(keep_forgetting, database)
            background.start_soon(app.state.releases.keep_telling)
            yield
            background.cancel_scope.cancel()
        if stop_metrics is not None:
            stop_metrics()
        await app.state.temporal.close()

    app = FastAPI(
        title="Tempomesh",
        version=version("tempomesh"),
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # It guards against forged requests of a browser with cookies; here a token in a header is what counts, and the
        # pages of signing in have a token in every form.
        strict_content_type=False,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.projects = frozenset(projects)
    app.state.sign_in = SignIn.of(settings, database)
    app.state.provider = provider_client(settings.provider) if settings.provider else None
    app.state.tokens = KnownTokens(database, app.state.sign_in.issuer.keys, settings.root_url)
    app.state.grants = KnownGrants(database)
    app.state.denials = Denials(database)
    app.state.vault = Vault(KeyRing(settings.secret_keys))
    app.state.executions = ExecutionDocuments()
    app.state.crons = EnvironmentCrons()
    app.state.promoted = PromotedSnapshots()
    app.state.scheduled = ScheduledEnvironments(settings.scheduled_environments)
    app.state.connection = connection or TemporalConnection.load()
    app.state.temporal_tokens = TemporalTokens(app.state.sign_in.issuer.keys)
    app.state.temporal = TemporalGateway(settings, app.state.connection, projects, app.state.temporal_tokens)
    app.state.releases = Releases(app.state.temporal)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(GiveBackMemory)
    app.add_middleware(LimitBodies, limit=settings.max_body_bytes)
    app.add_middleware(GunzipRequests)
    app.add_middleware(GZipMiddleware, minimum_size=_SMALLEST_COMPRESSED_BYTES, compresslevel=1)
    app.add_middleware(CodecCors, settings=settings)
    app.add_middleware(RequestLogs)
    app.add_middleware(SecurityHeaders)
    if is_tracing():
        app.add_middleware(RequestSpans)
    for router in (_health, api_page.router, sign_in_routes.router, pages.router, provider.router):
        declare_permissions(router)
        app.include_router(router)
    for router in _ROUTERS:
        declare_permissions(router)
        app.include_router(
            router, prefix=f"{_PROJECT_PATH}/api", dependencies=[Depends(_known_project)], responses=EVERYWHERE
        )
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    for unusable in UNUSABLE:
        app.add_exception_handler(unusable, _unusable)
    return app


@asynccontextmanager
async def _edge(app: FastAPI) -> AsyncIterator[None]:
    settings: ServerSettings = app.state.settings
    if settings.edge_port is None:
        yield
        return

    async def bearer(token: str) -> EdgePass | None:
        found: EdgePass | None = await app.state.temporal_tokens.read_edge(token)
        if found is None or found.project not in app.state.projects:
            return None
        # A token outlives what it was given for by minutes; what its bearer may do is asked with each call.
        permissions = await app.state.grants.of(found.project, found.identity_id)
        return found if Role.EXECUTOR in permissions.machine_roles else None

    address = f"{settings.edge_host}:{settings.edge_port}"
    async with serve_edge(address, app.state.connection, bearer, lambda: app.state.temporal.token):
        yield


_health = APIRouter(tags=["health"], dependencies=[Depends(open_to_all)])


@_health.get("/healthz", summary="Whether the process lives", response_class=PlainTextResponse)
async def healthz() -> str:
    return "ok\n"


@_health.get("/readyz", summary="Whether PostgreSQL and Temporal answer", response_class=PlainTextResponse)
async def readyz(request: Request) -> PlainTextResponse:
    waiting = [
        reason
        for reason in (
            await _database_trouble(request.app.state.database),
            *[await _temporal_trouble(request.app.state.temporal, project) for project in request.app.state.projects],
        )
        if reason
    ]
    if waiting:
        return PlainTextResponse("; ".join(waiting) + "\n", status_code=503)
    return PlainTextResponse("ready\n")


async def _database_trouble(database: Database) -> str | None:
    try:
        await run_in_threadpool(_ping, database)
    except OperationalError:
        return "PostgreSQL does not answer"
    return None


async def _temporal_trouble(temporal: TemporalGateway, project: Project) -> str | None:
    try:
        return None if await temporal.is_healthy(project) else f"Temporal does not serve {project.namespace}"
    except ApiError as error:
        return error.message


def _ping(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def _known_project(project: Annotated[Project, Depends(project_of)]) -> Project:
    return project


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class
    if isinstance(error, DeniedError):
        await request.app.state.denials.record(error)
    body = {"code": error.code, "message": in_one_line(error.message)}
    if _PUBLIC_PATH in request.url.path:
        # Where clients of the public API look for it: without one they do not take a 404 for an answer.
        body["detail"] = body["message"]
    if error.error_type:
        body["error_type"] = error.error_type
    return JSONResponse(body, status_code=error.status)


async def _unusable(request: Request, error: Exception) -> JSONResponse:
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    return await _api_error(request, refusal)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    message = in_one_line(f"{request.method} {request.url.path}: {error.detail}.")
    code = "TM-SIZE" if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else "TM-HTTP"
    return JSONResponse({"code": code, "message": message}, status_code=error.status_code, headers=error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"code": "TM-REQUEST", "message": in_one_line(f"{where}: {first['msg']}")}, status_code=422)


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    _log.warning("database_unreachable", path=request.url.path, error=str(error).splitlines()[0])
    message = "The server cannot reach its PostgreSQL; it tries again with the next request."
    return JSONResponse({"code": "TM-DATABASE", "message": message}, status_code=503)
