"""The whole stack: what there is, in which order it starts, and in which it stops."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from stack.credentials import load_credentials
from stack.data_dir import DataDir, write_private
from stack.gateways import connection_variables
from stack.ports import require_free
from stack.postgres import SERVER_DATABASE, WAREHOUSE_DATABASE, Postgres
from stack.processes import ADMIN, Addresses, executor_spec, project_url, server_spec, worker_spec
from stack.settings import TemporalDevSettings
from stack.supervisor import Reporter, Supervisor
from stack.temporal import Temporal
from tcloud.wire.executors import ExecutorKind

__all__ = ["PROCESSES", "EmbeddedStack", "Ports"]

WAREHOUSE = "warehouse"
"""The gateway that the embedded PostgreSQL is."""

STOPS = (("executor-run", "executor-apply"), ("worker",), ("server",), ("temporal", "postgres"))
"""Who depends on others stops before them."""

PROCESSES = ("postgres", "temporal", "server", "worker", "executor-run", "executor-apply")


@dataclass(frozen=True)
class Ports:
    """Where the stack listens, all on the loopback."""

    server: int
    temporal: int
    temporal_ui: int

    def require_free(self) -> None:
        """Raises a StackError that says which port is taken, by whom, and which option chooses another."""
        require_free({"--port": self.server, "--temporal-port": self.temporal, "--temporal-ui-port": self.temporal_ui})


class EmbeddedStack:
    """Temporal, PostgreSQL, server, worker and executors, as children of this process.

    As an asynchronous context manager it owns the data directory and stops all that it started.

    Args:
        data: where everything is kept.
        ports: must be free.
        settings: what the embedded Temporal is told.
        reporter: who hears how it goes.
        gateway_variables: the executors' connections; None makes the embedded PostgreSQL the gateway `warehouse`.
        is_durable: whether data has to survive a crash of the machine.
        log_json: whether our own processes log JSON.
    """

    def __init__(
        self,
        data: DataDir,
        ports: Ports,
        settings: TemporalDevSettings,
        reporter: Reporter,
        *,
        gateway_variables: Mapping[str, str] | None = None,
        is_durable: bool = True,
        log_json: bool = False,
    ) -> None:
        self.data = data
        self.supervisor = Supervisor(reporter)
        self._ports = ports
        self.credentials = load_credentials(data.secrets)
        self._postgres = Postgres(data.postgres, data.log("postgres"), is_durable=is_durable)
        self._gateway_variables = gateway_variables
        host = str(settings.listen.ip)
        self._temporal = Temporal(
            settings,
            data.temporal_database,
            data.log("temporal"),
            port=ports.temporal,
            ui_port=ports.temporal_ui,
            codec_endpoint=f"{project_url(host, ports.server, settings.namespaces[0])}/api/codec",
        )
        self.addresses = Addresses(
            host=host,
            port=ports.server,
            temporal=self._temporal.address,
            temporal_ui=self._temporal.ui_url,
            namespace=settings.namespaces[0],
            database_url=self._postgres.url(SERVER_DATABASE),
            log_json=log_json,
        )

    @property
    def warehouse_dsn(self) -> str:
        """The embedded warehouse, as psql takes it."""
        return self._postgres.dsn(WAREHOUSE_DATABASE)

    @property
    def client_environment(self) -> dict[str, str]:
        """The `TCLOUD_*` variables of an administrator."""
        return {
            "TCLOUD_URL": self.addresses.project,
            "TCLOUD_CLIENT_ID": ADMIN,
            "TCLOUD_CLIENT_SECRET": self.credentials.admin.get_secret_value(),
        }

    async def __aenter__(self) -> Self:
        await self.supervisor.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.supervisor.restart_nothing()
            for names in STOPS:
                await self.supervisor.stop(names)
        finally:
            await self.supervisor.__aexit__(kind, error, traceback)
            self._postgres.remove_socket_folder()

    async def start(self) -> None:
        """Starts everything; when it returns, all of it serves, and `client.env` is there.

        Raises:
            StackError: if a port is taken or a process does not come to serve; leaving the context stops the others.
        """
        self._ports.require_free()
        lines = [f"{name}={value}\n" for name, value in self.client_environment.items()]
        write_private(self.data.client_env, "".join(lines))
        try:
            async with asyncio.TaskGroup() as tasks:
                self._start_all(tasks)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    def _start_all(self, tasks: asyncio.TaskGroup) -> None:
        """Everything at once: importing takes them longest, and each waits for those that it needs."""
        data, addresses, credentials = self.data, self.addresses, self.credentials
        variables = self._gateway_variables
        if variables is None:
            variables = connection_variables(WAREHOUSE, self._postgres.connection(WAREHOUSE_DATABASE))
        start = self.supervisor.start
        tasks.create_task(self._start_postgres_and_server())
        tasks.create_task(start(self._temporal.spec()))
        tasks.create_task(start(worker_spec(data, addresses, credentials)))
        for kind in ExecutorKind:
            tasks.create_task(start(executor_spec(kind, data, addresses, credentials, variables)))

    async def _start_postgres_and_server(self) -> None:
        await self._start_postgres()
        await self.supervisor.start(server_spec(self.data, self.addresses, self.credentials))

    async def _start_postgres(self) -> None:
        await asyncio.to_thread(self._postgres.initialize, self.supervisor.mark)
        await self.supervisor.start(self._postgres.spec())
        for database in (SERVER_DATABASE, WAREHOUSE_DATABASE):
            await asyncio.to_thread(self._postgres.create_database, database)
