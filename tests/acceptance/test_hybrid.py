"""Executors in a network of their own: through the public edge, with TLS, beside others that have another gateway."""

import asyncio
import base64
import json
import os
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg2
import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from activities.discretion import NO_ROWS
from stack.children import ChildSpec
from stack.gateways import connection_variables
from stack.ports import free_ports
from stack.processes import tcloud_command
from tcloud.api.client import Api
from tcloud.api.events import End
from tcloud.wire.executors import ExecutorKind
from tcloud.wire.queries import QueryKind, QueryRequest
from tcloud.wire.runs import RunOptions
from tests.eventually import eventually
from tests.fixtures.certificates import client_certificate
from tests.fixtures.children import running
from tests.fixtures.databases import Database, PostgresServer
from tests.fixtures.temporal import TemporalServer

pytestmark = pytest.mark.timeout(280)

CADDYFILE = Path(__file__).parent.parent.parent / "deploy" / "caddy" / "Caddyfile"
FOR_TESTS = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
MUTUAL_TLS = """
localhost:%d {
	tls internal {
		client_auth {
			mode require_and_verify
			trust_pool file %s
		}
	}
	reverse_proxy h2c://%s
}
"""
CONFIG = """
gateways:
  office: {scheduler: {type: cloud}}
  home: {scheduler: {type: cloud}}
default_gateway: office
gateway_managed_virtual_layer: true
model_defaults: {dialect: postgres, start: 2025-01-01, cron: '@daily'}
"""
MODELS = {
    "bought": "MODEL (name shop.bought, kind INCREMENTAL_BY_TIME_RANGE (time_column day));"
    "SELECT @start_ds::DATE AS day, 1 AS amount",
    "patients": "MODEL (name clinic.patients, gateway home, kind INCREMENTAL_BY_TIME_RANGE (time_column day));"
    "SELECT @start_ds::DATE AS day, 'Ada' AS name",
    "visits": "MODEL (name clinic.visits, gateway home, kind FULL, audits (not_null(columns := (name))));"
    "SELECT name FROM clinic.patients",
}


@contextmanager
def caddy(folder: Path, ports: tuple[int, int, int, int], temporal: TemporalServer, clients: Path) -> Iterator[Path]:
    """The edge's Caddyfile, and one more site that asks clients of Temporal for their certificates; yields the root."""
    public, inside, server, edge = ports
    config = folder / "Caddyfile"
    config.write_text(FOR_TESTS + CADDYFILE.read_text() + MUTUAL_TLS % (inside, clients, temporal.address))
    root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"

    async def is_ready() -> bool:
        if not root.exists():
            return False
        async with httpx.AsyncClient(verify=str(root), trust_env=False) as http:
            await http.get(f"https://localhost:{public}/healthz")
        return True

    spec = ChildSpec(
        name="caddy",
        command=[
            str(Path(sysconfig.get_path("scripts")) / "caddy"),
            "run",
            "--config",
            str(config),
            *("--adapter", "caddyfile"),
        ],
        log=folder / "caddy.log",
        is_ready=is_ready,
        environment={
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "TEMPOMESH_HOST": f"localhost:{public}",
            "TEMPOMESH_CADDY_TLS": "tls internal",
            "TEMPOMESH_SERVER": f"127.0.0.1:{server}",
            "TEMPOMESH_EDGE": f"127.0.0.1:{edge}",
        },
    )
    with running(spec):
        yield root


def test_gateways_at_home_and_at_the_office_in_one_plan(
    temporal: TemporalServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    namespace, elsewhere = (asyncio.run(temporal.fresh_namespace()) for _ in range(2))
    office, home = postgres.fresh_database("office"), postgres.fresh_database("home")
    public, inside, port, edge, health = free_ports(5)
    clients = client_certificate(tmp_path)
    url = f"https://localhost:{public}/sqlmesh/{namespace.replace('.', '/')}"

    with ExitStack() as stack:
        root = stack.enter_context(caddy(tmp_path, (public, inside, port, edge), temporal, clients.authority))
        trust = {"SSL_CERT_FILE": str(root)}
        frontend = {
            "TEMPORAL_ADDRESS": f"localhost:{inside}",
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(root),
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(clients.certificate),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(clients.key),
        }

        def start(name: str, command: list[str], environment: Mapping[str, str]) -> None:
            async def is_ready() -> bool:
                if name != "server":
                    return True
                async with httpx.AsyncClient(trust_env=False) as http:
                    return (await http.get(f"http://127.0.0.1:{port}/readyz")).is_success

            log = tmp_path / f"{name}.log"
            command = [*tcloud_command(), *command]
            stack.enter_context(
                running(ChildSpec(name, command, log, is_ready, {**environment, "HOME": str(tmp_path)}))
            )

        start(
            "server",
            ["server"],
            {**frontend, **_server(postgres.fresh_database("server"), [namespace, elsewhere], port, edge, public)},
        )
        start("worker", ["worker"], {**frontend, **_sign_in(f"http://127.0.0.1:{port}{urlsplit(url).path}", "worker")})
        probed = {ExecutorKind.RUN: {"TCLOUD_HEALTH_PORT": str(health)}, ExecutorKind.APPLY: {}}
        for kind in ExecutorKind:
            at_home = connection_variables("home", home.connection)
            at_office = connection_variables("office", office.connection)
            signed_in = {**_sign_in(url, "executor"), **trust}
            told = {"TCLOUD_EXECUTOR_KEEP_HOME": "false"}
            start(f"office-{kind}", ["executor", kind], {**signed_in, **at_office, **told})
            start(f"home-{kind}", ["executor", kind], {**signed_in, **at_home, **probed[kind]})

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(root))
            api = stack.enter_context(Api(url, "admin-token"))
            eventually(lambda: _served(api) == ["home", "home", "office", "office"], 60)
            # What is asked of Temporal for that has to pass the edge.
            assert httpx.get(f"http://127.0.0.1:{health}/readyz", trust_env=False).text == "ok\n"
            planned = _tcloud(tmp_path, {**_sign_in(url, "admin"), **trust})
            assert planned.returncode == 0, planned.stdout + planned.stderr
            assert _rows(office, "SELECT min(day)::text FROM shop.bought") == [("2025-01-01",)]
            assert _rows(home, "SELECT DISTINCT name FROM clinic.visits") == [("Ada",)]
            # Nothing of one gateway's was done at the other.
            schemas = "SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE '%%%s%%'"
            assert _rows(office, schemas % "clinic") == _rows(home, schemas % "shop") == [(0,)]

            run = api.start_run(RunOptions(environment="prod", execution_time="2025-01-10 12:00:00", ignore_cron=True))
            eventually(lambda: api.run(run.run_id).status.is_final, 60)
            ended = {e.model.split('"')[-2]: e.status for e in api.run(run.run_id).evaluations or []}
            assert ended == {"bought": "success", "patients": "success", "visits": "success"}

            assert _asked(api, "office", "SELECT 43 AS n") == (None, {"rows": [{"$tuple": [43]}]})
            assert _asked(api, "home", "SELECT 42 AS n") == (NO_ROWS, None)

            asyncio.run(_attack(url, root, root.read_bytes(), namespace))
            # Of the other project, the same executors know nothing.
            other = url.replace(namespace.replace(".", "/"), elsewhere.replace(".", "/"))
            assert stack.enter_context(Api(other, "admin-token")).executors() == []
    log = (tmp_path / "server.log").read_text()
    assert home.connection["database"] not in log


async def _attack(url: str, root: Path, authority: bytes, namespace: str) -> None:
    """What is refused behind the proxy is refused in front of it."""
    async with httpx.AsyncClient(verify=str(root), headers={"Authorization": "Bearer executor-token"}) as http:
        told = (await http.get(f"{url}/api/bootstrap?queue=run")).json()["temporal"]
    tls = TLSConfig(server_root_ca_cert=authority)
    attacker = await Client.connect(told["address"], namespace=namespace, tls=tls, api_key=told["token"])
    for attempt in (
        attacker.start_workflow("RunWorkflow", id="evil", task_queue="control"),
        attacker.get_workflow_handle("environment/prod").terminate(),
        attacker.service_client.check_health(),
    ):
        with pytest.raises(RPCError) as caught:
            await attempt
        assert caught.value.status is RPCStatusCode.PERMISSION_DENIED
    with pytest.raises(RuntimeError, match="token that the server gives"):
        await Client.connect(told["address"], namespace=namespace, tls=tls, api_key="executor-token")


def _server(database: Database, namespaces: list[str], port: int, edge: int, public: int) -> dict[str, str]:
    clients = [{"client_id": role, "role": role, "secret": f"{role}-token"} for role in ("admin", "worker", "executor")]
    settings = {
        "DATABASE_URL": database.url,
        "PORT": str(port),
        "EDGE_PORT": str(edge),
        "TEMPORAL_PUBLIC_ADDRESS": f"localhost:{public}",
        "PROJECTS": json.dumps(namespaces),
        "CODEC_KEYS": json.dumps({"test": base64.b64encode(bytes(32)).decode()}),
        "SECRET_KEYS": json.dumps({"test": base64.b64encode(bytes(32)).decode()}),
        "CLIENTS": json.dumps(clients),
    }
    return {f"TEMPOMESH_SERVER_{name}": value for name, value in settings.items()}


def _sign_in(url: str, role: str) -> dict[str, str]:
    return {"TCLOUD_URL": url, "TCLOUD_CLIENT_ID": role, "TCLOUD_CLIENT_SECRET": f"{role}-token"}


def _tcloud(folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    project = folder / "project"
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(CONFIG)
    for name, model in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(model)
    return subprocess.run(
        [
            *(*tcloud_command(), "sqlmesh", "-p", str(project), "plan", "--auto-apply", "--no-prompts"),
            *("--execution-time", "2025-01-05 12:00:00"),
        ],
        env={**os.environ, **environment, "TCLOUD_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _asked(api: Api, gateway: str, sql: str) -> tuple[str | None, object]:
    query = QueryRequest(
        query_id=uuid4().hex, kind=QueryKind.FETCH, gateway=gateway, arguments={"method": "fetchall", "sql": sql}
    )
    api.submit_query(query)
    *_, end = api.query_events(query.query_id)
    assert isinstance(end, End)
    return end.error_message, api.query_answer(query.query_id) if end.status == "success" else None


def _served(api: Api) -> list[str]:
    return sorted(gateway.name for e in api.executors() if e.status == "ready" for gateway in e.gateways)


def _rows(database: Database, sql: str) -> list[tuple[object, ...]]:
    with psycopg2.connect(database.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()
