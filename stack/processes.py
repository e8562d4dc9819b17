"""Tempomesh's own processes, as children of the stack: how each is told where the others are, and when it serves."""

import asyncio
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr, TypeAdapter

from stack.children import ChildSpec
from stack.credentials import Credentials
from stack.data_dir import DataDir
from tcloud.wire.executors import ControlWorker, Executor, ExecutorKind

__all__ = ["Addresses", "executor_spec", "project_url", "server_spec", "tcloud_command", "worker_spec"]

ADMIN = "admin"
WORKER = "worker"
EXECUTOR = "executor"
"""The stack's clients: each is named like its role."""

KEY_ID = "stack"
PROBE_TIMEOUT_SECONDS = 5.0
EXECUTOR_GRACE = timedelta(seconds=5)
"""On one's own machine nobody waits for a long model after Ctrl-C: Temporal gives the evaluation out again."""

_EXECUTOR_VARIABLES = (
    *("TCLOUD_EXECUTOR_CONCURRENCY", "TCLOUD_EXECUTOR_EVALUATION_TIMEOUT", "TCLOUD_EXECUTOR_CACHE"),
    "TCLOUD_EXECUTOR_RUNNER_MEMORY_LIMIT_BYTES",
)
"""What the shell of `tcloud dev` may set for its executors."""

_EXECUTORS = TypeAdapter(list[Executor])
_CONTROL_WORKERS = TypeAdapter(list[ControlWorker])


@dataclass(frozen=True)
class Addresses:
    """What every process is told: where the others are, and how to log."""

    host: str
    port: int
    temporal: str
    temporal_ui: str
    namespace: str
    """`<org>.<project>`."""
    database_url: str
    """The server's database, for SQLAlchemy."""
    log_json: bool = False
    """Whether everybody logs JSON."""

    @property
    def server(self) -> str:
        """The server's root."""
        return f"http://{self.host}:{self.port}"

    @property
    def project(self) -> str:
        """The project's URL: `TCLOUD_URL`."""
        return project_url(self.host, self.port, self.namespace)


def project_url(host: str, port: int, namespace: str) -> str:
    """The URL of a project."""
    org, project = namespace.split(".", 1)
    return f"http://{host}:{port}/sqlmesh/{org}/{project}"


def tcloud_command() -> list[str]:
    """The `tcloud` of this very installation."""
    name = "tcloud"
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    return [found] if found else [sys.executable, "-P", "-c", "from tcloud.main import main; main()"]


def server_spec(data: DataDir, addresses: Addresses, credentials: Credentials) -> ChildSpec:
    """`tcloud server`: ready when it says so itself."""

    async def is_ready() -> bool:
        return await asyncio.to_thread(_get, addresses, "/readyz") is not None

    return ChildSpec(
        name="server",
        command=[*tcloud_command(), "server"],
        log=data.log("server"),
        is_ready=is_ready,
        environment={
            "TEMPOMESH_SERVER_HOST": addresses.host,
            "TEMPOMESH_SERVER_PORT": str(addresses.port),
            "TEMPOMESH_SERVER_DATABASE_URL": addresses.database_url,
            "TEMPORAL_ADDRESS": addresses.temporal,
            # Whatever the user's own profile of Temporal says is not about this one.
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "TEMPOMESH_SERVER_TEMPORAL_UI_URL": addresses.temporal_ui,
            # The Web UI has no token to send, and the address bar may say either name of the loopback.
            "TEMPOMESH_SERVER_CODEC_OPEN_TO_LOOPBACK": "true",
            "TEMPOMESH_SERVER_CODEC_ORIGINS": json.dumps([f"http://localhost:{urlsplit(addresses.temporal_ui).port}"]),
            "TEMPOMESH_SERVER_LOG_JSON": str(addresses.log_json),
            "TEMPOMESH_SERVER_PROJECTS": json.dumps([addresses.namespace]),
            "TEMPOMESH_SERVER_CODEC_KEYS": json.dumps({KEY_ID: credentials.codec_key.get_secret_value()}),
            "TEMPOMESH_SERVER_SECRET_KEYS": json.dumps({KEY_ID: credentials.secret_key.get_secret_value()}),
            "TEMPOMESH_SERVER_CACHE_DIR": str(data.server_cache),
            "TEMPOMESH_SERVER_CLIENTS": json.dumps(
                [
                    {"client_id": role, "role": role, "secret": secret.get_secret_value()}
                    for role, secret in (
                        (ADMIN, credentials.admin),
                        (WORKER, credentials.worker),
                        (EXECUTOR, credentials.executor),
                    )
                ]
            ),
        },
        cwd=data.root,
    )


def worker_spec(data: DataDir, addresses: Addresses, credentials: Credentials) -> ChildSpec:
    """`tcloud worker`: ready when Temporal sees it poll."""
    path = f"{urlsplit(addresses.project).path}/api/control-workers"

    async def is_ready() -> bool:
        answer = await asyncio.to_thread(_get, addresses, path, credentials.admin)
        return answer is not None and bool(_CONTROL_WORKERS.validate_json(answer))

    return ChildSpec(
        name="worker",
        command=[*tcloud_command(), "worker"],
        log=data.log("worker"),
        is_ready=is_ready,
        environment=_sign_in(data, addresses, WORKER, credentials.worker),
        cwd=data.root,
    )


def executor_spec(
    kind: ExecutorKind,
    data: DataDir,
    addresses: Addresses,
    credentials: Credentials,
    gateway_variables: Mapping[str, str],
) -> ChildSpec:
    """`tcloud executor run` or `apply`: ready when the server has it among the executors that are."""
    since = datetime.now(UTC)
    path = f"{urlsplit(addresses.project).path}/api/executors"

    async def is_ready() -> bool:
        answer = await asyncio.to_thread(_get, addresses, path, credentials.admin)
        return answer is not None and any(
            executor.kind is kind and executor.status == "ready" and executor.last_seen_at >= since
            for executor in _EXECUTORS.validate_json(answer)
        )

    return ChildSpec(
        name=f"executor-{kind.value}",
        command=[*tcloud_command(), "executor", kind.value],
        log=data.log(f"executor-{kind.value}"),
        is_ready=is_ready,
        environment={
            **_sign_in(data, addresses, EXECUTOR, credentials.executor),
            **{name: value for name, value in os.environ.items() if name in _EXECUTOR_VARIABLES},
            "TCLOUD_EXECUTOR_GRACE": f"PT{EXECUTOR_GRACE.seconds}S",
            **gateway_variables,
        },
        cwd=data.root,
        grace=EXECUTOR_GRACE + timedelta(seconds=5),
        start_timeout=timedelta(seconds=90),
    )


def _get(addresses: Addresses, path: str, token: SecretStr | None = None) -> bytes | None:
    """Asks the server; None if it answers that it cannot. Asked many times a second while everybody starts: light."""
    with closing(HTTPConnection(addresses.host, addresses.port, timeout=PROBE_TIMEOUT_SECONDS)) as connection:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    return body if response.status == HTTPStatus.OK else None


def _sign_in(data: DataDir, addresses: Addresses, client_id: str, secret: SecretStr) -> dict[str, str]:
    return {
        "TCLOUD_URL": addresses.project,
        "TCLOUD_CLIENT_ID": client_id,
        "TCLOUD_CLIENT_SECRET": secret.get_secret_value(),
        "TCLOUD_HOME": str(data.client_home),
        "TCLOUD_LOG_JSON": str(addresses.log_json),
    }
