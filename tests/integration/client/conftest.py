"""A real server on a real PostgreSQL, without Temporal: enough for everything that reads."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from server.executors import SQLMESH_VERSION
from stack.children import ChildSpec
from stack.ports import free_ports
from stack.processes import tcloud_command
from tcloud.wire.executors import ExecutorHeartbeat, ExecutorKind, Gateway
from tests.fixtures.children import running
from tests.fixtures.databases import PostgresServer
from tests.fixtures.preloaded import run_tcloud

CATALOG = "wh"
_PROJECTS = 60
CONFIG = """
gateways:
  warehouse:
    scheduler:
      type: cloud
default_gateway: warehouse
model_defaults:
  dialect: postgres
  start: 2024-01-01
"""
MODELS = {
    "orders": "MODEL (name demo.orders, kind INCREMENTAL_BY_TIME_RANGE(time_column ds), cron '@daily');\n"
    "SELECT 1::int AS id, '2024-01-01'::date AS ds WHERE '2024-01-01'::date BETWEEN @start_ds AND @end_ds",
    "totals": "MODEL (name demo.totals, kind FULL, cron '@daily');\nSELECT id FROM demo.orders",
}


@dataclass(frozen=True)
class Server:
    """A server with one client for each role, whose token is the role's name, and the viewer `ada`."""

    url: str

    def beat(self, *gateways: str) -> None:
        """Tells the server, as an executor does, which gateways are served."""
        heartbeat = ExecutorHeartbeat(
            identity="executor@test",
            kind=ExecutorKind.APPLY,
            host="test",
            version="0",
            sqlmesh_version=SQLMESH_VERSION,
            gateways=[
                Gateway(name=name, type="postgres", dialect="postgres", default_catalog=CATALOG) for name in gateways
            ],
        )
        httpx.post(
            f"{self.url}/api/executors",
            content=heartbeat.model_dump_json(),
            headers={"Authorization": "Bearer executor", "Content-Type": "application/json"},
        ).raise_for_status()

    def executors(self) -> list[dict[str, object]]:
        """What the server knows of executors."""
        answer = httpx.get(f"{self.url}/api/executors", headers={"Authorization": "Bearer viewer"}).raise_for_status()
        found: list[dict[str, object]] = answer.json()
        return found


@dataclass(frozen=True)
class Machine:
    """A data engineer's machine: a project, a home, and no connection to any warehouse."""

    folder: Path
    server: Server

    def environment(self, role: str = "developer") -> dict[str, str]:
        """The variables of a person with a role."""
        return {
            "TCLOUD_URL": self.server.url,
            "TCLOUD_TOKEN": role,
            "TCLOUD_HOME": str(self.folder / "home"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def tcloud(self, *arguments: str, role: str = "developer") -> subprocess.CompletedProcess[str]:
        """Runs `tcloud` in the project's folder."""
        self.server.beat("warehouse")
        variables = {**os.environ, **self.environment(role)}
        return run_tcloud(*arguments, environment=variables, folder=self.folder / "project", timeout=120)


@pytest.fixture(scope="session")
def server(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this process; each test has a project of its own name."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("server")
    projects = [f"acme.p{number}" for number in range(_PROJECTS)]
    roles = ("viewer", "developer", "admin", "executor", "worker")

    async def is_ready() -> bool:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"http://127.0.0.1:{port}/healthz")).is_success

    spec = ChildSpec(
        name="server",
        command=[*tcloud_command(), "server"],
        log=folder / "server.log",
        is_ready=is_ready,
        environment={
            "TEMPOMESH_SERVER_PORT": str(port),
            "TEMPOMESH_SERVER_DATABASE_URL": postgres.fresh_database("server").url,
            # Nobody listens there.
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
            "TEMPOMESH_SERVER_PROJECTS": json.dumps(projects),
            "TEMPOMESH_SERVER_CODEC_KEYS": json.dumps({"test": base64.b64encode(bytes(32)).decode()}),
            "TEMPOMESH_SERVER_SECRET_KEYS": json.dumps({"test": base64.b64encode(bytes(32)).decode()}),
            "TEMPOMESH_SERVER_CACHE_DIR": str(folder / "cache"),
            "TEMPOMESH_SERVER_CLIENTS": json.dumps(
                [{"client_id": r, "role": r, "secret": r} for r in roles]
                + [{"client_id": "ada", "role": "viewer", "secret": "ada"}]
            ),
        },
    )
    with running(spec):
        yield Server(f"http://127.0.0.1:{port}/sqlmesh/acme/")


@pytest.fixture(scope="session")
def project_numbers() -> Iterator[int]:
    """Numbers that no other test of this process has taken."""
    return iter(range(_PROJECTS))


@pytest.fixture
def machine(server: Server, project_numbers: Iterator[int], tmp_path: Path) -> Machine:
    """A machine with a small project that nobody has planned yet."""
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(CONFIG)
    for name, model in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(model)
    return Machine(tmp_path, Server(f"{server.url}p{next(project_numbers)}"))
