"""Tempomesh's own processes, as children of the stack: how each is told where the others are, and when it serves."""

import shutil
import signal
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from pydantic import TypeAdapter
from tcloud.wire.executors import Executor, ExecutorKind
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from stack.children import ChildSpec
from stack.credentials import Credentials
from stack.data_dir import DataDir
from workflows.interfaces import CONTROL_QUEUE

__all__ = ["Addresses", "executor_spec", "server_spec", "tcloud_command", "worker_spec"]

ADMIN = "admin"
EXECUTOR_GRACE = timedelta(seconds=5)
"""On one's own machine nobody waits minutes for a model at Ctrl-C: what is in flight is handed back to Temporal."""

_EXECUTORS = TypeAdapter(list[Executor])


@dataclass(frozen=True)
class Addresses:
    """Where everything is."""

    host: str
    port: int
    temporal: str
    temporal_ui: str
    namespace: str
    """`<org>.<project>`."""
    database_url: str
    """The server's database, for SQLAlchemy."""

    @property
    def server(self) -> str:
        """The server's root."""
        return f"http://{self.host}:{self.port}"

    @property
    def project(self) -> str:
        """The project's URL: `TCLOUD_URL`."""
        org, project = self.namespace.split(".", 1)
        return f"{self.server}/sqlmesh/{org}/{project}"


def tcloud_command() -> list[str]:
    """The `tcloud` of this very installation."""
    name = "tcloud"
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    return [found] if found else [sys.executable, "-P", "-c", "from tcloud.main import main; main()"]


def server_spec(data: DataDir, addresses: Addresses, credentials: Credentials) -> ChildSpec:
    """`tcloud server`: ready when it says so itself."""

    async def is_ready() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            return (await http.get(f"{addresses.server}/readyz")).is_success

    return ChildSpec(
        name="server",
        command=[*tcloud_command(), "server"],
        log=data.log("server"),
        is_ready=is_ready,
        environment={},
    )


def worker_spec(data: DataDir, addresses: Addresses, credentials: Credentials) -> ChildSpec:
    """`tcloud worker`: ready when Temporal sees it poll."""

    async def is_ready() -> bool:
        client = await Client.connect(addresses.temporal)
        request = DescribeTaskQueueRequest(
            namespace=addresses.namespace,
            task_queue=TaskQueue(name=CONTROL_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        return bool((await client.workflow_service.describe_task_queue(request)).pollers)

    return ChildSpec(
        name="worker",
        command=[*tcloud_command(), "worker"],
        log=data.log("worker"),
        is_ready=is_ready,
        environment=_sign_in(addresses, "worker", credentials.worker.get_secret_value()),
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
    admin = {"Authorization": f"Bearer {credentials.admin.get_secret_value()}"}

    async def is_ready() -> bool:
        async with httpx.AsyncClient(trust_env=False, headers=admin) as http:
            answer = (await http.get(f"{addresses.project}/api/executors")).raise_for_status()
        return any(
            executor.kind is kind and executor.status == "ready" and executor.last_seen_at >= since
            for executor in _EXECUTORS.validate_json(answer.content)
        )

    return ChildSpec(
        name=f"executor-{kind.value}",
        command=[*tcloud_command(), "executor", kind.value],
        log=data.log(f"executor-{kind.value}"),
        is_ready=is_ready,
        environment={
            **_sign_in(addresses, "executor", credentials.executor.get_secret_value()),
            **gateway_variables,
        },
        stop_signal=signal.SIGTERM,
        grace=EXECUTOR_GRACE + timedelta(seconds=5),
        start_timeout=timedelta(seconds=90),
    )


def _sign_in(addresses: Addresses, client_id: str, secret: str) -> dict[str, str]:
    return {"TCLOUD_URL": addresses.project, "TCLOUD_CLIENT_ID": client_id, "TCLOUD_CLIENT_SECRET": secret}
