"""The gateways that an executor serves: those of its own environment, and those of the project's vault."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from time import monotonic

import httpx
import structlog

from activities.connections import envelope_of
from envmanager.connections import ManagedConnections
from envmanager.errors import RunnerCrashedError, TaskFailedError, ZygoteFailedError
from envmanager.pool import Role, StateCallError
from envmanager.pools import RunnerPools
from tcloud.api.executor import ExecutorApi, RefusedError
from tcloud.wire.executions import OwnerKind
from tcloud.wire.executors import ExecutorHeartbeat, Gateway
from workers.connections import NotReachableError, WrongSettingsError

__all__ = ["ServedGateways", "own_gateways"]

_log = structlog.get_logger(__name__)
_OWN = re.compile(r"SQLMESH__GATEWAYS__(.+?)__CONNECTION__", re.IGNORECASE)
_CONCURRENT_TASKS = 4
"""What SQLMesh has for most warehouses; for an executor that does not know its own when it starts."""

_TRY_AGAIN_SECONDS = 30.0
_LONGEST_SECONDS = 120.0
"""A warehouse that has not answered by then must not keep the executor from hearing of the vault."""

_TROUBLE = (httpx.HTTPError, RefusedError, ValueError)
"""Of the server, or with what it answers."""

_WAREHOUSE_UNREACHABLE = "WarehouseUnreachableError"


def own_gateways(variables: Mapping[str, str]) -> set[str]:
    """The gateways whose connections an executor brings itself."""
    return {found.group(1).lower() for name in variables if (found := _OWN.match(name))}


class ServedGateways:
    """Asks each warehouse what planners have to know of it, and follows the vault.

    Args:
        api: The server.
        pools: Whose runner processes have the connections.
        managed: The vault's connections, as far as they are this executor's.
    """

    def __init__(self, api: ExecutorApi, pools: RunnerPools, managed: ManagedConnections):
        self._api = api
        self._pools = pools
        self.managed = managed
        self.gateways: list[Gateway] = []
        self.unusable: dict[str, str] = {}
        """Gateways of the vault that cannot be used now, and why."""
        self.notifies_of: frozenset[OwnerKind] = frozenset()
        """Of what the executor's configuration notifies somebody."""
        self._tried_at = 0.0

    def __contains__(self, name: object) -> bool:
        """Whether there is a connection for a gateway, by its name in lower case."""
        return any(gateway.name.lower() == name for gateway in self.gateways)

    async def start(self) -> None:
        """Reads the vault and asks the warehouses.

        Raises:
            NotReachableError: If a warehouse of the executor's own does not answer.
            WrongSettingsError: If one of its own connections is incomplete.
        """
        try:
            await self._read()
        except _TROUBLE as error:
            # It comes with a later heartbeat.
            _log.warning("connections_not_read", reason=_reason(error))
        try:
            await self._describe()
        except TaskFailedError as error:
            first_line = str(error).strip().splitlines()[0]
            if error.error_type != _WAREHOUSE_UNREACHABLE:
                raise WrongSettingsError(f"The SQLMESH__… variables of this executor: {first_line}") from error
            raise NotReachableError(
                f"The warehouse cannot be reached: {first_line} (set by the variables SQLMESH__GATEWAYS__…)"
            ) from error
        if not self.gateways and not self.unusable:
            _log.warning("no_connection_yet", hint=_NONE)

    async def follow(self, vault: str | None) -> bool:
        """Brings runners and gateways in line with the vault; says whether other gateways are served now.

        Args:
            vault: The server's name for what is in it; None if it has none.
        """
        is_behind = vault is not None and vault != self.managed.known
        if not is_behind and not (self.unusable and monotonic() - self._tried_at > _TRY_AGAIN_SECONDS):
            return False
        before = self.gateways
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                if is_behind:
                    await self._read()
                await self._describe()
        except (*_TROUBLE, TaskFailedError, RunnerCrashedError, ZygoteFailedError, TimeoutError) as error:
            # The vault is asked again at the next heartbeat; what is served meanwhile are the gateways it still has.
            self.managed.known = ""
            self.gateways = [found for found in before if found.revision in (None, self._revision(found.name))]
            _log.warning("connections_not_followed", reason=_reason(error))
        if self.gateways == before:
            return False
        _log.info("gateways_changed", gateways=[gateway.name for gateway in self.gateways])
        return True

    def add_to(self, heartbeat: ExecutorHeartbeat) -> ExecutorHeartbeat:
        """The executor's report with the gateways that it serves."""
        return heartbeat.model_copy(update={"gateways": self.gateways})

    def lines(self) -> Iterator[str]:
        """What there is to say of each gateway, for a person."""
        for gateway in self.gateways:
            yield f"gateway {gateway.name} ({gateway.type}): ok{'' if gateway.revision is None else ', of the vault'}"
        for name, reason in self.unusable.items():
            yield f"gateway {name}: not reached, {reason}"
        if not self.gateways and not self.unusable:
            yield f"gateways: {_NONE}"

    @property
    def types(self) -> set[str]:
        """The types of all connections, also of those that cannot be used now."""
        return {gateway.type for gateway in self.gateways} | self.managed.types

    @property
    def concurrent_tasks(self) -> int:
        """How many tasks at a time the default gateway takes."""
        return next((gateway.concurrent_tasks for gateway in self.gateways if gateway.is_default), _CONCURRENT_TASKS)

    async def _read(self) -> None:
        vault = await self._api.connections()
        if self.managed.replace(map(envelope_of, vault.connections), vault.known):
            self._pools.replace_outdated()

    async def _describe(self) -> None:
        self._tried_at = monotonic()
        async with self._pools.runner(Role.PLAN) as runner:
            described = await runner.call("describe_gateways", {}, _no_state)
        self.notifies_of = frozenset(OwnerKind(kind) for kind in described["notifies_of"])
        self.gateways = [
            Gateway.model_validate({**gateway, "revision": self._revision(gateway["name"])})
            for gateway in described["gateways"]
        ]
        unusable: dict[str, str] = described["unusable"]
        for name, reason in unusable.items():
            if self.unusable.get(name) != reason:
                _log.warning("gateway_not_usable", gateway=name, reason=reason)
        self.unusable = unusable

    def _revision(self, gateway: str) -> str | None:
        return self.managed.revisions.get(gateway)


_NONE = (
    "none yet; add a connection with `tcloud connections add`, or set SQLMESH__GATEWAYS__<NAME>__CONNECTION__TYPE and "
    "its fellows"
)


def _reason(error: Exception) -> str:
    # What an answer was that could not be read, a data key it may be, is quoted by such an error.
    is_quoting = isinstance(error, ValueError)
    return type(error).__name__ if is_quoting else str(error) or type(error).__name__


async def _no_state(method: str, _: bytes) -> bytes:
    raise StateCallError(f"'{method}' is not for this task.", "SQLMeshError", retryable=False)
