"""A server as it is run: uvicorn on a free port, PostgreSQL behind it; Temporal only where a test asks for it."""

import base64
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from server.app import create_app
from server.database import Database
from server.http_protocol import UVICORN
from server.preparation import prepare
from server.projects import Project, Role, parse_projects
from server.settings import ClientSettings, ServerSettings
from server.temporal_connection import TemporalConnection
from stack.ports import free_ports
from tcloud.wire.executors import ExecutorHeartbeat, ExecutorKind, Gateway
from tests.eventually import eventually
from tests.fixtures import databases
from tests.fixtures.temporal import TemporalServer

CODEC_KEYS = {"test": base64.b64encode(bytes(32)).decode()}
PROJECT = Project("local", "main")


@dataclass(frozen=True)
class RunningServer:
    """A server that serves, and its database."""

    url: str
    """Of the project."""
    database: Database
    settings: ServerSettings
    app: FastAPI

    def client(self, role: Role = Role.ADMIN) -> httpx.Client:
        """An HTTP client with a token of a role."""
        return httpx.Client(
            base_url=f"{self.url}/api/", headers={"Authorization": f"Bearer {role}-token"}, trust_env=False, timeout=60
        )


@contextmanager
def serving(
    database_url: str, cache_dir: Path, namespace: str, temporal_address: str, **more: object
) -> Iterator[RunningServer]:
    """Serves one project, or those of the settings that are given, until the context ends; `more` are such settings."""
    (port,) = free_ports(1)
    settings = ServerSettings.model_validate(
        {
            "port": port,
            "database_url": database_url,
            "projects": [namespace],
            "codec_keys": CODEC_KEYS,
            "secret_keys": CODEC_KEYS,
            "clients": [
                ClientSettings.model_validate({"client_id": role, "role": role, "secret": f"{role}-token"})
                for role in Role
            ],
            **more,
        }
    )
    project = Project.parse(namespace)
    projects = parse_projects(settings.projects)
    database = Database(database_url, pool_size=8, cache_dir=cache_dir)
    prepare(database, projects, settings.clients)
    app = create_app(settings, database, projects, TemporalConnection(temporal_address))
    server = uvicorn.Server(uvicorn.Config(app, port=port, timeout_graceful_shutdown=2, **UVICORN))
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield RunningServer(f"http://127.0.0.1:{port}/sqlmesh/{project.org}/{project.name}", database, settings, app)
    finally:
        server.should_exit = True
        thread.join()
        database.close()


@pytest.fixture(scope="session")
def migrated(postgres: databases.PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with all that a server makes in an empty one for `PROJECT`; a template, its servers have stopped."""
    empty = postgres.fresh_database("migrated")
    with closing(Database(empty.url, pool_size=1, cache_dir=tmp_path_factory.mktemp("migrated"))) as database:
        prepare(database, [PROJECT], [])
    return empty.name


@pytest.fixture
def database(postgres: databases.PostgresServer, migrated: str) -> databases.Database:
    """A database for one test, in which a server finds nothing to be migrated."""
    return postgres.fresh_database(template=migrated)


@pytest.fixture
def server(database: databases.Database, tmp_path: Path) -> Iterator[RunningServer]:
    """A server without a Temporal."""
    (nowhere,) = free_ports(1)
    with serving(database.url, tmp_path, PROJECT.namespace, f"127.0.0.1:{nowhere}") as running:
        yield running


@pytest.fixture
async def namespace(temporal: TemporalServer) -> str:
    """A namespace that no other test has."""
    return await temporal.fresh_namespace()


@pytest.fixture
def scheduled(
    database: databases.Database, tmp_path: Path, temporal: TemporalServer, namespace: str
) -> Iterator[RunningServer]:
    """A server with a Temporal."""
    with serving(database.url, tmp_path, namespace, temporal.address) as running:
        yield running


@pytest.fixture
def executor(server: RunningServer) -> Iterator[httpx.Client]:
    """What an executor calls with."""
    with server.client(Role.EXECUTOR) as client:
        yield client


@pytest.fixture
def admin(server: RunningServer) -> Iterator[httpx.Client]:
    """What an administrator calls with."""
    with server.client(Role.ADMIN) as client:
        yield client


@pytest.fixture
def worker(server: RunningServer) -> Iterator[httpx.Client]:
    """What the control worker calls with."""
    with server.client(Role.WORKER) as client:
        yield client


def report_gateway(
    executor: httpx.Client, name: str = "warehouse", kind: ExecutorKind = ExecutorKind.APPLY
) -> httpx.Response:
    """Lets an executor say that it lives and serves a gateway."""
    heartbeat = ExecutorHeartbeat(
        identity=f"{kind}-1",
        kind=kind,
        host="here",
        version="0.1.0",
        sqlmesh_version="0.236.4",
        gateways=[Gateway(name=name, type="postgres", dialect="postgres", default_catalog="warehouse")],
    )
    return executor.post("executors", json=heartbeat.model_dump(mode="json")).raise_for_status()
