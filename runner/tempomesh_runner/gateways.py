"""The warehouses of an executor: connections from `SQLMESH__GATEWAYS__…` variables, and those of the vault."""

import fcntl
import logging
import re
import time
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from sqlmesh.core.config import DuckDBConnectionConfig
from sqlmesh.core.config.connection import ConnectionConfig
from sqlmesh.core.config.scheduler import BuiltInSchedulerConfig
from sqlmesh.core.engine_adapter.base import EngineAdapter
from sqlmesh.core.snapshot import SnapshotEvaluator
from sqlmesh.utils import CorrelationId
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from tempomesh_runner.cancellation import QueryCancellation
from tempomesh_runner.configuration import config_from_environment
from tempomesh_runner.connections import parse_connection

__all__ = ["Gateways", "WarehouseUnreachableError"]

_FOREIGN_LOCK_SECONDS = 30.0
_FOREIGN_LOCK_POLL_SECONDS = 0.5
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9]+:", re.IGNORECASE)
"""A database that is not a file of this machine: `md:`, `s3://` and the like."""
_LOCK_HOLDER = re.compile(r"Conflicting lock is held in (.*?)(?:\. |$)")


class WarehouseUnreachableError(SQLMeshError):
    """A warehouse does not answer."""


class Gateways:
    """The gateways that this process can reach; nothing is opened before it is needed.

    Args:
        own: Connections that this process was started with, by gateway.
        managed: Connections of the project's vault, by gateway; of two for one gateway the process's own is taken.
        default: The gateway that is meant where none is named; the first one if it is not among them.
    """

    def __init__(
        self,
        own: Mapping[str, ConnectionConfig],
        managed: Mapping[str, dict[str, t.Any]] | None = None,
        default: str = "",
    ) -> None:
        self._connections = dict(own)
        self._unusable: dict[str, str] = {}
        self._managed = {name for name in managed or {} if name not in own}
        for name in sorted(self._managed):
            try:
                self._connections[name] = parse_connection((managed or {})[name])
            except ConfigError as error:
                # The others do not suffer from it.
                self._unusable[name] = str(error)
        self.default = default if default in self._connections else next(iter(self._connections), "")
        self._evaluators: dict[str, SnapshotEvaluator] = {}
        self.cancellation = QueryCancellation()
        """Of the queries of all gateways."""

    @classmethod
    def of_process(cls, managed: Mapping[str, dict[str, t.Any]]) -> t.Self:
        """Those that the variables of this process name, and those of the project's vault.

        Raises:
            ConfigError: If the variables describe an incomplete connection.
        """
        config = config_from_environment()
        own = {name.lower(): gateway.connection for name, gateway in config.gateways.items() if gateway.connection}
        return cls(own, managed, (config.default_gateway or "").lower())

    @property
    def names(self) -> t.Collection[str]:
        """The gateways that there are connections for, in lower case."""
        return self._connections.keys()

    def describe(self) -> dict[str, t.Any]:
        """What planners have to know of each gateway; asks each warehouse for its catalog.

        Returns:
            `gateways`, and of the vault's those that cannot be used now, each with the reason, as `unusable`.

        Raises:
            WarehouseUnreachableError: If a warehouse of the process's own does not answer; the gateway is named.
        """
        unusable = dict(self._unusable)
        answering = {}
        for name, adapter in self._adapters.items():
            try:
                adapter.ping()
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                reason = f"gateway '{name}' ({self._connections[name].type_}): {reason}"
                if name not in self._managed:
                    raise WarehouseUnreachableError(reason) from error
                unusable[name] = reason
            else:
                answering[name] = adapter
        catalogs = _default_catalogs(answering)
        gateways = [
            {
                "name": name,
                "type": connection.type_,
                "dialect": connection.DIALECT,
                "default_catalog": catalogs.get(name),
                "concurrent_tasks": connection.concurrent_tasks,
                "is_default": name == self.default,
            }
            for name, connection in self._connections.items()
            if name in answering
        ]
        return {"gateways": gateways, "unusable": unusable}

    def selected(self, gateway: str | None) -> str:
        """The gateway that is meant: the default one if none is named.

        Raises:
            ConfigError: If this executor has no connection for it.
        """
        name = (gateway or self.default).lower()
        if name in self._connections:
            return name
        if reason := self._unusable.get(name):
            raise ConfigError(f"The connection of gateway '{name}' cannot be used on this executor: {reason}")
        known = ", ".join(self._connections) or "none"
        raise ConfigError(f"This executor has no connection for gateway '{name}'; it has {known}.")

    def for_model(self, planned_with: str, own: str | None) -> str:
        """The gateway that is selected while a model is evaluated, which is never the default one.

        Args:
            planned_with: The gateway of the plan or run.
            own: The gateway that the model names.

        Raises:
            ConfigError: If this process can reach neither.
        """
        # Only the model's own is needed: who evaluates it need not have a connection for any other. A model that
        # names none is at the plan's, whose connection may have been deleted meanwhile.
        return self.selected(planned_with if planned_with.lower() in self.names else own or planned_with)

    def default_catalog(self, gateway: str) -> str | None:
        """The catalog that names without one belong to."""
        return self._catalogs.get(gateway)

    def evaluator(self, gateway: str, correlation_id: CorrelationId) -> SnapshotEvaluator:
        """A snapshot evaluator whose queries carry a plan's or run's id; it shares the process's connections."""
        if gateway not in self._evaluators:
            if any(adapter.supports_virtual_catalog() for adapter in self._adapters.values()):
                # It is while catalogs are asked for that SQLMesh gives such an engine a catalog's name.
                self.default_catalog(gateway)
            self._evaluators[gateway] = _Evaluator(
                {
                    name: adapter.with_settings(execute_log_level=logging.INFO)
                    for name, adapter in self._adapters.items()
                },
                ddl_concurrent_tasks=self._connections[gateway].concurrent_tasks,
                selected_gateway=gateway,
            )
        return self._evaluators[gateway].set_correlation_id(correlation_id)

    @contextmanager
    def turn(self, say: t.Callable[[str], None]) -> Iterator[None]:
        """Waits for this process's turn at warehouses that only one process can open, which is DuckDB's way.

        Args:
            say: Is told of a process that does not take turns and has to be waited for.

        Raises:
            ConfigError: If a file stays locked by a process that does not take turns; it is named.
        """
        files = sorted({Path(path) for path in self._duckdb_files()})
        if not files:
            yield
            return
        locks = [path.with_name(path.name + ".tempomesh.lock").open("w") for path in files]
        try:
            for lock in locks:
                fcntl.flock(lock, fcntl.LOCK_EX)
            for path in files:
                _wait_for_strangers(path, say)
            yield
        finally:
            for adapter in self._adapters.values():
                adapter.close()
            for lock in locks:
                lock.close()

    def _duckdb_files(self) -> Iterator[str]:
        for connection in self._connections.values():
            if isinstance(connection, DuckDBConnectionConfig):
                catalogs = [c for c in (connection.catalogs or {}).values() if isinstance(c, str) or c.type == "duckdb"]
                for path in [connection.database, *(c if isinstance(c, str) else c.path for c in catalogs)]:
                    if path and path != ":memory:" and not _ELSEWHERE.match(path):
                        yield path

    @cached_property
    def _adapters(self) -> dict[str, EngineAdapter]:
        # Whichever gateway is selected, its threads may use any of the adapters.
        concurrent_tasks = max((connection.concurrent_tasks for connection in self._connections.values()), default=1)
        adapters = {
            name: connection.create_engine_adapter(concurrent_tasks=concurrent_tasks)
            for name, connection in self._connections.items()
        }
        for adapter in adapters.values():
            self.cancellation.watch(adapter)
        return adapters

    @cached_property
    def _catalogs(self) -> dict[str, str]:
        return _default_catalogs(self._adapters)


def _default_catalogs(adapters: dict[str, EngineAdapter]) -> dict[str, str]:
    class Adapters:
        engine_adapters = adapters

    return BuiltInSchedulerConfig().get_default_catalog_per_gateway(t.cast(t.Any, Adapters()))


class _Evaluator(SnapshotEvaluator):
    """An evaluator that may be asked for the adapter of a gateway that others have a connection for.

    SQLMesh's scheduler has one in hand for each model, and uses it where a signal of the model does.
    """

    def get_adapter(self, gateway: str | None = None) -> EngineAdapter:
        if gateway and gateway not in self.adapters:
            return t.cast(EngineAdapter, _Elsewhere(gateway, self.adapter.dialect))
        return super().get_adapter(gateway)

    def set_correlation_id(self, correlation_id: CorrelationId) -> SnapshotEvaluator:
        # SQLMesh's own makes an evaluator of its own class.
        adapters = {
            name: adapter.with_settings(correlation_id=correlation_id) for name, adapter in self.adapters.items()
        }
        return _Evaluator(adapters, self.ddl_concurrent_tasks, self.selected_gateway)


class _Elsewhere:
    """Stands for the adapter of a gateway that there is no connection for here."""

    def __init__(self, gateway: str, dialect: str):
        self._gateway = gateway
        self.dialect = dialect

    def __getattr__(self, name: str) -> t.Any:
        raise SQLMeshError(f"This executor has no connection for gateway '{self._gateway}'.")


def _wait_for_strangers(path: Path, say: t.Callable[[str], None]) -> None:
    import duckdb

    deadline = time.monotonic() + _FOREIGN_LOCK_SECONDS
    is_said = False
    while True:
        try:
            duckdb.connect(str(path)).close()
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise
            found = _LOCK_HOLDER.search(str(error))
            locked = f"{path} is locked by {found.group(1) if found else 'another process'}"
            if time.monotonic() > deadline:
                raise ConfigError(f"{locked}: close it there, then try again.") from None
            if not is_said:
                say(f"Waiting: {locked}.")
                is_said = True
            time.sleep(_FOREIGN_LOCK_POLL_SECONDS)
        else:
            return
